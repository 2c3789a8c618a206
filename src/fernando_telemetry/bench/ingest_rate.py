"""The rate: acknowledged records a second, and a raw COPY of the same rows, in turns.

With more than one stream, one stream with batches of the default size takes its turn as well.
"""

from __future__ import annotations

import contextlib
from typing import Final

from fernando_telemetry.bench.figures import Figures, Report, median, quotient
from fernando_telemetry.bench.load import (
    Load,
    LoadSlice,
    ack_latency_ms,
    generating,
    generator_cpu,
    median_rate,
)
from fernando_telemetry.bench.memory import MemoryWatch
from fernando_telemetry.bench.raw_copy import TRANSACTION_ROWS, CopySlice, RawCopy
from fernando_telemetry.bench.stand import IngestOptions, Stand, standing

# Until then the server has met every series, and there are rows for the baseline.
WARM_UP_SECONDS: Final = 1.0


async def measure_rate(options: IngestOptions, report: Report) -> Figures:
    """Measure service and COPY in turns.

    Raises:
        BenchFailed: Something was not stored as acknowledged.
    """
    async with standing(options, report) as stand, contextlib.AsyncExitStack() as running:
        one: Load | None = None
        if options.streams > 1:
            one = await running.enter_async_context(generating(stand.plan("one", 1, None)))
        plan = stand.plan("bench", options.streams, options.batch_records)
        load = await running.enter_async_context(generating(plan))
        report(f"batches of {plan.batch_records} records, {load.batch_bytes} bytes")
        memory = await running.enter_async_context(MemoryWatch(stand.server.pid))
        turns = _Turns(stand, load, one)
        await turns.warm_up(options.slice_seconds)
        for _ in range(options.rounds):
            report(await turns.take(options.slice_seconds))
        memory.look()
        rows = await turns.require_rows()
        return {
            "figure": "rate",
            "records": options.kind,
            "streams": options.streams,
            "batch_records": plan.batch_records,
            "batch_bytes": load.batch_bytes,
            "seconds": options.seconds,
            **turns.figures(),
            "server_rss_mb": memory.highest_mb,
            **rows,
            **stand.surroundings(),
        }


class _Turns:
    """Slices of COPY and of load, one after the other.

    Args:
        stand: Where.
        load: What is measured.
        one: The load of one stream to compare with, or None.
    """

    def __init__(self, stand: Stand, load: Load, one: Load | None) -> None:
        self._stand = stand
        self._load = load
        self._one = one
        self._copy: RawCopy | None = None
        self._copies: list[CopySlice] = []
        self._loads: list[LoadSlice] = []
        self._ones: list[LoadSlice] = []

    async def warm_up(self, slice_seconds: float) -> None:
        """Let the server meet the load, and make ready what COPY shall write."""
        seconds = min(WARM_UP_SECONDS, slice_seconds)
        enough = TRANSACTION_ROWS[self._stand.options.kind]
        while self._load.acknowledged < enough:
            await self._load.run(seconds)
        if self._one is not None:
            await self._one.run(seconds)
        self._copy = await RawCopy.of_stored(self._stand.connection, self._stand.options.kind)
        # So long that PostgreSQL has WAL files to use again, in each of the slices that count.
        await self._copy.run(slice_seconds)

    async def take(self, seconds: float) -> str:
        """Measure one round; gives a line about it."""
        assert self._copy is not None
        await self._stand.settle()
        self._copies.append(await self._copy.run(seconds))
        words = [f"COPY {self._copies[-1].rate:,.0f}"]
        if self._one is not None:
            await self._stand.settle()
            self._ones.append(await self._one.run(seconds))
            words.append(f"one stream {self._ones[-1].rate:,.0f}")
        await self._stand.settle()
        self._loads.append(await self._load.run(seconds))
        words.append(f"service {self._loads[-1].rate:,.0f} rows/s")
        return ", ".join(words)

    async def require_rows(self) -> Figures:
        """Compare all rows with what is stored."""
        assert self._copy is not None
        acknowledged = self._load.acknowledged
        if self._one is not None:
            acknowledged += self._one.acknowledged
        return {
            "rows_acknowledged": acknowledged,
            "rows_copied": self._copy.rows,
            "rows_stored": await self._stand.require_rows(acknowledged + self._copy.rows),
        }

    def figures(self) -> Figures:
        """Give the medians over the rounds, and the latencies of all acks."""
        rate, copy_rate = median_rate(self._loads), median([part.rate for part in self._copies])
        found: Figures = {
            "rows_per_second": round(rate),
            "copy_rows_per_second": round(copy_rate),
            "ratio": quotient(rate, copy_rate),
            "ratios": [
                quotient(part.rate, other.rate)
                for part, other in zip(self._loads, self._copies, strict=True)
            ],
            "p50_ms": ack_latency_ms(self._loads, 50),
            "p99_ms": ack_latency_ms(self._loads, 99),
            "generator_cpu": generator_cpu(self._loads),
        }
        if self._one is not None:
            one_rate = median_rate(self._ones)
            found["one_stream_rows_per_second"] = round(one_rate)
            found["ratio_to_one_stream"] = quotient(rate, one_rate)
        return found
