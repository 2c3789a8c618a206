"""The rules of one ingest stream.

Message 1 is the hello. Batches are numbered without gaps; each gets exactly one answer, in order,
and an answer is final. Trouble that may pass is never an answer: the stream ends with it, behind
the answers that came before. At most 16 batches are in flight; while they are, or while the byte
budget is used up, nothing is read and HTTP/2 holds the client.
"""

from __future__ import annotations

import asyncio
import re
from collections import deque
from collections.abc import AsyncIterator, Callable
from dataclasses import dataclass
from datetime import datetime
from typing import Final

import structlog
from google.protobuf.message import DecodeError

from fernando.telemetry.v1 import StreamHello
from fernando_telemetry.domain import limits
from fernando_telemetry.domain.errors import (
    DatabaseUnavailable,
    HelloRequired,
    InvalidField,
    SequenceGap,
    TelemetryError,
    Undecodable,
)
from fernando_telemetry.ingest import wire
from fernando_telemetry.ingest.admission import ByteBudget, Grants
from fernando_telemetry.ingest.checks.context import RecordDefaults
from fernando_telemetry.ingest.decode import Refusal
from fernando_telemetry.ingest.defaults import checked_defaults
from fernando_telemetry.ingest.group_commit import GroupCommit, Outcome, PendingBatch
from fernando_telemetry.storage.flush import BatchKey
from fernando_telemetry.storage.producers import ProducerKey, Producers, ProducerState

log = structlog.get_logger(__name__)

PRODUCER_ID: Final = re.compile(r"[A-Za-z0-9._:/-]{1,128}", re.ASCII)
GREATEST_SEQUENCE: Final = (1 << 63) - 1
MARKS_KEPT: Final = 1_024
TRIM_EVERY: Final = 256


@dataclass(frozen=True, slots=True)
class Welcome:
    """The answer to the hello."""

    state: ProducerState
    max_batch_bytes: int
    max_in_flight_batches: int
    max_stream_age_seconds: float


@dataclass(frozen=True, slots=True)
class Ack:
    """The final answer to one batch."""

    sequence: int
    outcome: Outcome


@dataclass(frozen=True, slots=True)
class GoAway:
    """The client shall reconnect, and resend above this number; acks up to it still follow."""

    last_accepted_sequence: int
    reconnect_after_seconds: float


Message = Welcome | Ack | GoAway


@dataclass(frozen=True, slots=True)
class _InFlight:
    sequence: int
    answer: asyncio.Future[Outcome]


class IngestStream:
    """One stream, from its hello to its end.

    Args:
        group_commit: Takes the batches.
        producers: Hello, resume and trimming.
        budget: Byte budget of admitted batches.
        grants: Gives this stream the size of its largest batch.
        now: The clock.
        age_seconds: The stream is sent elsewhere after it; 0: never.
    """

    def __init__(
        self,
        group_commit: GroupCommit,
        producers: Producers,
        budget: ByteBudget,
        grants: Grants,
        now: Callable[[], datetime],
        age_seconds: float,
    ) -> None:
        self._group_commit = group_commit
        self._producers = producers
        self._budget = budget
        self._grants = grants
        self._now = now
        self._age_seconds = age_seconds
        self._items: deque[_InFlight | GoAway | TelemetryError | None] = deque()
        self._arrived = asyncio.Event()
        self._window = asyncio.Semaphore(limits.IN_FLIGHT_BATCHES)
        self._accepted = 0
        self._trimmed = 0
        self._leaving = False
        self._reader: asyncio.Task[None] | None = None

    def leave(self, reconnect_after_seconds: float) -> None:
        """Read no more, say so to the client, answer what was accepted, then end."""
        if self._leaving or self._reader is None:
            return
        self._leaving = True
        self._reader.cancel()
        self._put(GoAway(self._accepted, reconnect_after_seconds))
        self._put(None)

    async def run(self, messages: AsyncIterator[bytes]) -> AsyncIterator[Message]:
        """Answer a stream's messages.

        Args:
            messages: Bytes of StreamTelemetryRequest, as they come.

        Yields:
            The welcome, then acks in order; a GoAway where the server wants to be left.

        Raises:
            TelemetryError: The stream is over; what was not answered may be sent again.
        """
        granted = self._grants.grant()
        reader: asyncio.Task[None] | None = None
        try:
            hello = await _read_hello(messages)
            defaults = checked_defaults(hello.defaults)
            producer = _producer(hello, defaults)
            state = await self._producers.hello(producer, fresh=hello.fresh, now=self._now())
            yield Welcome(state, granted, limits.IN_FLIGHT_BATCHES, self._age_seconds)
            self._accepted = state.last_sequence
            reader = asyncio.create_task(
                self._read(messages, producer, state, defaults, granted), name="ingest-reader"
            )
            self._reader = reader
            if self._age_seconds:
                age = asyncio.get_running_loop().call_later(self._age_seconds, self.leave, 0.0)
                try:
                    async for message in self._answer(producer):
                        yield message
                finally:
                    age.cancel()
            else:
                async for message in self._answer(producer):
                    yield message
        finally:
            self._grants.give_back(granted)
            if reader is not None:
                reader.cancel()
                await asyncio.gather(reader, return_exceptions=True)

    def _put(self, item: _InFlight | GoAway | TelemetryError | None) -> None:
        self._items.append(item)
        self._arrived.set()

    async def _answer(self, producer: ProducerKey) -> AsyncIterator[Message]:
        while True:
            while not self._items:
                self._arrived.clear()
                await self._arrived.wait()
            item = self._items.popleft()
            if item is None:
                return
            if isinstance(item, TelemetryError):
                raise item
            if isinstance(item, GoAway):
                yield item
                continue
            outcome = await item.answer
            self._window.release()
            yield Ack(item.sequence, outcome)
            await self._trim(producer, item.sequence)

    async def _trim(self, producer: ProducerKey, acknowledged: int) -> None:
        """Keep the marks of the last 1,024 batches; everything answered here is contiguous."""
        through = acknowledged - MARKS_KEPT
        if through - self._trimmed < TRIM_EVERY:
            return
        try:
            await self._producers.trim(producer, through, self._now())
            self._trimmed = through
        except DatabaseUnavailable:
            log.info("trim_put_off", producer_id=producer.producer_id)

    async def _read(
        self,
        messages: AsyncIterator[bytes],
        producer: ProducerKey,
        state: ProducerState,
        defaults: RecordDefaults,
        granted: int,
    ) -> None:
        try:
            first = True
            async for message in messages:
                batch = _read_batch(message)
                await self._check_number(producer, state, batch.sequence, first=first)
                first = False
                await self._window.acquire()
                await self._submit(producer, batch, defaults, granted, len(message))
                del message, batch
            self._put(None)
        except TelemetryError as error:
            self._put(error)

    async def _check_number(
        self, producer: ProducerKey, state: ProducerState, sequence: int, *, first: bool
    ) -> None:
        expected = self._accepted + 1
        if not 1 <= sequence <= GREATEST_SEQUENCE:
            raise InvalidField("batch.sequence", "must be 1 to 2^63 - 1")
        if not first and sequence != expected:
            raise SequenceGap(expected, sequence)
        if first and sequence > expected:
            if state.known:
                raise SequenceGap(expected, sequence)
            await self._producers.start_at(producer, sequence, self._now())

    async def _submit(
        self,
        producer: ProducerKey,
        batch: _Batch,
        defaults: RecordDefaults,
        granted: int,
        message_bytes: int,
    ) -> None:
        refused: Refusal | None = None
        records = batch.records
        if len(records) > granted:
            detail = f"{len(records)} bytes where this stream may send {granted}"
            refused, records = Refusal("too_many_bytes", detail), b""
            message_bytes = 0
        admitted = await self._group_commit.wait_for_room(message_bytes)
        pending = PendingBatch(
            BatchKey(producer, batch.sequence),
            producer.shard,
            defaults,
            records,
            refused,
            admitted,
            self._group_commit.wait_seconds,
        )
        self._group_commit.submit(pending)
        self._accepted = batch.sequence
        self._put(_InFlight(batch.sequence, pending.answer))


@dataclass(frozen=True, slots=True)
class _Batch:
    sequence: int
    records: bytes


def _parse(message: bytes) -> tuple[str | None, object]:
    try:
        request = wire.RawStreamRequest.FromString(message)
    except DecodeError:
        raise Undecodable("a message does not parse as StreamTelemetryRequest") from None
    arm = request.WhichOneof("message")
    return arm, getattr(request, arm) if arm else None


async def _read_hello(messages: AsyncIterator[bytes]) -> StreamHello:
    async for message in messages:
        arm, content = _parse(message)
        if arm != "hello":
            raise HelloRequired("the first message of a stream must be its hello")
        assert isinstance(content, bytes)
        try:
            return StreamHello.FromString(content)
        except DecodeError:
            raise Undecodable("the hello does not parse as StreamHello") from None
    raise HelloRequired("the stream ended before its hello")


def _read_batch(message: bytes) -> _Batch:
    arm, content = _parse(message)
    if arm == "hello":
        raise HelloRequired("a stream has one hello, as its first message")
    if arm is None:
        raise Undecodable("a message is neither hello nor batch")
    return _Batch(content.sequence, wire.joined(content.records))  # type: ignore[attr-defined]


def _producer(hello: StreamHello, defaults: RecordDefaults) -> ProducerKey:
    if PRODUCER_ID.fullmatch(hello.producer_id) is None:
        raise InvalidField("hello.producer_id", "1 to 128 of the characters A-Z a-z 0-9 . _ : / -")
    return ProducerKey(defaults.license_id, hello.producer_id)
