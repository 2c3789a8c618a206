"""One stream of the load: raw bytes in, up to 16 batches in flight, an ack's latency noted."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Sequence
from typing import Any, Final

from grpc import aio

from fernando.telemetry.client import CHANNEL_OPTIONS
from fernando.telemetry.v1 import (
    StreamHello,
    StreamTelemetryRequest,
    StreamTelemetryResponse,
    StreamWelcome,
)
from fernando_telemetry.bench.failure import BenchFailed
from fernando_telemetry.bench.records import Batch

METHOD: Final = "/fernando.telemetry.v1.IngestService/StreamTelemetry"
IN_FLIGHT: Final = 16
END_SECONDS: Final = 5.0


def _varint(number: int) -> bytes:
    parts = bytearray()
    while number > 0x7F:
        parts.append(number & 0x7F | 0x80)
        number >>= 7
    parts.append(number)
    return bytes(parts)


def numbered(sequence: int, records: bytes, records_head: bytes) -> bytes:
    """Give the bytes of a StreamTelemetryRequest with one batch.

    Args:
        sequence: The batch's number.
        records: The bytes of its TelemetryRecords.
        records_head: Tag and length of these bytes, made ahead (`head_of`).
    """
    number = _varint(sequence)
    length = 1 + len(number) + len(records_head) + len(records)
    return b"".join((b"\x12", _varint(length), b"\x08", number, records_head, records))


def head_of(records: bytes) -> bytes:
    """Give tag and length of the field `records` of a TelemetryBatch."""
    return b"\x12" + _varint(len(records))


def own_channel(address: str) -> aio.Channel:
    """Give a channel with a connection of its own."""
    options = [*CHANNEL_OPTIONS, ("grpc.use_local_subchannel_pool", 1)]
    return aio.insecure_channel(address, options=options)


async def greeted(channel: aio.Channel, producer_id: str) -> tuple[Any, StreamWelcome]:
    """Open a stream, say hello and read the welcome; gives the call and the welcome.

    Raises:
        BenchFailed: The server does not welcome it.
    """
    # Without serialisers: what is written are the bytes themselves.
    call: Any = channel.stream_stream(METHOD)()
    hello = StreamTelemetryRequest(hello=StreamHello(producer_id=producer_id))
    await call.write(hello.SerializeToString())
    message = await call.read()
    if message is aio.EOF:
        raise BenchFailed("The server ended a stream at its hello.")
    response = StreamTelemetryResponse.FromString(message)
    if not response.HasField("welcome"):
        raise BenchFailed("The server answered a hello with no welcome.")
    return call, response.welcome


class LoadStream:
    """A producer that sends a pool of batches round and round.

    Args:
        producer_id: Its name.
        batches: What it sends.
        start: Place in the pool to begin at.
    """

    def __init__(self, producer_id: str, batches: Sequence[Batch], start: int) -> None:
        self._producer_id = producer_id
        self._batches = [(head_of(b.records), b.records, b.count) for b in batches]
        self._next = start % len(batches)
        self._window = asyncio.Semaphore(IN_FLIGHT)
        self._sent_at: dict[int, tuple[float, int]] = {}
        self._sequence = 0
        self._idle = asyncio.Event()
        self._reader: asyncio.Task[None] | None = None
        self._channel: aio.Channel | None = None
        self._call: Any = None
        self.accepted = 0
        self.latencies_ms: list[float] = []
        self.longest_gap_ms = 0.0
        # Of the last ack, or of the first batch in flight.
        self._gap_since = 0.0

    def forget_times(self) -> None:
        """Begin with the times of acks anew."""
        self.latencies_ms, self.longest_gap_ms = [], 0.0

    async def open(self, address: str) -> None:
        """Connect, say hello and read the welcome.

        Raises:
            BenchFailed: The server does not welcome it.
        """
        self._channel = own_channel(address)
        self._call, _ = await greeted(self._channel, self._producer_id)
        self._reader = asyncio.create_task(self._read(), name=f"acks-{self._producer_id}")

    async def run(self, deadline: float, rate: float | None = None) -> None:
        """Send until a moment (monotonic), then wait for the remaining acks.

        Args:
            deadline: The moment.
            rate: Records a second, above 0; None: as fast as it goes.

        Raises:
            BenchFailed: The server refused something, or ended the stream.
        """
        assert self._reader is not None
        self._idle.clear()
        sending = asyncio.create_task(self._send(deadline, rate))
        await asyncio.wait({sending, self._reader}, return_when=asyncio.FIRST_COMPLETED)
        if sending.done() and sending.exception() is None:
            return
        sending.cancel()
        await asyncio.gather(sending, return_exceptions=True)
        # The reading side knows why.
        await asyncio.wait({self._reader}, timeout=END_SECONDS)
        if self._reader.done():
            self._reader.result()
        raise BenchFailed("The server ended a stream.")

    async def _send(self, deadline: float, rate: float | None) -> None:
        due = time.monotonic()
        while True:
            await self._window.acquire()
            begun = time.monotonic()
            if max(begun, due) >= deadline:
                self._window.release()
                break
            if begun < due:
                await asyncio.sleep(due - begun)
                begun = time.monotonic()
            head, records, count = self._batches[self._next]
            due += count / rate if rate else 0
            self._next = (self._next + 1) % len(self._batches)
            self._sequence += 1
            if not self._sent_at:
                self._gap_since = begun
            self._sent_at[self._sequence] = (begun, count)
            self._idle.clear()
            await self._call.write(numbered(self._sequence, records, head))
        if self._sent_at:
            await self._idle.wait()

    async def _read(self) -> None:
        while True:
            try:
                message = await self._call.read()
            except aio.AioRpcError as error:
                sentence = f"A stream ended with {error.code().name}: {error.details()}"
                raise BenchFailed(sentence) from None
            if message is aio.EOF:
                return
            self._take(StreamTelemetryResponse.FromString(message))

    def _take(self, response: StreamTelemetryResponse) -> None:
        if not response.HasField("ack"):
            raise BenchFailed("The server sends a stream of the benchmark elsewhere.")
        ack = response.ack
        begun, count = self._sent_at.pop(ack.sequence)
        outcome = ack.WhichOneof("outcome")
        if outcome != "committed" or ack.committed.accepted_count != count:
            raise BenchFailed(f"A batch was not stored whole: {ack}")
        now = time.monotonic()
        self.latencies_ms.append((now - begun) * 1000)
        self.longest_gap_ms = max(self.longest_gap_ms, (now - self._gap_since) * 1000)
        self._gap_since = now
        self.accepted += count
        self._window.release()
        if not self._sent_at:
            self._idle.set()

    async def close(self) -> None:
        """End the stream."""
        if self._reader is not None:
            self._reader.cancel()
            await asyncio.gather(self._reader, return_exceptions=True)
        if self._call is not None:
            self._call.cancel()
        if self._channel is not None:
            await self._channel.close()
