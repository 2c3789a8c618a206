"""A real grpc.aio server that keeps the stream rules and misbehaves on command.

It stores batches in a dict per producer, so a test can ask what a database would hold. Each
stream it accepts takes the next `Act` of the script; without one it behaves.
"""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import AsyncIterator
from dataclasses import dataclass, field
from types import TracebackType
from typing import Any, Self

import grpc
from google.protobuf.any_pb2 import Any as AnyMessage
from google.protobuf.duration_pb2 import Duration
from google.protobuf.message import Message

from fernando.telemetry.client.errors import DETAILS_KEY
from fernando.telemetry.client.splitting import count_records
from fernando.telemetry.v1 import (
    BatchAck,
    BatchCommitted,
    BatchRefusalReason,
    BatchRefused,
    ErrorInfo,
    ErrorStatus,
    GoAway,
    IngestLimits,
    IngestServiceServicer,
    RetryInfo,
    StreamHello,
    StreamTelemetryRequest,
    StreamTelemetryResponse,
    StreamWelcome,
    TelemetryBatch,
    TelemetryRecords,
    add_IngestServiceServicer_to_server,
)
from fernando_telemetry.workers.held_port import HeldPort

HOST = "127.0.0.1"


def duration(seconds: float) -> Duration:
    result = Duration()
    result.FromMicroseconds(round(seconds * 1e6))
    return result


def packed(detail: Message, name: str) -> AnyMessage:
    """Pack a twin under the name google.rpc gives it, as the server sends it."""
    return AnyMessage(
        type_url=f"type.googleapis.com/google.rpc.{name}", value=detail.SerializeToString()
    )


def status_trailer(
    code: grpc.StatusCode, reason: str, *, retry_after: float | None = None, **metadata: str
) -> tuple[tuple[str, bytes], ...]:
    info = ErrorInfo(reason=reason, domain="telemetry.fernando", metadata=metadata)
    details = [packed(info, "ErrorInfo")]
    if retry_after is not None:
        details.append(packed(RetryInfo(retry_delay=duration(retry_after)), "RetryInfo"))
    status = ErrorStatus(code=code.value[0], message=reason.lower(), details=details)
    return ((DETAILS_KEY, status.SerializeToString()),)


@dataclass
class Act:
    """What one stream does.

    Attributes:
        cut_after: End the stream after storing this many batches, the last one unacknowledged.
        store_last: Whether that last one is stored (its ack is lost) or not.
        code: Status to end with; None with go_away only.
        reason: ErrorReason to send with the status; "" sends no details.
        go_away: Say GoAway before ending, acknowledge all, end with OK.
        refuse_hello: End before the welcome.
        silent: Never answer the hello.
        lingers: Do not end the stream after GoAway.
    """

    cut_after: int = 0
    store_last: bool = True
    code: grpc.StatusCode | None = grpc.StatusCode.UNAVAILABLE
    reason: str = ""
    retry_after: float | None = None
    go_away: bool = False
    refuse_hello: bool = False
    silent: bool = False
    lingers: bool = False


@dataclass
class Stored:
    """What is known of one producer."""

    batches: dict[int, TelemetryRecords] = field(default_factory=dict)
    refused: set[int] = field(default_factory=set)

    @property
    def last_sequence(self) -> int:
        number = 0
        while number + 1 in self.batches or number + 1 in self.refused:
            number += 1
        return number

    @property
    def event_names(self) -> list[str]:
        ordered = sorted(self.batches.items())
        return [event.event_name for _, records in ordered for event in records.events]


class ScriptedIngest(IngestServiceServicer):
    def __init__(self) -> None:
        self.script: deque[Act] = deque()
        self.producers: dict[str, Stored] = {}
        self.hellos: list[StreamHello] = []
        self.limits = IngestLimits(
            max_batch_bytes=1024 * 1024, max_batch_records=1000, max_in_flight_batches=4
        )
        self.open_gate = asyncio.Event()
        self.open_gate.set()
        self.received: list[tuple[int, int]] = []
        self.most_unacknowledged = 0
        self.largest_bytes = 0
        self.refuse_above_bytes = 0
        self.open_streams = 0
        self.half_closes = 0

    def stored(self, producer_id: str) -> Stored:
        return self.producers.setdefault(producer_id, Stored())

    async def StreamTelemetry(  # noqa: N802
        self, request_iterator: Any, context: Any
    ) -> AsyncIterator[StreamTelemetryResponse]:
        act = self.script.popleft() if self.script else Act(code=None)
        self.open_streams += 1
        try:
            async for response in self._stream(request_iterator, context, act):
                yield response
        finally:
            self.open_streams -= 1

    async def _stream(
        self, requests: AsyncIterator[StreamTelemetryRequest], context: Any, act: Act
    ) -> AsyncIterator[StreamTelemetryResponse]:
        request = await anext(aiter(requests))
        assert request.WhichOneof("message") == "hello"
        self.hellos.append(request.hello)
        number = len(self.hellos)
        if act.silent:
            await asyncio.Event().wait()
        if act.refuse_hello:
            await self._abort(context, act)
        stored = self.stored(request.hello.producer_id)
        last = stored.last_sequence
        if request.hello.fresh and stored.batches:
            last = max(*stored.batches, last)
        welcome = StreamWelcome(last_sequence=last, producer_epoch=number, limits=self.limits)
        yield StreamTelemetryResponse(welcome=welcome)

        expected = 0
        count = 0
        inbox: asyncio.Queue[TelemetryBatch | None] = asyncio.Queue()
        pump = asyncio.create_task(self._pump(requests, inbox))
        try:
            while True:
                # Acks wait behind the gate while batches go on coming in.
                batch = await inbox.get()
                if batch is None:
                    self.half_closes += 1
                    return
                if expected == 0:
                    assert 1 <= batch.sequence <= last + 1 or last == 0, "first number"
                else:
                    assert batch.sequence == expected, f"gap: {batch.sequence}"
                expected = batch.sequence + 1
                self.received.append((number, batch.sequence))
                count += 1
                cut = act.cut_after and count >= act.cut_after
                if cut and not act.go_away and not act.store_last:
                    await self._abort(context, act)
                ack = self._store(stored, batch)
                if cut and not act.go_away:
                    await self._abort(context, act)
                if not self.open_gate.is_set():
                    await self.open_gate.wait()
                self.most_unacknowledged = max(self.most_unacknowledged, inbox.qsize() + 1)
                yield StreamTelemetryResponse(ack=ack)
                if cut:
                    away = GoAway(
                        last_accepted_sequence=batch.sequence, reconnect_after=duration(0.01)
                    )
                    yield StreamTelemetryResponse(go_away=away)
                    while await inbox.get() is not None:
                        pass  # sent before the GoAway arrived: not accepted
                    if act.lingers:
                        await asyncio.Event().wait()
                    return
        finally:
            pump.cancel()

    async def _pump(
        self,
        requests: AsyncIterator[StreamTelemetryRequest],
        inbox: asyncio.Queue[TelemetryBatch | None],
    ) -> None:
        async for request in requests:
            assert request.WhichOneof("message") == "batch"
            inbox.put_nowait(request.batch)
        inbox.put_nowait(None)

    def _store(self, stored: Stored, batch: TelemetryBatch) -> BatchAck:
        size = batch.records.ByteSize()
        count = count_records(batch.records)
        assert batch.records.record_count == count
        committed = BatchCommitted(accepted_count=count, commit_token=f"t{batch.sequence}")
        if batch.sequence in stored.batches:
            assert stored.batches[batch.sequence] == batch.records, "other content"
            return BatchAck(sequence=batch.sequence, duplicate=committed)
        if self.refuse_above_bytes and size > self.refuse_above_bytes:
            stored.refused.add(batch.sequence)
            reason = BatchRefusalReason.BATCH_REFUSAL_REASON_TOO_MANY_BYTES
            return BatchAck(sequence=batch.sequence, refused=BatchRefused(reason=reason))
        self.largest_bytes = max(self.largest_bytes, size)
        for index, event in enumerate(batch.records.events):
            if event.event_name.startswith("bad"):
                verdict = committed.verdicts.add(index=index, kind="RECORD_KIND_EVENT")
                verdict.field_path = "event_name"
                committed.rejected_count += 1
                committed.accepted_count -= 1
        stored.batches[batch.sequence] = batch.records
        return BatchAck(sequence=batch.sequence, committed=committed)

    async def _abort(self, context: Any, act: Act) -> None:
        assert act.code is not None
        if act.reason:
            trailer = status_trailer(act.code, act.reason, retry_after=act.retry_after)
            context.set_trailing_metadata(trailer)
        await context.abort(act.code, act.reason.lower() or "cut")

    async def IngestTelemetry(self, request: Any, context: Any) -> Any:  # noqa: N802
        raise NotImplementedError


class ScriptedServer:
    """The servicer on a loopback port; `stop` and `start` again keep port and contents."""

    def __init__(self) -> None:
        self.ingest = ScriptedIngest()
        # Held, so that nobody on this machine is given it while the server is away.
        self._held = HeldPort.take(HOST, 0)
        self._server: grpc.aio.Server | None = None

    @property
    def target(self) -> str:
        return f"{HOST}:{self._held.port}"

    async def start(self) -> None:
        self._server = grpc.aio.server(options=(("grpc.so_reuseport", 1),))
        add_IngestServiceServicer_to_server(self.ingest, self._server)
        assert self._server.add_insecure_port(self.target) == self._held.port
        await self._server.start()

    async def stop(self) -> None:
        if self._server is not None:
            await self._server.stop(grace=None)
            self._server = None

    async def __aenter__(self) -> Self:
        await self.start()
        return self

    async def __aexit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        self.ingest.open_gate.set()
        await self.stop()
        self._held.release()
