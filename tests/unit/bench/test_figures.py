"""Percentiles, and the closing table."""

from __future__ import annotations

import pytest

from fernando_telemetry.bench import ingest_targets
from fernando_telemetry.bench.failure import BenchFailed
from fernando_telemetry.bench.figures import Figures, Report, percentile, quotient
from fernando_telemetry.bench.ingest_targets import RUNS, TARGETS, measure_all
from fernando_telemetry.bench.stand import IngestOptions


@pytest.mark.parametrize(
    ("percent", "expected"), [(50, 50), (99, 99), (100, 100), (0.5, 1), (98.5, 99)]
)
def test_percentile_is_the_least_value_that_so_many_do_not_exceed(
    percent: float, expected: int
) -> None:
    values = [float(value) for value in range(100, 0, -1)]
    assert percentile(values, percent) == expected


def test_percentile_of_nothing_and_of_one() -> None:
    assert percentile([], 99) == 0
    assert percentile([7.0], 50) == 7


def test_nothing_is_compared_with_nothing() -> None:
    assert quotient(1, 0) == 0
    assert quotient(1, 3) == 0.333


async def test_the_table_has_medians_and_names_what_failed(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    calls: list[tuple[str, int]] = []

    async def measured(options: IngestOptions, _report: Report) -> Figures:
        # Of three runs: 1, 3 and 2; one figure of each fails.
        value = float((1, 3, 2)[len(calls) // (len(RUNS) - 1)])
        calls.append((options.kind, options.streams))
        return {target.key: value for target in TARGETS}

    async def fails(_options: IngestOptions, _report: Report) -> Figures:
        raise BenchFailed("no sealing")

    measures = dict.fromkeys(ingest_targets.MEASURES, measured) | {"sustained": fails}
    monkeypatch.setattr(ingest_targets, "MEASURES", measures)
    lines: list[str] = []
    figures = await measure_all(IngestOptions(), 3, lines.append)
    assert figures["failures"] == ["sustained: no sealing"] * 3
    rows = {(row["run"], row["key"]): row for row in figures["targets"]}
    assert len(rows) == len(TARGETS)
    assert rows["points", "ratio"]["values"] == [1, 3, 2]
    assert rows["points", "ratio"]["median"] == 2
    assert rows["points", "ratio"]["met"]
    assert not rows["sustained", "ratio"]["met"]
    assert rows["sustained", "ratio"]["median"] is None
    assert ("events", 50) in calls
    # All figures once, then all again.
    assert calls[: len(RUNS) - 1] == calls[len(RUNS) - 1 : 2 * (len(RUNS) - 1)]


def test_bounds_count_as_met() -> None:
    (least,) = (row for row in TARGETS if row.run == "events")
    assert least.is_met(1.0)
    assert not least.is_met(0.999)
    (most,) = (row for row in TARGETS if row.key == "server_rss_mb")
    assert most.is_met(400)
    assert not most.is_met(400.1)
