"""docs/reference/errors.md names every verdict, refusal and error, and tests that exist."""

from __future__ import annotations

import re

import pytest

from fernando.telemetry.v1 import BatchRefusalReason, ErrorReason, VerdictReason
from tests.contract.repository import ROOT

PAGE = (ROOT / "docs" / "reference" / "errors.md").read_text()
ROWS = dict(re.findall(r"^\| `([A-Z_0-9]+)` \| (.+) \|$", PAGE, re.MULTILINE))
TESTS = {
    name
    for path in (ROOT / "tests").rglob("test_*.py")
    for name in re.findall(r"^(?:async )?def (test_\w+)\(", path.read_text(), re.MULTILINE)
}


@pytest.mark.parametrize("enum", [VerdictReason, BatchRefusalReason, ErrorReason])
def test_the_table_names_every_value(enum: type) -> None:
    names = [name for name in enum.keys() if not name.endswith("_UNSPECIFIED")]  # type: ignore[attr-defined]  # noqa: SIM118
    assert [name for name in names if name not in ROWS] == []


@pytest.mark.parametrize(("value", "cell"), ROWS.items(), ids=lambda item: item[:45])
def test_what_is_sent_has_a_test_named_after_it(value: str, cell: str) -> None:
    if cell.startswith("not yet; "):
        return
    word = re.sub("^(VERDICT_REASON|BATCH_REFUSAL_REASON|ERROR_REASON)_", "", value).lower()
    (name,) = re.findall(r"`(\w+)`", cell)
    assert name in TESTS
    assert name.endswith(f"_{word}")
