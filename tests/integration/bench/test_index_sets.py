"""The benchmark of index sets runs, on few rows."""

from __future__ import annotations

from pathlib import Path

import pytest

from fernando_telemetry.bench.index_sets import KINDS, measure
from tests.conftest import share


@pytest.mark.load
async def test_every_kind_is_measured(request: pytest.FixtureRequest, tmp_path: Path) -> None:
    names = list(KINDS)[: share(request, "load", 1, len(KINDS))]
    result = await measure(names, 20_000, tmp_path / "data")
    for name in names:
        kind = KINDS[name]
        found = result[name]
        assert set(found["copy"]) == {"none", "lean", "full"}
        assert [one["index"] for one in found["candidates"]] == [
            candidate.label for candidate in kind.candidates
        ]
        asked = [one["query"] for one in found["sets"] if "query" in one]
        assert asked == 2 * [lookup.statement for lookup in kind.lookups]
        assert found["beside_summarising"]["ratio"] > 0
    events = result["events"]["sets"]
    sizes = {one["set"]: one["bytes_a_row"] for one in events if "bytes_a_row" in one}
    assert sizes["lean"] < sizes["full"]
