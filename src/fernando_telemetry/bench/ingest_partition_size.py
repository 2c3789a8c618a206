"""The rate into a full partition: with 50 million rows there, and with 1 million.

Both in one run, on one server; raw COPY takes turns, so that a change of the machine shows.
"""

from __future__ import annotations

from datetime import UTC, datetime
from typing import Final

from fernando_telemetry.bench.figures import Figures, Report, median, quotient
from fernando_telemetry.bench.load import Load, LoadSlice, generating, median_rate
from fernando_telemetry.bench.preload import Preload
from fernando_telemetry.bench.raw_copy import TRANSACTION_ROWS, CopySlice, RawCopy
from fernando_telemetry.bench.records import base_micros
from fernando_telemetry.bench.stand import IngestOptions, Stand, standing

FEW_ROWS: Final = 1_000_000


async def measure_partition_size(options: IngestOptions, report: Report) -> Figures:
    """Measure with few rows, fill the partition up, measure again.

    Raises:
        BenchFailed: Something was not stored as acknowledged.
    """
    few_rows = min(FEW_ROWS, options.preload_rows)
    first = datetime.fromtimestamp(base_micros(datetime.now(UTC)) / 1e6, UTC)
    async with standing(options, report) as stand:
        async with generating(stand.plan("bench", options.streams, options.batch_records)) as load:
            while load.acknowledged < TRANSACTION_ROWS[options.kind]:
                await load.run(min(1.0, options.slice_seconds))
            copy = await RawCopy.of_stored(stand.connection, options.kind)
            preload = Preload(stand, options.preload_rows, first)
            await preload.open()
            await preload.fill(few_rows, report)
            few = await _measure(stand, load, copy, options)
            report(f"service {few.rate:,.0f}, COPY {few.copy_rate:,.0f} rows/s with {few_rows:,}")
            await preload.fill(options.preload_rows, report)
            many = await _measure(stand, load, copy, options)
            report(f"service {many.rate:,.0f}, COPY {many.copy_rate:,.0f} rows/s when full")
        stored = await stand.require_rows(load.acknowledged + copy.rows + preload.rows)
        return {
            "figure": "partition_size",
            "records": options.kind,
            "seconds": options.seconds,
            "few_rows": few_rows,
            "many_rows": options.preload_rows,
            "few_rows_per_second": round(few.rate),
            "rows_per_second": round(many.rate),
            "ratio": quotient(many.rate, few.rate),
            "few_copy_rows_per_second": round(few.copy_rate),
            "copy_rows_per_second": round(many.copy_rate),
            "copy_ratio": quotient(many.copy_rate, few.copy_rate),
            "rows_acknowledged": load.acknowledged,
            "rows_copied": copy.rows,
            "rows_stored": stored,
            **stand.surroundings(),
        }


class _Measured:
    """Rates of one filling."""

    def __init__(self, loads: list[LoadSlice], copies: list[CopySlice]) -> None:
        self.rate = median_rate(loads)
        self.copy_rate = median([part.rate for part in copies])


async def _measure(stand: Stand, load: Load, copy: RawCopy, options: IngestOptions) -> _Measured:
    loads: list[LoadSlice] = []
    copies: list[CopySlice] = []
    # The pages that the load will touch come into the cache, WAL files are there to be used again.
    await copy.run(options.slice_seconds)
    for _ in range(options.rounds):
        await stand.settle()
        copies.append(await copy.run(options.slice_seconds))
        await stand.settle()
        loads.append(await load.run(options.slice_seconds))
    return _Measured(loads, copies)
