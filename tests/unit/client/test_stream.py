"""One stream against a real server, where its reader is behind its writer."""

from __future__ import annotations

import asyncio

import grpc
import pytest

from fernando.telemetry.client.errors import ProducerFenced, decode_error
from fernando.telemetry.client.pending import PendingBatch, PendingBatches
from fernando.telemetry.client.stream import METHOD, TelemetryCall, TelemetryStream
from fernando.telemetry.v1 import (
    Event,
    IngestLimits,
    StreamHello,
    StreamTelemetryResponse,
    TelemetryRecords,
)
from tests.unit.client.scripted_server import Act, ScriptedServer

BATCHES = 200


class LateReader(TelemetryStream):
    """Reads nothing behind the welcome until a write has failed."""

    def __init__(self, call: TelemetryCall, pending: PendingBatches) -> None:
        super().__init__(
            call,
            pending,
            max_batch_bytes=1024 * 1024,
            welcome_timeout_seconds=10.0,
            leave_timeout_seconds=10.0,
        )
        self.write_failed = asyncio.Event()

    async def _put(self, batch: PendingBatch) -> bool:
        sent = await super()._put(batch)
        if not sent:
            self.write_failed.set()
        return sent

    async def _receive(self) -> StreamTelemetryResponse | None:
        if self.welcome is not None:
            await self.write_failed.wait()
        return await super()._receive()


async def test_acks_and_status_behind_a_failed_write_are_read(server: ScriptedServer) -> None:
    # gRPC tells the status once all before it is read; grpc.aio says INTERNAL at the failed write.
    server.ingest.limits = IngestLimits(max_in_flight_batches=BATCHES)
    fence = Act(cut_after=5, code=grpc.StatusCode.ABORTED, reason="PRODUCER_FENCED")
    server.ingest.script.append(fence)
    pending = PendingBatches(BATCHES, 1 << 30)
    for _ in range(BATCHES):
        await pending.admit(TelemetryRecords(events=[Event(event_name="x" * 10_000)]))
    async with grpc.aio.insecure_channel(server.target) as channel:
        call: TelemetryCall = channel.stream_stream(
            METHOD, response_deserializer=StreamTelemetryResponse.FromString
        )()
        stream = LateReader(call, pending)
        with pytest.raises(grpc.aio.AioRpcError) as ended:
            await stream.run(StreamHello(producer_id="test/1", fresh=True))
    assert stream.write_failed.is_set()
    assert isinstance(decode_error(ended.value), ProducerFenced)
    assert stream.acknowledged_count == 4
