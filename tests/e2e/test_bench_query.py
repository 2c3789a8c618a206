"""`bench query` as a person runs it, as small as it gets: keys and counts, never speed."""

from __future__ import annotations

import json
from pathlib import Path

from fernando_telemetry.bench.query_questions import QUESTIONS
from tests.e2e.benchmarks import run_bench


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
    rows = {question.key: figures[question.key]["rows"] for question in QUESTIONS}
    assert rows.pop("trace_hot") > 1
    assert rows.pop("trace_sealed") > 1
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
