"""All ingest figures, several times over, against their targets: the closing table."""

from __future__ import annotations

from collections.abc import Callable, Coroutine
from dataclasses import dataclass, replace
from typing import Any, Final, Literal

from fernando_telemetry.bench.failure import BenchFailed
from fernando_telemetry.bench.figures import Figures, Report, as_line, load_average, median
from fernando_telemetry.bench.ingest_latency import measure_latency
from fernando_telemetry.bench.ingest_memory import measure_memory
from fernando_telemetry.bench.ingest_partition_size import measure_partition_size
from fernando_telemetry.bench.ingest_rate import measure_rate
from fernando_telemetry.bench.ingest_retention import measure_retention
from fernando_telemetry.bench.ingest_rollups import measure_rollups
from fernando_telemetry.bench.ingest_sustained import measure_sustained
from fernando_telemetry.bench.ingest_tail import measure_tail
from fernando_telemetry.bench.stand import IngestOptions

Measure = Callable[[IngestOptions, Report], Coroutine[Any, Any, Figures]]

MEASURES: Final[dict[str, Measure]] = {
    "rate": measure_rate,
    "latency": measure_latency,
    "memory": measure_memory,
    "partition-size": measure_partition_size,
    "sustained": measure_sustained,
    "rollups": measure_rollups,
    "retention": measure_retention,
    "tail": measure_tail,
}
MANY_STREAMS: Final = 50
SMALL_BATCH_RECORDS: Final = 1_000


@dataclass(frozen=True, slots=True)
class Target:
    """A row of the table.

    Attributes:
        run: Name of the run whose figure it is (`RUNS`).
        key: The figure.
        sense: Which side of the bound is good.
        bound: The target.
        meaning: In words.
    """

    run: str
    key: str
    sense: Literal[">=", "<="]
    bound: float
    meaning: str

    def is_met(self, value: float) -> bool:
        """Tell whether a value is on the good side."""
        return value >= self.bound if self.sense == ">=" else value <= self.bound


# Name of a run: what is measured, and what differs from the options given.
RUNS: Final[dict[str, tuple[str, dict[str, object]]]] = {
    "events": ("rate", {"kind": "events"}),
    "points": ("rate", {"kind": "points"}),
    "samples": ("rate", {"kind": "samples"}),
    "spans": ("rate", {"kind": "spans"}),
    "streams": (
        "rate",
        {"kind": "events", "streams": MANY_STREAMS, "batch_records": SMALL_BATCH_RECORDS},
    ),
    "latency": ("latency", {"kind": "events"}),
    "memory": ("memory", {"kind": "events"}),
    "partition size": ("partition-size", {"kind": "events"}),
    "sustained": ("sustained", {"kind": "events"}),
    "rolled up events": ("rollups", {"kind": "events"}),
    "rolled up points": ("rollups", {"kind": "points"}),
    "retention": ("retention", {"kind": "events"}),
    "tail": ("tail", {"kind": "events"}),
}

TARGETS: Final = (
    Target("events", "ratio", ">=", 1.0, "events ÷ raw COPY"),
    Target("points", "ratio", ">=", 0.5, "samples in columns ÷ raw COPY"),
    Target("samples", "ratio", ">=", 0.2, "samples, a message each ÷ raw COPY"),
    Target("spans", "ratio", ">=", 0.7, "spans ÷ raw COPY"),
    Target("streams", "ratio_to_one_stream", ">=", 0.9, "50 streams of 1,000 records ÷ one stream"),
    Target("latency", "ratio_p50", "<=", 5, "call of 100 events ÷ bare transaction, p50"),
    Target("latency", "ratio_p99", "<=", 6, "call of 100 events ÷ bare transaction, p99"),
    Target("latency", "ratio_loaded_p99", "<=", 10, "that call beside a full stream ÷ idle, p99"),
    Target("memory", "server_rss_mb", "<=", 400, "memory at full rate, MB"),
    Target("memory", "server_rss_stalled_mb", "<=", 400, "memory with 200 stalled clients, MB"),
    Target("partition size", "ratio", ">=", 0.9, "rate with 50 million rows ÷ with 1 million"),
    Target("sustained", "ratio", ">=", 0.5, "sustained with sealing ÷ raw COPY, hot"),
    Target(
        "sustained", "ratio_to_sealed_copy", ">=", 2, "the same ÷ COPY into the sealed index set"
    ),
    Target("rolled up events", "ratio", ">=", 0.85, "events with roll-ups ÷ without"),
    Target("rolled up points", "ratio", ">=", 0.8, "samples in columns with roll-ups ÷ without"),
    Target("rolled up events", "fold_lag_seconds", "<=", 5, "lag of the fold at full rate, s"),
    Target("retention", "longest_stall_ms", "<=", 200, "no ack while 30 days are dropped, ms"),
    Target("tail", "ratio", ">=", 0.95, "rate with a tail of all events ÷ without"),
    Target("tail", "filtered_ratio", ">=", 0.9, "rate with a tail of one event name ÷ without"),
    Target("tail", "full_p99_ms", "<=", 500, "from an ack to a tail at full rate, p99, ms"),
)


async def measure_all(options: IngestOptions, runs: int, report: Report) -> Figures:
    """Run everything several times; a figure that fails is noted, and the others go on.

    Args:
        options: Sizes; kind and streams are the table's.
        runs: How often. All figures once, then all again, so that a change of the machine does
            not meet one figure only.
        report: Takes progress, and the JSON line of each run.

    Returns:
        `targets`: a row each, with all values and their median; `failures`: sentences.
    """
    found: dict[str, list[Figures]] = {name: [] for name in RUNS}
    failures: list[str] = []
    averages: list[float] = []
    for number in range(1, runs + 1):
        for name, (measure, changes) in RUNS.items():
            report(f"run {number} of {runs}: {name}")
            try:
                figures = await MEASURES[measure](replace(options, **changes), report)  # type: ignore[arg-type]
            except BenchFailed as error:
                failures.append(f"{name}: {error}")
                report(failures[-1])
                continue
            report(as_line(figures))
            found[name].append(figures)
            averages.append(load_average())
    return {
        "figure": "all",
        "runs": runs,
        "targets": [_row(target, found[target.run]) for target in TARGETS],
        "failures": failures,
        "load_average": median(averages),
    }


def _row(target: Target, runs: list[Figures]) -> Figures:
    values = [figures[target.key] for figures in runs]
    middle = median(values)
    return {
        "meaning": target.meaning,
        "run": target.run,
        "key": target.key,
        "target": f"{target.sense} {target.bound:g}",
        "median": middle if values else None,
        "met": bool(values) and target.is_met(middle),
        "values": values,
    }
