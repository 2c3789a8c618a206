"""Latency: one IngestTelemetry of 100 events, and a bare transaction that inserts one row.

On the idle server both take turns; then the call alone, while one stream sends 4 MB batches as
fast as it can.
"""

from __future__ import annotations

import asyncio
import time
import uuid
from collections.abc import Awaitable, Callable
from datetime import UTC, datetime
from typing import Any, Final

from grpc import aio

from fernando.telemetry.client import CHANNEL_OPTIONS, decode_error
from fernando.telemetry.v1 import IngestTelemetryRequest, IngestTelemetryResponse, TelemetryRecords
from fernando_telemetry.bench.failure import BenchFailed
from fernando_telemetry.bench.figures import Figures, Report, percentile, quotient
from fernando_telemetry.bench.load import Load, LoadSlice, generating
from fernando_telemetry.bench.records import base_micros, default_batch_records, make_batches
from fernando_telemetry.bench.stand import IngestOptions, Stand, standing
from fernando_telemetry.bench.tables import any_row, columns_of, insert_row

METHOD: Final = "/fernando.telemetry.v1.IngestService/IngestTelemetry"
RECORDS: Final = 100
WARM_UP_CALLS: Final = 50
# The batches of the stream beside are so many times those of others: 4 MB.
LARGE: Final = 4
# Between two calls beside the stream: they are to meet it, not to add to its load.
PAUSE_SECONDS: Final = 0.02
CALL_SECONDS: Final = 60.0


async def measure_latency(options: IngestOptions, report: Report) -> Figures:
    """Measure calls on the idle and on the busy server.

    Raises:
        BenchFailed: Something was not stored as acknowledged.
    """
    if options.kind != "events":
        raise BenchFailed("The latency is that of events: leave --records at its default.")
    async with standing(options, report) as stand:
        async with aio.insecure_channel(stand.server.address, options=CHANNEL_OPTIONS) as channel:
            call = UnaryCalls(channel)
            await call.make()
            insert = await _OneRow.of_stored(stand)
            idle, bare = await _idle(call, insert, options.seconds)
            report(f"{len(idle)} idle calls and as many transactions")
            batch_records = options.batch_records or default_batch_records(options.kind)
            plan = stand.plan("beside", 1, LARGE * batch_records)
            async with generating(plan) as load:
                await load.run(min(1.0, options.seconds))
                beside, part = await _beside(call, load, options.seconds)
            report(f"{len(beside)} calls beside a stream of {part.rate:,.0f} rows/s")
        expected = call.records + insert.rows + load.acknowledged
        return {
            "figure": "latency",
            "records": options.kind,
            "seconds": options.seconds,
            **_percentiles(idle, bare, beside),
            "calls": len(idle),
            "loaded_calls": len(beside),
            "refused_attempts": call.refused,
            "loaded_rows_per_second": round(part.rate),
            "loaded_batch_bytes": load.batch_bytes,
            "rows_acknowledged": call.records + load.acknowledged,
            "rows_inserted": insert.rows,
            "rows_stored": await stand.require_rows(expected),
            **stand.surroundings(),
        }


def _percentiles(idle: list[float], bare: list[float], beside: list[float]) -> Figures:
    found: Figures = {}
    for name, percent in (("p50", 50), ("p99", 99)):
        call, transaction, loaded = (percentile(ms, percent) for ms in (idle, bare, beside))
        found |= {
            f"{name}_ms": round(call, 3),
            f"transaction_{name}_ms": round(transaction, 3),
            f"ratio_{name}": quotient(call, transaction),
            f"loaded_{name}_ms": round(loaded, 3),
            f"ratio_loaded_{name}": quotient(loaded, call),
        }
    return found


async def _milliseconds(work: Callable[[], Awaitable[None]]) -> float:
    begun = time.perf_counter()
    await work()
    return (time.perf_counter() - begun) * 1000


async def _idle(
    call: UnaryCalls, insert: _OneRow, seconds: float
) -> tuple[list[float], list[float]]:
    """Take turns, one at a time; gives milliseconds of calls and of transactions."""
    for _ in range(WARM_UP_CALLS):
        await call.make()
        await insert.make()
    calls: list[float] = []
    transactions: list[float] = []
    deadline = time.monotonic() + seconds
    while time.monotonic() < deadline or not calls:
        calls.append(await _milliseconds(call.make))
        transactions.append(await _milliseconds(insert.make))
    return calls, transactions


async def _beside(call: UnaryCalls, load: Load, seconds: float) -> tuple[list[float], LoadSlice]:
    calls: list[float] = []
    deadline = time.monotonic() + seconds
    streaming = asyncio.create_task(load.run(seconds))
    try:
        while not streaming.done() and time.monotonic() < deadline:
            calls.append(await _milliseconds(call.make))
            await asyncio.sleep(PAUSE_SECONDS)
        return calls, await streaming
    finally:
        streaming.cancel()
        await asyncio.gather(streaming, return_exceptions=True)


class UnaryCalls:
    """Calls of 100 events, serialised ahead but for their request_id.

    Args:
        channel: To the server.
        source: Of the events; "": as the load's.

    Attributes:
        users: Of the events of a call, in their order.
        records: Acknowledged ones.
        refused: Attempts that the server wanted again; a call's time goes on through them.
    """

    def __init__(self, channel: aio.Channel, source: str = "") -> None:
        self._call: Any = channel.unary_unary(METHOD)
        (batch,) = make_batches("events", RECORDS, base_micros(datetime.now(UTC)), pool_bytes=0)
        records = TelemetryRecords.FromString(batch.records)
        for event in records.events if source else ():
            event.source = source
        self.users = [event.user_id for event in records.events]
        self._rest: bytes = IngestTelemetryRequest(records=records).SerializeToString()
        self.records = 0
        self.refused = 0

    async def make(self) -> None:
        """Make one call; where the server says so, again with the same request_id.

        Raises:
            BenchFailed: It failed, or did not store all.
        """
        request = b"\x0a\x24" + str(uuid.uuid4()).encode() + self._rest
        while (answer := await self._attempt(request)) is None:
            self.refused += 1
        response = IngestTelemetryResponse.FromString(answer)
        if response.result.accepted_count != RECORDS:
            raise BenchFailed(f"A call was not stored whole: {response}")
        self.records += RECORDS

    async def _attempt(self, request: bytes) -> bytes | None:
        """Give the answer; None, after the pause that it asks for, where it is to come again."""
        try:
            answer: bytes = await self._call(request, timeout=CALL_SECONDS)
        except aio.AioRpcError as error:
            failure = decode_error(error)
            if failure.retry_after_seconds is None:
                raise BenchFailed(f"A call ended with {failure.code.name}: {failure}") from None
            await asyncio.sleep(failure.retry_after_seconds)
            return None
        return answer


class _OneRow:
    """Transactions that insert one event row each."""

    def __init__(self, stand: Stand, statement: str, row: tuple[Any, ...]) -> None:
        self._connection = stand.connection
        self._statement = statement
        self._row = row
        self.rows = 0

    @classmethod
    async def of_stored(cls, stand: Stand) -> _OneRow:
        """Take a stored row as the pattern."""
        columns = await columns_of(stand.connection, stand.table)
        row = await any_row(stand.connection, stand.table, columns)
        return cls(stand, insert_row(stand.table, columns), tuple(row))

    async def make(self) -> None:
        """Run BEGIN, INSERT of one row, COMMIT."""
        async with self._connection.transaction():
            await self._connection.execute(self._statement, *self._row)
        self.rows += 1
