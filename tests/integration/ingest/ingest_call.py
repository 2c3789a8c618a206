"""A bare ingest client: raw bytes out, messages in, nothing repaired on the way."""

from __future__ import annotations

from types import TracebackType
from typing import Any, Self

from google.protobuf.message import Message
from grpc import aio

from fernando.telemetry.v1 import (
    BatchAck,
    BatchCommitted,
    GoAway,
    IngestTelemetryResponse,
    StreamHello,
    StreamTelemetryResponse,
    StreamWelcome,
)
from tests.integration.ingest.records import field, number_field, records
from tests.integration.transport.failures import Failure, failure, failure_of

SERVICE = "/fernando.telemetry.v1.IngestService/"
HELLO, BATCH = 1, 2
TIMEOUT_SECONDS = 60.0


def hello(producer_id: str = "producer", **fields: Any) -> bytes:
    """Give the bytes of a hello."""
    return field(HELLO, StreamHello(producer_id=producer_id, **fields).SerializeToString())


def batch(sequence: int, *items: Message | bytes, record_count: int | None = None) -> bytes:
    """Give the bytes of a batch; a `bytes` item is a piece of TelemetryRecords as it stands."""
    data = b"".join(item for item in items if isinstance(item, bytes))
    data += records(
        (item for item in items if isinstance(item, Message)), record_count=record_count
    )
    return field(BATCH, number_field(1, sequence) + field(2, data))


class IngestCall:
    """One open stream; leaving the block cancels what is left of it."""

    def __init__(self, channel: aio.Channel, timeout_seconds: float = TIMEOUT_SECONDS) -> None:
        self.call: Any = channel.stream_stream(
            SERVICE + "StreamTelemetry", response_deserializer=StreamTelemetryResponse.FromString
        )(timeout=timeout_seconds)

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        self.call.cancel()

    async def send(self, *messages: bytes) -> None:
        """Write messages as they stand."""
        for message in messages:
            await self.call.write(message)

    async def read(self) -> StreamTelemetryResponse | None:
        """Read one message; None where the stream ended with OK."""
        message = await self.call.read()
        return None if message is aio.EOF else message

    async def welcome(self, producer_id: str = "producer", **fields: Any) -> StreamWelcome:
        """Say hello and take the welcome."""
        await self.send(hello(producer_id, **fields))
        message = await self.read()
        assert message is not None
        assert message.WhichOneof("message") == "welcome"
        return message.welcome

    async def ack(self) -> BatchAck:
        """Take one ack."""
        message = await self.read()
        assert message is not None
        assert message.WhichOneof("message") == "ack", message
        return message.ack

    async def acks(self, count: int) -> list[BatchAck]:
        """Take acks."""
        return [await self.ack() for _ in range(count)]

    async def go_away(self) -> GoAway:
        """Take a GoAway."""
        message = await self.read()
        assert message is not None
        assert message.WhichOneof("message") == "go_away", message
        return message.go_away

    async def commit(self, sequence: int, *items: Message | bytes) -> BatchCommitted:
        """Send a batch and take its ack, which has to say committed."""
        await self.send(batch(sequence, *items))
        ack = await self.ack()
        assert ack.sequence == sequence
        assert ack.WhichOneof("outcome") == "committed", ack
        return ack.committed

    async def end(self) -> None:
        """Half-close; the stream has to end with OK and no further message."""
        await self.call.done_writing()
        assert await self.read() is None

    async def failure(self) -> Failure:
        """Read to the end, which has to be a failure and the very next thing."""
        try:
            message = await self.call.read()
        except aio.AioRpcError as error:
            return failure_of(error)
        raise AssertionError(f"no failure but {message}")


async def ingest(channel: aio.Channel, request: bytes, **options: Any) -> IngestTelemetryResponse:
    """Call IngestTelemetry with bytes."""
    method: Any = channel.unary_unary(
        SERVICE + "IngestTelemetry", response_deserializer=IngestTelemetryResponse.FromString
    )
    options.setdefault("timeout", TIMEOUT_SECONDS)
    answer: IngestTelemetryResponse = await method(request, **options)
    return answer


async def ingest_failure(channel: aio.Channel, request: bytes, **options: Any) -> Failure:
    """Call IngestTelemetry, which has to fail."""
    return await failure(ingest(channel, request, **options))


def request(
    *items: Message | bytes, request_id: str = "", record_count: int | None = None
) -> bytes:
    """Give the bytes of an IngestTelemetryRequest."""
    data = b"".join(item for item in items if isinstance(item, bytes))
    data += records(
        (item for item in items if isinstance(item, Message)), record_count=record_count
    )
    named = field(1, request_id) if request_id else b""
    return named + field(3, data)
