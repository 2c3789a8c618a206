"""The sustained rate: over many short partitions, with all sealing done, on the wall clock.

Records carry no time, so the server's receive time counts and they walk through the partitions.
The clock stops when every partition that ended has its final indexes. It is compared with raw
COPY of the very same rows into a table with the indexes of a hot partition, and into one that has
those of a sealed partition from its first row on.
"""

from __future__ import annotations

import time
from datetime import UTC, datetime
from typing import Final

from fernando_telemetry.bench.failure import BenchFailed
from fernando_telemetry.bench.figures import Figures, Report, median, quotient
from fernando_telemetry.bench.load import LoadSlice, ack_latency_ms, generating
from fernando_telemetry.bench.memory import MemoryWatch
from fernando_telemetry.bench.raw_copy import (
    TRANSACTION_ROWS,
    Payload,
    RawCopy,
    read_payloads,
)
from fernando_telemetry.bench.sealed_partitions import (
    EndedPartitions,
    Partition,
    ended_partitions,
    wait_until_sealed,
)
from fernando_telemetry.bench.stand import IngestOptions, Stand, standing
from fernando_telemetry.bench.tables import columns_of, count_rows, make_like
from fernando_telemetry.domain.calendar import parse_length

# The pause before a partition is sealed counts in.
GRACE_SECONDS: Final = 2.0
# All rows of a partition, but never more memory than this.
MOST_ROWS: Final = 2_000_000
HOT_TABLE: Final = "bench_hot"
SEALED_TABLE: Final = "bench_sealed"


async def measure_sustained(options: IngestOptions, report: Report) -> Figures:
    """Measure load and sealing, then COPY.

    Raises:
        BenchFailed: The options do not fit, there is no sealing, or something was not stored.
    """
    seconds = _seconds(options)
    async with (
        standing(
            options,
            report,
            partition_length=options.partition_length,
            seal_grace_seconds=GRACE_SECONDS,
        ) as stand,
        MemoryWatch(stand.server.pid) as memory,
    ):
        plan = stand.plan("bench", options.streams, options.batch_records, timed=False)
        async with generating(plan) as load:
            part = await load.run(seconds)
        ended_by = datetime.now(UTC)
        lag_seconds = await wait_until_sealed(
            stand.server.address, stand.connection, stand.table, ended_by
        )
        took = part.seconds + lag_seconds
        report(f"{part.rate:,.0f} rows/s, and {lag_seconds:.1f} s until all was sealed")
        stored = await stand.require_rows(load.acknowledged)
        memory.look()
        ended = await ended_partitions(stand.connection, stand.table, ended_by)
        if not ended.sealed:
            raise BenchFailed("No partition ended in this time: let it have more or shorter ones.")
        rates = await _copy_rates(stand, ended, options.rounds, report)
        return {
            "figure": "sustained",
            "records": options.kind,
            "streams": options.streams,
            "seconds": round(took, 1),
            "partition_length": options.partition_length,
            "sealed_partitions": len(ended.sealed),
            "hot_indexes": list(ended.hot.indexes),
            "sealed_indexes": list(ended.sealed[-1].indexes),
            **_rates(part, took, *rates),
            "sealing_lag_seconds": round(lag_seconds, 1),
            "server_rss_mb": memory.highest_mb,
            "rows_acknowledged": load.acknowledged,
            "rows_stored": stored,
            **stand.surroundings(),
        }


def _seconds(options: IngestOptions) -> float:
    """Give how long the wanted number of partitions takes to fill and to end."""
    if options.kind == "points":
        raise BenchFailed("Packed samples carry their times; choose events, samples or spans.")
    try:
        return float(parse_length(options.partition_length) * options.partitions)
    except ValueError as error:
        raise BenchFailed(f"{options.partition_length!r} is no length: {error}.") from None


def _rates(part: LoadSlice, took: float, copy_rate: float, sealed_copy_rate: float) -> Figures:
    rate = part.records / took
    return {
        "rows_per_second": round(rate),
        "copy_rows_per_second": round(copy_rate),
        "sealed_copy_rows_per_second": round(sealed_copy_rate),
        "ratio": quotient(rate, copy_rate),
        "ratio_to_sealed_copy": quotient(rate, sealed_copy_rate),
        "p50_ms": ack_latency_ms([part], 50),
        "p99_ms": ack_latency_ms([part], 99),
    }


async def _copy_rates(
    stand: Stand, ended: EndedPartitions, rounds: int, report: Report
) -> tuple[float, float]:
    """Copy a partition's rows into tables like a hot and like a sealed one, in turns.

    Returns:
        Median rows a second, hot and sealed.
    """
    columns = await columns_of(stand.connection, stand.table)
    size = TRANSACTION_ROWS[stand.options.kind]
    source = await _fullest(stand, ended.sealed)
    payloads = await read_payloads(
        stand.connection, source, columns, size, payloads=MOST_ROWS // size
    )
    rates: dict[str, list[float]] = {HOT_TABLE: [], SEALED_TABLE: []}
    for _ in range(rounds):
        for table, pattern in (
            (HOT_TABLE, ended.hot.name),
            (SEALED_TABLE, ended.sealed[-1].name),
        ):
            rates[table].append(await _copy_anew(stand, table, pattern, columns, payloads))
        report(
            f"COPY into a hot table {rates[HOT_TABLE][-1]:,.0f}, "
            f"into a sealed one {rates[SEALED_TABLE][-1]:,.0f} rows/s"
        )
    return median(rates[HOT_TABLE]), median(rates[SEALED_TABLE])


async def _fullest(stand: Stand, partitions: list[Partition]) -> str:
    """Give the partition with most rows."""
    counts = {part.name: await count_rows(stand.connection, part.name) for part in partitions}
    return max(counts, key=lambda name: counts[name])


async def _copy_anew(
    stand: Stand, table: str, pattern: str, columns: list[str], payloads: list[Payload]
) -> float:
    """Copy all payloads into a fresh table like a partition; gives rows a second."""
    connection = stand.connection
    await make_like(connection, table, pattern)
    await stand.settle()
    copy = RawCopy(connection, table, columns, payloads)
    begun = time.monotonic()
    for payload in payloads:
        await copy.copy(payload)
    return copy.rows / (time.monotonic() - begun)
