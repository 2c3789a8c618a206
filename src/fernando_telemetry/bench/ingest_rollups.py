"""What roll-ups cost the ingest rate: servers with and without, in turns; and how the fold lags."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncIterator
from dataclasses import dataclass, replace
from datetime import UTC, datetime, timedelta
from typing import Any, Final

from grpc import aio

from fernando.telemetry import v1
from fernando_telemetry.bench.cpu import cpu_seconds
from fernando_telemetry.bench.failure import BenchFailed
from fernando_telemetry.bench.figures import Figures, Report, median, quotient
from fernando_telemetry.bench.load import Load, LoadSlice, generating, median_rate
from fernando_telemetry.bench.records import GROUPED_KINDS
from fernando_telemetry.bench.server import Connection
from fernando_telemetry.bench.stand import IngestOptions, Stand, standing
from fernando_telemetry.bench.tables import oldest_flush
from fernando_telemetry.storage.rollups import ROLLUPS

# A batch of a megabyte has some 3,400 events: more than 20 of each group.
GROUPS: Final = 150
WARM_UP_SECONDS: Final = 1.0
LOOK_SECONDS: Final = 0.25
CALL_SECONDS: Final = 60.0


async def measure_rollups(options: IngestOptions, report: Report) -> Figures:
    """Measure the rate with roll-ups and without, in turns, each on a server of its own.

    Raises:
        BenchFailed: Something was not stored as acknowledged, or a summary lags.
    """
    async with (
        standing(options, report, rollups="on") as with_them,
        standing(options, report, rollups="off") as without,
        _loading(with_them) as load,
        _loading(without) as other,
        _watching_lag(with_them) as watch,
    ):
        rates: list[LoadSlice] = []
        bare: list[LoadSlice] = []
        # From end to end, as the fold works on between a server's turns.
        cpu_before = cpu_seconds(with_them.server.pid, but=watch.pid)
        bare_cpu_before = cpu_seconds(without.server.pid)
        for _ in range(options.rounds):
            await without.settle()
            bare.append(await other.run(options.slice_seconds))
            await with_them.settle()
            rates.append(await load.run(options.slice_seconds))
            report(f"without {bare[-1].rate:,.0f}, with {rates[-1].rate:,.0f} rows/s")
        cpu = cpu_seconds(with_them.server.pid, but=watch.pid) - cpu_before
        bare_cpu = cpu_seconds(without.server.pid) - bare_cpu_before
        micros = cpu / sum(one.records for one in rates) * 1e6
        bare_micros = bare_cpu / sum(one.records for one in bare) * 1e6
        summarised = await _summarised(with_them)
        if summarised is not None and summarised != load.acknowledged:
            raise BenchFailed(
                f"{load.acknowledged} events were acknowledged, the summary tells {summarised}."
            )
        ratios = [quotient(one.rate, two.rate) for one, two in zip(rates, bare, strict=True)]
        stored = await with_them.require_rows(load.acknowledged)
        return {
            "figure": "rollups",
            "records": options.kind,
            "groups": GROUPS if options.kind in GROUPED_KINDS else None,
            "seconds": options.seconds,
            "rows_per_second": round(median_rate(rates)),
            "rows_per_second_without": round(median_rate(bare)),
            # Of neighbours: what the machine does in the course of a run meets both alike.
            "ratio": round(median(ratios), 3),
            "ratios": ratios,
            # Of the server and its PostgreSQL: other work on the machine counts for less here.
            "cpu_micros_per_row": round(micros, 2),
            "cpu_micros_per_row_without": round(bare_micros, 2),
            "cpu_ratio": quotient(bare_micros, micros),
            "fold_lag_seconds": round(max(watch.lags, default=0.0), 2),
            "fold_lag_median_seconds": round(median(watch.lags), 2),
            "summary_lag_records": None if summarised is None else 0,
            "rows_acknowledged": load.acknowledged,
            "rows_stored": stored,
            **with_them.surroundings(),
        }


@contextlib.asynccontextmanager
async def _loading(stand: Stand) -> AsyncIterator[Load]:
    plan = stand.plan("bench", stand.options.streams, stand.options.batch_records)
    if stand.options.kind in GROUPED_KINDS:
        plan = replace(plan, groups=GROUPS)
    async with generating(plan) as load:
        await load.run(WARM_UP_SECONDS)
        yield load


@dataclass(frozen=True, slots=True)
class _LagWatch:
    """Looks how old the oldest delta is that is not folded.

    Attributes:
        pid: Of the backend of its session.
        lags: What it found, in seconds.
    """

    pid: int
    lags: list[float]


@contextlib.asynccontextmanager
async def _watching_lag(stand: Stand) -> AsyncIterator[_LagWatch]:
    connection = await stand.server.connect()
    watch = _LagWatch(connection.get_server_pid(), [])
    task = asyncio.create_task(_look(connection, watch.lags), name="fold-lag")
    try:
        yield watch
    finally:
        task.cancel()
        await asyncio.gather(task, return_exceptions=True)
        connection.terminate()


async def _look(connection: Connection, lags: list[float]) -> None:
    while True:
        lags.append(
            max(
                [await oldest_flush(connection, rollup.deltas.name) for rollup in ROLLUPS],
                default=0.0,
            )
        )
        await asyncio.sleep(LOOK_SECONDS)


async def _summarised(stand: Stand) -> int | None:
    """Give what the summary counts right behind the last ack; None: no summary of the kind."""
    if stand.options.kind != "events":
        return None
    now = datetime.now(UTC)
    request = v1.SummarizeEventsRequest()
    request.time_range.start_time.FromDatetime(now - timedelta(days=2))
    request.time_range.end_time.FromDatetime(now + timedelta(days=1))
    async with aio.insecure_channel(stand.server.address) as channel:
        stub: Any = v1.EventServiceStub(channel)
        answer = await stub.SummarizeEvents(request, timeout=CALL_SECONDS)
    return sum(int(one.event_count) for one in answer.summaries)
