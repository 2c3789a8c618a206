"""The rules of one ingest stream.

Message 1 is the hello. Batches are numbered without gaps; each gets exactly one answer, in order,
and an answer is final. Trouble that may pass is never an answer: the stream ends with it, behind
the answers that came before. At most 16 batches are in flight; while they are, or while the byte
budget is used up, nothing is read and HTTP/2 holds the client.
"""

from __future__ import annotations

import asyncio
import re
import time
from collections import deque
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass
from datetime import datetime
from typing import Final

import structlog
from google.protobuf.message import DecodeError

from fernando.telemetry.v1 import StreamHello
from fernando_telemetry.domain import limits
from fernando_telemetry.domain.digests import bytes_digest
from fernando_telemetry.domain.errors import (
    DatabaseUnavailable,
    Draining,
    HelloRequired,
    InvalidField,
    SequenceGap,
    TelemetryError,
    Undecodable,
)
from fernando_telemetry.ingest import wire
from fernando_telemetry.ingest.admission import Grants
from fernando_telemetry.ingest.checks.context import RecordDefaults
from fernando_telemetry.ingest.defaults import checked_defaults
from fernando_telemetry.ingest.group_commit import GroupCommit
from fernando_telemetry.ingest.pending import Outcome, PendingBatch
from fernando_telemetry.ingest.record_check import Refusal
from fernando_telemetry.storage.marks import BatchKey
from fernando_telemetry.storage.producers import ProducerKey, Producers, ProducerState

log = structlog.get_logger(__name__)

PRODUCER_ID: Final = re.compile(r"[A-Za-z0-9._:/-]{1,128}", re.ASCII)
GREATEST_SEQUENCE: Final = (1 << 63) - 1
MARKS_KEPT: Final = 1_024
TRIM_EVERY: Final = 256
# A producer whose stream is open must not expire, however rarely it sends.
KEEP_EVERY_SECONDS: Final = 86_400.0


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


_Item = _InFlight | GoAway | Exception | None


class IngestStream:
    """One stream, from its hello to its end.

    Args:
        group_commit: Takes the batches.
        producers: Hello, resume and trimming.
        grants: Gives this stream the size of its largest batch.
        now: The clock.
        age_seconds: The stream is sent elsewhere after it; 0: never.
    """

    def __init__(
        self,
        group_commit: GroupCommit,
        producers: Producers,
        grants: Grants,
        now: Callable[[], datetime],
        age_seconds: float,
    ) -> None:
        self._group_commit = group_commit
        self._producers = producers
        self._grants = grants
        self._now = now
        self._age_seconds = age_seconds
        self._items: deque[_Item] = deque()
        self._arrived = asyncio.Event()
        self._window = asyncio.Semaphore(limits.IN_FLIGHT_BATCHES)
        self._accepted = 0
        self._trimmed = 0
        self._leaving = False
        self._reconnect_after_seconds = 0.0
        self._greeting: asyncio.Task[_Greeted] | None = None
        self._reader: asyncio.Task[None] | None = None
        self._trimming: asyncio.Task[None] | None = None
        self._keeping: asyncio.Task[None] | None = None

    def leave(self, reconnect_after_seconds: float) -> None:
        """Read no more, say so to the client, answer what was accepted, then end."""
        if self._leaving:
            return
        self._leaving = True
        self._reconnect_after_seconds = reconnect_after_seconds
        if self._reader is None:
            if self._greeting is not None:
                self._greeting.cancel()
            return
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
        try:
            self._greeting = asyncio.create_task(self._greet(messages), name="ingest-hello")
            greeted = await self._greeted(self._greeting)
            state = greeted.state
            self._accepted = state.last_sequence
            yield Welcome(state, granted, limits.IN_FLIGHT_BATCHES, self._age_seconds)
            if self._leaving:
                yield GoAway(self._accepted, self._reconnect_after_seconds)
                return
            self._reader = asyncio.create_task(
                self._read(messages, greeted, granted), name="ingest-reader"
            )
            self._keeping = asyncio.create_task(self._keep(greeted.producer), name="ingest-keep")
            age: asyncio.TimerHandle | None = None
            if self._age_seconds:
                age = asyncio.get_running_loop().call_later(self._age_seconds, self.leave, 0.0)
            try:
                async for message in self._answer(greeted.producer):
                    yield message
            finally:
                if age is not None:
                    age.cancel()
        finally:
            self._grants.give_back(granted)
            await self._end_tasks()

    async def _end_tasks(self) -> None:
        running = (self._greeting, self._reader, self._trimming, self._keeping)
        tasks = [task for task in running if task is not None]
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
        # A cancelled task leads by its frames to this object and to the batch it held.
        self._greeting = self._reader = self._trimming = self._keeping = None

    async def _greet(self, messages: AsyncIterator[bytes]) -> _Greeted:
        hello = await _read_hello(messages)
        defaults = checked_defaults(hello.defaults)
        producer = _producer(hello, defaults)
        async with self._patience():
            state = await self._producers.hello(producer, fresh=hello.fresh, now=self._now())
        return _Greeted(producer, state, defaults)

    async def _greeted(self, greeting: asyncio.Task[_Greeted]) -> _Greeted:
        try:
            return await greeting
        except asyncio.CancelledError:
            task = asyncio.current_task()
            if self._leaving and task is not None and not task.cancelling():
                sentence = "The server is shutting down."
                raise Draining(sentence, self._reconnect_after_seconds) from None
            raise

    @asynccontextmanager
    async def _patience(self) -> AsyncIterator[None]:
        """Wait for the database no longer than batches are held for it."""
        try:
            async with asyncio.timeout(self._group_commit.wait_seconds):
                yield
        except TimeoutError:
            raise DatabaseUnavailable("The database does not answer.", 2.0) from None

    def _put(self, item: _Item) -> None:
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
            if isinstance(item, Exception):
                try:
                    raise item
                finally:
                    # Its traceback leads to this frame: a circle that would outlive the stream.
                    del item
            if isinstance(item, GoAway):
                yield item
                continue
            outcome = await item.answer
            self._window.release()
            yield Ack(item.sequence, outcome)
            through = item.sequence - MARKS_KEPT
            idle = self._trimming is None or self._trimming.done()
            if idle and through - self._trimmed >= TRIM_EVERY:
                # Beside the answers, which shall not wait for it.
                self._trimming = asyncio.create_task(self._trim(producer, through))

    async def _trim(self, producer: ProducerKey, through: int) -> None:
        """Keep the marks of the last 1,024 batches; everything answered here is contiguous."""
        try:
            await self._producers.trim(producer, through, self._now())
            self._trimmed = through
        except DatabaseUnavailable:
            log.info("trim_put_off", producer_id=producer.producer_id)

    async def _keep(self, producer: ProducerKey) -> None:
        """Note day by day that the producer is in use: what is unused for long expires."""
        while True:
            await asyncio.sleep(KEEP_EVERY_SECONDS)
            try:
                await self._producers.keep(producer, self._now())
            except DatabaseUnavailable:
                log.info("keep_put_off", producer_id=producer.producer_id)

    async def _read(self, messages: AsyncIterator[bytes], greeted: _Greeted, granted: int) -> None:
        try:
            first = True
            async for message in messages:
                arrived = time.monotonic()
                batch = _read_batch(message, granted)
                # From here on the bytes are held once, in the batch.
                del message
                await self._check_number(greeted, batch.sequence, first=first)
                first = False
                await self._window.acquire()
                admitted = await self._group_commit.wait_for_room(len(batch.records), arrived)
                self._submit(greeted, batch, admitted, arrived)
                del batch
            self._put(None)
        except TelemetryError as error:
            # Without the traceback, whose frames hold the batch.
            self._put(error.with_traceback(None))
        except Exception as error:  # noqa: BLE001 - the answering side raises it
            self._put(error)

    async def _check_number(self, greeted: _Greeted, sequence: int, *, first: bool) -> None:
        expected = self._accepted + 1
        if not 1 <= sequence <= GREATEST_SEQUENCE:
            raise InvalidField("batch.sequence", "must be 1 to 2^63 - 1")
        if not first and sequence != expected:
            raise SequenceGap(expected, sequence)
        if first and sequence > expected:
            if greeted.state.known:
                raise SequenceGap(expected, sequence)
            async with self._patience():
                epoch = greeted.state.epoch
                await self._producers.start_at(greeted.producer, epoch, sequence, self._now())

    def _submit(self, greeted: _Greeted, batch: _Batch, admitted: int, arrived: float) -> None:
        producer = greeted.producer
        pending = PendingBatch(
            BatchKey(producer, batch.sequence, greeted.state.epoch),
            producer.shard,
            greeted.defaults,
            batch.records,
            batch.refused,
            admitted,
            self._group_commit.wait_seconds,
            arrived,
            batch.digest,
        )
        self._group_commit.submit(pending)
        self._accepted = batch.sequence
        self._put(_InFlight(batch.sequence, pending.answer))


@dataclass(frozen=True, slots=True)
class _Greeted:
    producer: ProducerKey
    state: ProducerState
    defaults: RecordDefaults


@dataclass(frozen=True, slots=True)
class _Batch:
    sequence: int
    records: bytes
    refused: Refusal | None
    digest: bytes | None


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


def _read_batch(message: bytes, granted: int) -> _Batch:
    arm, content = _parse(message)
    if arm == "hello":
        raise HelloRequired("a stream has one hello, as its first message")
    if arm is None:
        raise Undecodable("a message is neither hello nor batch")
    sequence: int = content.sequence  # type: ignore[attr-defined]
    records: bytes = wire.joined(content.records)  # type: ignore[attr-defined]
    if len(records) > granted:
        detail = f"{len(records)} bytes where this stream may send {granted}"
        digest = bytes_digest(records)
        return _Batch(sequence, b"", Refusal("too_many_bytes", detail), digest)
    return _Batch(sequence, records, None, None)


def _producer(hello: StreamHello, defaults: RecordDefaults) -> ProducerKey:
    if PRODUCER_ID.fullmatch(hello.producer_id) is None:
        raise InvalidField("hello.producer_id", "1 to 128 of the characters A-Z a-z 0-9 . _ : / -")
    return ProducerKey(defaults.license_id, hello.producer_id)
