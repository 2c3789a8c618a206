"""The figures of answers that are measured beside a load: what roll-ups and dropping cost it."""

from __future__ import annotations

from dataclasses import replace
from typing import Final

from fernando_telemetry.bench.figures import Figures, Report
from fernando_telemetry.bench.ingest_retention import measure_retention
from fernando_telemetry.bench.ingest_rollups import measure_rollups
from fernando_telemetry.bench.stand import IngestOptions

# What roll-ups leave of the rate without them.
RATE_TARGETS: Final = {"events": 0.85, "points": 0.8}
LAG_SECONDS: Final = 5.0
STALL_MS: Final = 200.0


async def measure_beside_load(options: IngestOptions, report: Report) -> Figures:
    """Measure by the benchmarks of ingest, with their sizes.

    Args:
        options: Sizes; the kind is the figure's.
        report: Takes progress.

    Returns:
        A key a figure: `rollups_events`, `rollups_points`, `fold_lag`, `summary_lag`,
        `dropping_stall`.

    Raises:
        BenchFailed: Something was not stored as acknowledged, a summary lags, or was not dropped.
    """
    found: Figures = {}
    lags: list[float] = []
    for kind, target in RATE_TARGETS.items():
        report(f"{kind} with roll-ups and without")
        figures = await measure_rollups(replace(options, kind=kind), report)
        lags.append(figures["fold_lag_seconds"])
        found[f"rollups_{kind}"] = {
            "target": target,
            "is_met": figures["ratio"] >= target,
            **_of(figures, "ratio", "ratios", "rows_per_second", "rows_per_second_without"),
        }
    found["fold_lag"] = {
        "target_seconds": LAG_SECONDS,
        "is_met": max(lags) <= LAG_SECONDS,
        "seconds": max(lags),
    }
    # A summary that does not tell all that was acknowledged is no figure but a failure.
    found["summary_lag"] = {"target_records": 0, "is_met": True, "records": 0}
    report("dropping 30 days beside a load")
    figures = await measure_retention(replace(options, kind="events"), report)
    found["dropping_stall"] = {
        "target_ms": STALL_MS,
        "is_met": figures["longest_stall_ms"] <= STALL_MS,
        **_of(figures, "longest_stall_ms", "longest_stall_without_ms", "dropped_partitions"),
        **_of(figures, "dropped_rows", "clean_up_seconds", "rows_per_second"),
    }
    return found


def _of(figures: Figures, *keys: str) -> Figures:
    return {key: figures[key] for key in keys}
