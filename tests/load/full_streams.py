"""Streams that send as fast as the windows allow, in messages as large as they may.

Messages are put together from bytes made once: a client that encoded them would be the slow end.
"""

from __future__ import annotations

import asyncio
import contextlib
import time
from dataclasses import dataclass
from typing import Any

from google.protobuf.internal.encoder import _VarintBytes  # type: ignore[attr-defined]
from grpc import aio

from fernando.telemetry.client.errors import decode_error
from fernando.telemetry.client.status import CallStatus
from fernando.telemetry.v1 import (
    Event,
    EventType,
    StreamHello,
    StreamTelemetryRequest,
    StreamTelemetryResponse,
    TelemetryRecords,
)

METHOD = "/fernando.telemetry.v1.IngestService/StreamTelemetry"


def records_of(max_bytes: int) -> bytes:
    """Make the bytes of a TelemetryRecords of at most this size, as full as it gets."""
    event = Event(
        event_type=EventType.EVENT_TYPE_USER_ACTION,
        event_name="page_view",
        event_category="navigation",
        user_id="user-12345",
        license_id="license-7",
        session_id="0123456789abcdef",
        event_data='{"path": "/orders/17", "referrer": "search", "items": [1, 2, 3]}',
        tags=["web", "checkout"],
        duration_ms=12.5,
        source="shop",
        source_ip="192.0.2.7",
        source_version="1.2.3",
        user_agent="Mozilla/5.0 (X11; Linux x86_64)",
    )
    event.event_timestamp.GetCurrentTime()
    one: bytes = TelemetryRecords(events=[event]).SerializeToString()
    return one * (max_bytes // len(one))


def batch_bytes(sequence: int, records: bytes) -> bytes:
    """Make the bytes of a StreamTelemetryRequest with one batch."""
    batch = b"\x08" + _VarintBytes(sequence) + b"\x12" + _VarintBytes(len(records)) + records
    message: bytes = b"\x12" + _VarintBytes(len(batch)) + batch
    return message


@dataclass
class FullStream:
    """One stream on a connection of its own."""

    name: str
    max_batch_bytes: int = 0
    sent: int = 0
    acks: int = 0
    accepted: int = 0
    end: str = ""
    ended_at: float = 0.0
    _channel: aio.Channel | None = None
    _call: Any = None
    _responses: Any = None

    async def open(self, address: str) -> None:
        """Say hello and take the welcome."""
        options = [("grpc.use_local_subchannel_pool", 1)]
        self._channel = aio.insecure_channel(address, options=options)
        call: Any = self._channel.stream_stream(
            METHOD, response_deserializer=StreamTelemetryResponse.FromString
        )()
        self._call = call
        hello = StreamTelemetryRequest(hello=StreamHello(producer_id=self.name))
        await call.write(hello.SerializeToString())
        self._responses = aiter(call)
        welcome: Any = await anext(self._responses)
        self.max_batch_bytes = welcome.welcome.limits.max_batch_bytes

    async def run(self, records: bytes, last: float = float("inf")) -> None:
        """Send these records until the server ends the stream, or until a moment (monotonic)."""
        status = CallStatus(self._call)
        writing = asyncio.create_task(self._write(records, last))
        try:
            async for response in self._responses:
                if response.HasField("ack"):
                    self.acks += 1
                    self.accepted += response.ack.committed.accepted_count
            self.end = "OK"
        except aio.AioRpcError as error:
            failure = decode_error(await status.real(error))
            self.end = f"{failure.code.name} {failure.reason}"
            assert failure.retry_after_seconds is not None, failure
        finally:
            self.ended_at = time.monotonic()
            writing.cancel()
            await asyncio.gather(writing, return_exceptions=True)

    async def _write(self, records: bytes, last: float) -> None:
        with contextlib.suppress(aio.AioRpcError, asyncio.InvalidStateError):
            while time.monotonic() < last:
                await self._call.write(batch_bytes(self.sent + 1, records))
                self.sent += 1
            await self._call.done_writing()

    async def close(self) -> None:
        if self._call is not None:
            self._call.cancel()
        if self._channel is not None:
            await self._channel.close()
