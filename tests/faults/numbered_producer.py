"""A client of the tests' own: numbers batches, keeps what is not acknowledged, resumes, repeats.

It shares nothing with the SDK's producer but the wire, does on purpose what that one never would
(resend what was acknowledged, cut streams), and keeps a ledger of what it was told.
"""

from __future__ import annotations

import asyncio
import random
import time
from collections.abc import AsyncIterator, Callable
from dataclasses import dataclass, field

from grpc import aio

from fernando.telemetry.client.errors import decode_error
from fernando.telemetry.client.status import CallStatus
from fernando.telemetry.v1 import (
    BatchAck,
    Event,
    EventType,
    GoAway,
    IngestServiceStub,
    StreamHello,
    StreamTelemetryRequest,
    StreamTelemetryResponse,
    StreamWelcome,
    TelemetryBatch,
    TelemetryRecords,
)


def batch_of(producer: str, sequence: int, size: int) -> StreamTelemetryRequest:
    """Make a batch whose rows can be told apart: who, which batch, which record."""
    events = [
        Event(
            event_type=EventType.EVENT_TYPE_SYSTEM_EVENT,
            event_name="torture",
            session_id=producer,
            event_data=f'{{"sequence": {sequence}, "record": {index}}}',
        )
        for index in range(size)
    ]
    records = TelemetryRecords(events=events, record_count=size)
    return StreamTelemetryRequest(batch=TelemetryBatch(sequence=sequence, records=records))


@dataclass
class Ledger:
    """What one producer offered and was told.

    Attributes:
        offered: Records of each batch, by number.
        committed: Numbers acknowledged as committed.
        duplicates: Acks that said duplicate, by number.
        done_through: Everything at or below was acknowledged, or named done by a welcome.
        ends: How streams ended, with the count.
        lives: Start and end (monotonic seconds) of each stream, and how it ended.
    """

    offered: dict[int, int] = field(default_factory=dict)
    committed: set[int] = field(default_factory=set)
    duplicates: dict[int, int] = field(default_factory=dict)
    done_through: int = 0
    acks: int = 0
    streams: int = 0
    ends: dict[str, int] = field(default_factory=dict)
    lives: list[tuple[float, float, str]] = field(default_factory=list)
    went_away: list[GoAway] = field(default_factory=list)


class NumberedProducer:
    """One producer; its streams follow each other.

    Args:
        name: Its producer_id.
        chance: Source of its choices.
        largest_batch: Most events of a batch.
        spoil: Resend what was acknowledged, cut streams, send very old repeats.
        make: Makes a batch of its producer, number and size: the same one each time.
    """

    def __init__(
        self,
        name: str,
        chance: random.Random,
        largest_batch: int = 20,
        *,
        spoil: bool = True,
        make: Callable[[str, int, int], StreamTelemetryRequest] = batch_of,
    ) -> None:
        self.name = name
        self.ledger = Ledger()
        self._chance = chance
        self._largest_batch = largest_batch
        self._spoil = spoil
        self._make = make

    async def run(self, address: str, stop: asyncio.Event) -> None:
        """Send until told to stop; goes on over every stream's end."""
        async with aio.insecure_channel(address, options=RECONNECT_QUICKLY) as channel:
            while not stop.is_set():
                if self._spoil and self._chance.random() < 0.2 and self.ledger.done_through:
                    await self._one_stream(channel, self._very_old(), stop)
                await self._one_stream(channel, self._length(), stop)

    async def finish(self, address: str, seconds: float = 30.0) -> None:
        """Send what is offered and not acknowledged, until all of it is."""
        wanted = max(self.ledger.offered, default=0)
        async with (
            asyncio.timeout(seconds),
            aio.insecure_channel(address, options=RECONNECT_QUICKLY) as channel,
        ):
            while self.ledger.done_through < wanted:
                await self._one_stream(channel, Course(last=wanted), asyncio.Event())

    def _length(self) -> Course:
        if not self._spoil:
            return Course()
        back = self._chance.choice([0, 0, 0, self._chance.randint(1, 10)])
        return Course(
            back=back,
            batches=self._chance.randint(5, 60),
            cut=self._chance.random() < 0.3,
        )

    def _very_old(self) -> Course:
        start = self._chance.randint(1, self.ledger.done_through)
        return Course(back=self.ledger.done_through - start + 1, batches=3)

    async def _one_stream(self, channel: aio.Channel, course: Course, stop: asyncio.Event) -> None:
        ledger = self.ledger
        ledger.streams += 1
        call = IngestServiceStub(channel).StreamTelemetry()
        status = CallStatus(call)
        begun = time.monotonic()
        end, pause = "OK", 0.0
        try:
            await call.write(StreamTelemetryRequest(hello=StreamHello(producer_id=self.name)))
            welcome = await _welcome(call)
            # A number that was acknowledged is never forgotten.
            assert welcome.last_sequence >= ledger.done_through, (welcome, ledger.done_through)
            ledger.done_through = welcome.last_sequence
            await self._converse(call, course, stop)
        except aio.AioRpcError as error:
            failure = decode_error(await status.real(error))
            end = f"{failure.code.name} {failure.reason}".strip()
            if failure.reason in {"DATABASE_UNAVAILABLE", "DRAINING", "OVERLOADED"}:
                assert failure.retry_after_seconds is not None, failure
            pause = min(failure.retry_after_seconds or 0.05, 0.1)
        except (aio.UsageError, asyncio.InvalidStateError, asyncio.CancelledError):
            # The call was cut by this client, or ended between two writes.
            current = asyncio.current_task()
            if current is not None and current.cancelling():
                raise
            end = "cut"
        finally:
            call.cancel()
            ledger.lives.append((begun, time.monotonic(), end))
        ledger.ends[end] = ledger.ends.get(end, 0) + 1
        # The server's hint, shortened: these tests have no time to lose. Not a wait for a state.
        await asyncio.sleep(pause)

    async def _converse(self, call: Call, course: Course, stop: asyncio.Event) -> None:
        welcomed = self.ledger.done_through
        first = max(1, welcomed + 1 - course.back)
        window = asyncio.Semaphore(16)
        leaving = asyncio.Event()
        writing = asyncio.create_task(self._write(call, first, course, window, stop, leaving))
        try:
            through = await self._read(call, first, window, leaving)
            if leaving.is_set():
                # A stream that had taken nothing yet promises what its welcome named.
                done = welcomed if through < first else through
                promised = self.ledger.went_away[-1].last_accepted_sequence
                assert done == promised, f"acks to {through}, promised {promised}"
            await writing
        finally:
            writing.cancel()
            await asyncio.gather(writing, return_exceptions=True)

    async def _write(
        self,
        call: Call,
        first: int,
        course: Course,
        window: asyncio.Semaphore,
        stop: asyncio.Event,
        leaving: asyncio.Event,
    ) -> None:
        offered = self.ledger.offered
        sequence = first
        while sequence - first < course.batches and sequence <= course.last:
            if stop.is_set() or leaving.is_set():
                break
            await window.acquire()
            if stop.is_set() or leaving.is_set():
                break
            size = offered.setdefault(sequence, self._chance.randint(1, self._largest_batch))
            await call.write(self._make(self.name, sequence, size))
            sequence += 1
        if course.cut and not stop.is_set():
            call.cancel()
        else:
            await call.done_writing()

    async def _read(
        self,
        call: Call,
        expected: int,
        window: asyncio.Semaphore,
        leaving: asyncio.Event,
    ) -> int:
        """Note acks until the stream ends; returns the last one's number."""
        ledger = self.ledger
        async for response in call:
            if response.HasField("go_away"):
                ledger.went_away.append(response.go_away)
                leaving.set()
                window.release()
                continue
            ack = response.ack
            assert ack.sequence == expected, f"ack {ack.sequence} where {expected} was due"
            expected += 1
            self._note(ack)
            window.release()
        return expected - 1

    def _note(self, ack: BatchAck) -> None:
        ledger, sequence = self.ledger, ack.sequence
        ledger.acks += 1
        if ack.HasField("committed"):
            assert sequence not in ledger.committed, f"batch {sequence} committed twice"
            assert ack.committed.accepted_count == ledger.offered[sequence]
            assert ack.committed.commit_token
            ledger.committed.add(sequence)
        else:
            assert ack.HasField("duplicate"), ack
            # Zeros and no token where the mark was trimmed.
            known = bool(ack.duplicate.commit_token)
            size = ledger.offered[sequence] if known else 0
            assert ack.duplicate.accepted_count == size, ack
            ledger.duplicates[sequence] = ledger.duplicates.get(sequence, 0) + 1
        ledger.done_through = max(ledger.done_through, sequence)


@dataclass(frozen=True)
class Course:
    """What a stream is to do: how far back it starts, how long it goes on, how it ends."""

    back: int = 0
    batches: int = 1 << 40
    last: int = 1 << 62
    cut: bool = False


Call = aio.StreamStreamCall[StreamTelemetryRequest, StreamTelemetryResponse]

RECONNECT_QUICKLY = (
    ("grpc.initial_reconnect_backoff_ms", 50),
    ("grpc.min_reconnect_backoff_ms", 50),
    ("grpc.max_reconnect_backoff_ms", 200),
    # A channel of its own: channels of one process would share a broken connection.
    ("grpc.use_local_subchannel_pool", 1),
)


async def _welcome(call: Call) -> StreamWelcome:
    responses: AsyncIterator[StreamTelemetryResponse] = call.__aiter__()
    async for response in responses:
        assert response.HasField("welcome"), response
        return response.welcome
    raise AssertionError("the stream ended with OK before its welcome")
