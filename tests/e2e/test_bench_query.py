"""`bench query` as a person runs it, as small as it gets: keys and counts, never speed."""

from __future__ import annotations

import json
import shutil
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest

from fernando_telemetry.bench.query_data import NOTE
from fernando_telemetry.bench.query_questions import QUESTIONS
from tests.e2e.benchmarks import run_bench

# Filling, sealing and asking are work for the processor.
pytestmark = pytest.mark.timeout(300)


async def test_every_question_is_asked_of_service_and_database(tmp_path: Path) -> None:
    out, err = await run_bench(tmp_path, "query", "--rows", "20000", "--repeats", "5", "--json")
    assert err == ""
    (line,) = out.splitlines()
    figures = json.loads(line)
    assert (figures["hot_rows"], figures["sealed_day_rows"]) == (2_000, 5_000)
    for question in QUESTIONS:
        found = figures[question.key]
        assert found["asked"] == 5
        assert found["sql_p95_ms"] >= found["sql_p50_ms"] > 0
        assert found["p95_ms"] >= found["p50_ms"] > 0
        assert found["behind_sql_p95_ms"] >= found["behind_sql_p50_ms"] > 0
    export = figures["parquet_export_over_copy"]
    assert export["rows"] == 5_000
    assert export["ratio"] == pytest.approx(
        export["rows_per_second"] / export["copy_rows_per_second"], abs=0.001
    )
    assert export["is_met"] is (export["ratio"] >= 0.4)
    assert export["parquet_bytes"] > 5_000
    rows = {question.key: figures[question.key]["rows"] for question in QUESTIONS}
    assert rows.pop("trace_hot") > 1
    assert rows.pop("trace_sealed") > 1
    # Five samples of a series in 22 hours.
    assert rows.pop("one_series_6h_1m") > 0
    # Of 23 hours or so, several types each.
    assert rows.pop("summary_24h") > 23
    # Twenty services, of which some call each other.
    assert rows.pop("service_graph_24h") > 20
    assert figures["service_graph_24h"]["worked_out_seconds"] > 0
    assert figures["summary_24h"]["ratio_to_a_tenth"] == pytest.approx(
        figures["summary_24h"]["p50_ms"] / figures["summary_24h"]["p50_ms_of_a_tenth"], abs=0.001
    )
    assert rows == {
        "user_common": 100,
        "user_rare": 1,
        "user_unknown": 0,
        "license_common": 100,
        "license_rare": 1,
        "license_unknown": 0,
        "payload_common": 100,
        "payload_rare": 3,
    }


async def test_databases_that_are_kept_are_asked_again_on_that_day_alone(tmp_path: Path) -> None:
    temporary, kept = tmp_path / "temporary", tmp_path / "kept"
    temporary.mkdir()
    one = ("query", "--rows", "20000", "--repeats", "1", "--json", "--keep", str(kept))
    begun = datetime.now(UTC)
    first, _ = await run_bench(temporary, *one, "--question", "user_rare")
    if datetime.now(UTC).date() > begun.date():
        # A day has begun meanwhile, on which what was filled before it is not asked any more.
        shutil.rmtree(kept)
        begun = datetime.now(UTC)
        first, _ = await run_bench(temporary, *one, "--question", "user_rare")
    both = ("--question", "user_rare", "--question", "summary_24h")
    again, _ = await run_bench(temporary, *one, *both)
    found, asked = json.loads(first), json.loads(again)
    assert "summary_24h" not in found
    assert "license_rare" not in asked
    assert asked["fill_seconds"] == found["fill_seconds"]
    assert asked["user_rare"]["rows"] == 1
    assert asked["summary_24h"]["p50_ms_of_a_tenth"] > 0

    note = kept / "whole" / NOTE
    filled = json.loads(note.read_text())
    assert datetime.fromisoformat(filled["filled_at"]) >= begun
    _, err = await run_bench(temporary, *one, "--rows", "30000", "--question", "user_rare", code=1)
    assert "has 20,000 rows" in err
    yesterday = begun - timedelta(days=1)
    note.write_text(json.dumps(filled | {"filled_at": yesterday.isoformat()}))
    _, err = await run_bench(temporary, *one, "--question", "user_rare", code=1)
    assert f"was filled on {yesterday:%Y-%m-%d}" in err
    note.unlink()
    _, err = await run_bench(temporary, *one, "--question", "user_rare", code=1)
    assert "was not filled to its end" in err
