"""The longest time without an ack while retention drops 30 days of partitions."""

from __future__ import annotations

import asyncio
import time
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from typing import Any, Final

from grpc import aio

from fernando.telemetry import v1
from fernando_telemetry.bench.failure import BenchFailed
from fernando_telemetry.bench.figures import Figures, Report
from fernando_telemetry.bench.ingest_rollups import GROUPS
from fernando_telemetry.bench.load import Load, LoadSlice, generating, median_rate
from fernando_telemetry.bench.load_generator import LoadPlan
from fernando_telemetry.bench.preload import PATTERN, PATTERN_ROWS
from fernando_telemetry.bench.sealed_partitions import wait_until_sealed
from fernando_telemetry.bench.stand import IngestOptions, Stand, standing
from fernando_telemetry.bench.tables import columns_of, insert_copies, keep_pattern, vacuum

DAYS: Final = 30
# The days that go end before the term that is set, and begin within the one of the settings.
KEPT_DAYS: Final = 30
OLDEST_DAYS: Final = KEPT_DAYS + DAYS + 1
DAY_MICROS: Final = 86_400_000_000
MOST_ROWS: Final = 6_000_000
GRACE_SECONDS: Final = 2
WARM_UP_SECONDS: Final = 1.0
CALL_SECONDS: Final = 600.0
# Of a slice of load, before the clean-up is asked for.
SHARE_BEFORE: Final = 0.2


async def measure_retention(options: IngestOptions, report: Report) -> Figures:
    """Measure acks without and then with a clean-up beside them.

    Raises:
        BenchFailed: Something was not stored as acknowledged, or not dropped.
    """
    if options.kind != "events":
        raise BenchFailed("Days of events are dropped: leave --records at its default.")
    rows = min(options.preload_rows, MOST_ROWS) // DAYS
    async with (
        standing(
            options,
            report,
            retention_interval_seconds=0,
            seal_grace_seconds=GRACE_SECONDS,
            # One call has the partitions of all days made, which nobody shall give up.
            unary_wait_seconds=CALL_SECONDS,
        ) as stand,
        aio.insecure_channel(stand.server.address) as channel,
        generating(_plan(stand)) as load,
    ):
        await load.run(min(WARM_UP_SECONDS, options.seconds))
        await _fill_days(stand, channel, rows, report)
        await stand.settle()
        bare = await load.run(options.seconds)
        report(f"no ack for {bare.longest_gap_ms:.0f} ms at most, without drops")
        await stand.settle()
        result, took, beside = await _clean_up_beside(load, channel, options.seconds)
        if result.partitions != DAYS:
            raise BenchFailed(f"{result.partitions} partitions were dropped, not {DAYS}.")
        stall = max(part.longest_gap_ms for part in beside)
        report(f"no ack for {stall:.0f} ms at most, while {DAYS} days went in {took:.1f} s")
        return {
            "figure": "retention",
            "records": options.kind,
            "seconds": options.seconds,
            "dropped_partitions": result.partitions,
            "dropped_rows": rows * DAYS,
            "dropped_bytes": result.partition_bytes,
            "clean_up_seconds": round(took, 2),
            "longest_stall_ms": round(stall, 1),
            "longest_stall_without_ms": round(bare.longest_gap_ms, 1),
            "rows_per_second": round(median_rate(beside)),
            "rows_per_second_without": round(bare.rate),
            "rows_acknowledged": load.acknowledged,
            "rows_stored": await stand.require_rows(load.acknowledged),
            **stand.surroundings(),
        }


def _plan(stand: Stand) -> LoadPlan:
    """Plan events of few groups: of roll-ups, each a group of its own would be the bottleneck."""
    plan = stand.plan("bench", stand.options.streams, stand.options.batch_records)
    return replace(plan, groups=GROUPS)


async def _fill_days(stand: Stand, channel: aio.Channel, rows: int, report: Report) -> None:
    """Have partitions of 30 days made, filled and sealed."""
    connection, table = stand.connection, stand.table
    today = datetime.now(UTC).replace(hour=0, minute=0, second=0, microsecond=0)
    days = [today - timedelta(days=OLDEST_DAYS - place) for place in range(DAYS)]
    columns = await columns_of(connection, table)
    found = await keep_pattern(connection, PATTERN, table, columns, PATTERN_ROWS)
    await _have_made(channel, days)
    # The row that made it is one of them.
    copies = insert_copies(table, columns, PATTERN, found, DAY_MICROS // rows)
    for day in days:
        await connection.execute(copies, day, 1, rows, timeout=CALL_SECONDS)
    await wait_until_sealed(stand.server.address, connection, table, today)
    await vacuum(connection, table)
    report(f"{DAYS} days of {rows:,} rows each are sealed")


async def _have_made(channel: aio.Channel, days: list[datetime]) -> None:
    records = v1.TelemetryRecords()
    for day in days:
        event = records.events.add(event_name="bench_day")
        event.event_type = v1.EventType.EVENT_TYPE_SYSTEM_EVENT
        event.event_timestamp.FromDatetime(day)
    stub: Any = v1.IngestServiceStub(channel)
    request = v1.IngestTelemetryRequest(records=records)
    answer = await stub.IngestTelemetry(request, timeout=CALL_SECONDS)
    if answer.result.accepted_count != len(days):
        raise BenchFailed(f"Days were not stored: {answer}")


async def _clean_up_beside(
    load: Load, channel: aio.Channel, seconds: float
) -> tuple[v1.CleanUpResult, float, list[LoadSlice]]:
    """Clean up beside the load; gives what went of events, its seconds and the slices of load."""

    async def clean_up() -> tuple[v1.CleanUpResult, float]:
        await asyncio.sleep(SHARE_BEFORE * seconds)
        stub: Any = v1.AdminServiceStub(channel)
        policy = v1.RetentionPolicy(kind=v1.RecordKind.RECORD_KIND_EVENT, days=KEPT_DAYS)
        await stub.SetRetentionPolicy(
            v1.SetRetentionPolicyRequest(policy=policy), timeout=CALL_SECONDS
        )
        begun = time.monotonic()
        answer = await stub.CleanUpTelemetry(v1.CleanUpTelemetryRequest(), timeout=CALL_SECONDS)
        events = next(one for one in answer.results if one.kind == v1.RecordKind.RECORD_KIND_EVENT)
        return events, time.monotonic() - begun

    cleaning = asyncio.create_task(clean_up(), name="clean-up")
    beside: list[LoadSlice] = []
    try:
        while not beside or not cleaning.done():
            beside.append(await load.run(seconds))
        result, took = await cleaning
    finally:
        cleaning.cancel()
        await asyncio.gather(cleaning, return_exceptions=True)
    return result, took, beside
