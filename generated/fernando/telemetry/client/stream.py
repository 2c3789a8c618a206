"""One life of a StreamTelemetry call: hello, welcome, batches out, acks in.

It knows nothing of reconnecting. What is not acknowledged when it ends stays in
`PendingBatches`, and the next stream sends it first.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
from collections.abc import Iterator
from typing import Final

import grpc

from fernando.telemetry.client.errors import StreamCut
from fernando.telemetry.client.pending import PendingBatch, PendingBatches
from fernando.telemetry.client.status import CallStatus
from fernando.telemetry.v1 import (
    BatchAck,
    GoAway,
    IngestLimits,
    StreamHello,
    StreamTelemetryRequest,
    StreamTelemetryResponse,
    StreamWelcome,
)

_log = logging.getLogger(__name__)

METHOD: Final = "/fernando.telemetry.v1.IngestService/StreamTelemetry"

# Limits of the contract, for a welcome that leaves one of them at zero.
_BATCH_BYTES: Final = 8 * 1024 * 1024
_BATCH_RECORDS: Final = 100_000
_IN_FLIGHT: Final = 16

# What the envelope of a batch adds to its records, at most.
_FRAME_BYTES: Final = 32

# What a write raises when the call has ended; reading it then gives the status.
_CALL_IS_OVER: Final = (grpc.aio.AioRpcError, asyncio.InvalidStateError, StreamCut)

TelemetryCall = grpc.aio.StreamStreamCall[bytes, StreamTelemetryResponse]


class ContinuityLost(StreamCut):
    """The server's numbers end before our oldest unacknowledged batch: it forgot some.

    A database that was restored from a backup does this. The old numbers mean nothing any more.
    """


class TelemetryStream:
    """One stream over one call; `run` is called once.

    Attributes:
        welcome: The server's welcome, once it has come.
        acknowledged_count: Acks received on this stream.
        reconnect_after_seconds: What a GoAway asked for, else None.
    """

    def __init__(
        self,
        call: TelemetryCall,
        pending: PendingBatches,
        *,
        max_batch_bytes: int,
        welcome_timeout_seconds: float,
        leave_timeout_seconds: float,
    ) -> None:
        self.welcome: StreamWelcome | None = None
        self.acknowledged_count = 0
        self.reconnect_after_seconds: float | None = None
        self._call = call
        # Iterated, never read(): once a failed write has ended the call for grpc.aio, read() gives
        # no more messages, and the status waits in gRPC behind those that nobody has read.
        self._responses = aiter(call)
        self._status = CallStatus(call)
        self._pending = pending
        self._max_bytes = max_batch_bytes
        self._max_records = _BATCH_RECORDS
        self._max_in_flight = _IN_FLIGHT
        self._welcome_timeout = welcome_timeout_seconds
        self._leave_timeout = leave_timeout_seconds
        self._sent_count = 0

    async def run(self, hello: StreamHello) -> None:
        """Send and read until the server ends the stream.

        Returns after a clean end: a GoAway was followed, or the pending batches were told to
        finish and all acks came.

        Raises:
            grpc.aio.AioRpcError: The stream ended with a status.
            StreamCut: It ended without one, or the server did not answer in time.
        """
        tasks: list[asyncio.Task[None]] = []
        try:
            await self._greet(hello)
            reader = asyncio.create_task(self._read())
            writer = asyncio.create_task(self._write())
            tasks += (reader, writer)
            # The writer ends first when it half-closes or its call broke; then the reader has
            # the last acks, or the status. A defect in either ends both.
            await asyncio.wait(tasks, return_when=asyncio.FIRST_COMPLETED)
            if writer.done() and not writer.cancelled() and writer.exception() is None:
                await asyncio.wait((reader,))
            for task in tasks:
                if task.done():
                    task.result()
        except grpc.aio.AioRpcError as error:
            raise await self._status.real(error) from None
        finally:
            for task in tasks:
                task.cancel()
            await asyncio.gather(*tasks, return_exceptions=True)
            self._call.cancel()

    async def _greet(self, hello: StreamHello) -> None:
        try:
            async with asyncio.timeout(self._welcome_timeout):
                # A call that is over already says why when it is read.
                with contextlib.suppress(asyncio.InvalidStateError):
                    await self._send(StreamTelemetryRequest(hello=hello).SerializeToString())
                response = await self._receive()
        except TimeoutError:
            raise StreamCut("no welcome came in time") from None
        if response is None or response.WhichOneof("message") != "welcome":
            raise StreamCut("the first answer was not a welcome")
        self.welcome = response.welcome
        self._limit(response.welcome.limits)
        self._resume(response.welcome.last_sequence)

    def _limit(self, limits: IngestLimits) -> None:
        granted = limits.max_batch_bytes or _BATCH_BYTES
        self._max_bytes = max(1, min(self._max_bytes, granted - _FRAME_BYTES))
        self._max_records = limits.max_batch_records or _BATCH_RECORDS
        self._max_in_flight = limits.max_in_flight_batches or _IN_FLIGHT

    def _resume(self, last_sequence: int) -> None:
        pending = self._pending
        kept = pending.unacknowledged()
        if not kept:
            pending.next_sequence = last_sequence + 1
            return
        # A server that knows no number (0) takes any first one.
        if last_sequence and kept[0].sequence > last_sequence + 1:
            raise ContinuityLost(
                f"the server's numbers end at {last_sequence}, ours go on at {kept[0].sequence}"
            )
        pending.next_sequence = max(pending.next_sequence, last_sequence + 1)

    async def _write(self) -> None:
        for batch in self._pending.unacknowledged():
            while not self._leaving and not self._window_open:
                await self._changed()
            if self._leaving:
                break
            if not await self._put(batch):
                return
        while not self._leaving and not (self._pending.finishing and not len(self._pending)):
            batch_or_none = self._next_batch()
            if batch_or_none is None:
                await self._changed()
            elif not await self._put(batch_or_none):
                return
        with contextlib.suppress(*_CALL_IS_OVER), _cancelled_by_server():
            await self._call.done_writing()

    def _next_batch(self) -> PendingBatch | None:
        if not self._window_open:
            return None
        return self._pending.number_next(self._max_bytes, self._max_records)

    @property
    def _window_open(self) -> bool:
        return self._sent_count - self.acknowledged_count < self._max_in_flight

    @property
    def _leaving(self) -> bool:
        return self.reconnect_after_seconds is not None

    async def _changed(self) -> None:
        # Nothing is awaited between the caller's look and this, so no change is missed.
        self._pending.changed.clear()
        await self._pending.changed.wait()

    async def _put(self, batch: PendingBatch) -> bool:
        """Send one batch; False: the call is over, and the reader knows why."""
        self._sent_count += 1
        try:
            await self._send(_frame(batch.sequence, batch.payload))
        except _CALL_IS_OVER:
            return False
        return True

    async def _read(self) -> None:
        try:
            async with asyncio.timeout(None) as limit:
                while (response := await self._receive()) is not None:
                    match response.WhichOneof("message"):
                        case "ack":
                            self._take(response.ack)
                        case "go_away":
                            self._leave(response.go_away)
                            loop = asyncio.get_running_loop()
                            limit.reschedule(loop.time() + self._leave_timeout)
                        case _:
                            # Messages a newer server adds must not end an older client.
                            continue
        except TimeoutError:
            raise StreamCut("the server said go away and then did not end the stream") from None

    def _take(self, ack: BatchAck) -> None:
        self.acknowledged_count += 1
        if ack.WhichOneof("outcome") == "refused":
            _log.warning(
                "batch %d refused (reason %d): %s",
                ack.sequence,
                ack.refused.reason,
                ack.refused.detail,
            )
        if not self._pending.acknowledge(ack):
            raise StreamCut(f"an ack came for batch {ack.sequence}, which is not in flight")

    def _leave(self, go_away: GoAway) -> None:
        delay = go_away.reconnect_after
        self.reconnect_after_seconds = max(0.0, delay.seconds + delay.nanos / 1e9)
        self._pending.changed.set()

    async def _send(self, frame: bytes) -> None:
        with _cancelled_by_server():
            await self._call.write(frame)

    async def _receive(self) -> StreamTelemetryResponse | None:
        """Give the next response; None: the stream ended with OK."""
        with _cancelled_by_server():
            return await anext(self._responses, None)


@contextlib.contextmanager
def _cancelled_by_server() -> Iterator[None]:
    """Turn a cancellation that is not this task's into StreamCut.

    grpc.aio raises CancelledError also where the *server* ended the call with CANCELLED.
    """
    try:
        yield
    except asyncio.CancelledError:
        task = asyncio.current_task()
        if task is not None and task.cancelling():
            raise
        raise StreamCut("the server cancelled the stream") from None


def _frame(sequence: int, payload: bytes) -> bytes:
    """Wire bytes of StreamTelemetryRequest{batch{sequence, records}} around serialised records."""
    head = b"\x08" + _varint(sequence) + b"\x12" + _varint(len(payload))
    return b"".join((b"\x12", _varint(len(head) + len(payload)), head, payload))


def _varint(value: int) -> bytes:
    out = bytearray()
    while value > 0x7F:
        out.append(value & 0x7F | 0x80)
        value >>= 7
    out.append(value)
    return bytes(out)
