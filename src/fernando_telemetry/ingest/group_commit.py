"""Group commit: writers take what waits as one group, check it, flush it and answer it.

There is no timer: an idle writer takes the first batch at once, and while all writers are busy
batches gather behind them, so groups grow with the load. A group's batches stay bytes until a
writer takes them; memory holds 64 MiB of bytes and a few decoded groups, never more.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime
from typing import Literal, assert_never

import structlog

from fernando_telemetry.domain.errors import (
    DatabaseUnavailable,
    Overloaded,
    Passing,
    ProducerFenced,
    RequestIdReused,
)
from fernando_telemetry.domain.verdicts import Tally
from fernando_telemetry.domain.vocabulary import BATCH_REFUSALS
from fernando_telemetry.ingest.admission import ByteBudget
from fernando_telemetry.ingest.batch_queue import BatchQueue
from fernando_telemetry.ingest.checks.context import RecordDefaults, Retention, context_for
from fernando_telemetry.ingest.columnar.decoding import GivenBatch
from fernando_telemetry.ingest.counters import IngestCounters
from fernando_telemetry.ingest.group_check import GroupChecker
from fernando_telemetry.ingest.record_check import Refusal
from fernando_telemetry.ingest.rejected import RejectedKeeper
from fernando_telemetry.storage.marks import (
    BatchKey,
    Conflict,
    Fenced,
    FlushBatch,
    Key,
    PutOff,
    Repeat,
    RequestKey,
    Result,
    Stored,
)
from fernando_telemetry.storage.rejected_records import ReplayKey
from fernando_telemetry.storage.writer import Writer

log = structlog.get_logger(__name__)

# How often it is looked whether batches are overdue.
EXPIRY_INTERVAL_SECONDS = 0.25


@dataclass(frozen=True, slots=True)
class Outcome:
    """The final answer to one batch.

    Attributes:
        status: What became of it.
        tally: Counts and verdicts; of a duplicate the first counts, without verdicts.
        flush_id: The flush that holds it; None for a repeat whose mark was trimmed.
        refusal: Word of BatchRefusalReason where it was refused.
        detail: A sentence to the refusal.
    """

    status: Literal["committed", "duplicate", "refused"]
    tally: Tally
    flush_id: int | None
    refusal: str = ""
    detail: str = ""


@dataclass(slots=True)
class PendingBatch:
    """An admitted batch.

    Attributes:
        records: Bytes of its TelemetryRecords; empty where they were too many to be kept.
        refused: Why it is refused before its bytes are looked at.
        admitted_bytes: What the budget gets back.
        patience_seconds: How long it is held while nothing can be committed.
        arrived_at: When it came, before it waited for room (time.monotonic()).
        digest: Digest of bytes that were not kept.
        received_at: Receive time of a record that is replayed; None: now.
    """

    key: Key | None
    shard: int
    defaults: RecordDefaults
    records: bytes
    refused: Refusal | None
    admitted_bytes: int
    patience_seconds: float
    arrived_at: float
    digest: bytes | None = None
    received_at: datetime | None = None
    answer: asyncio.Future[Outcome] = field(
        default_factory=lambda: asyncio.get_running_loop().create_future()
    )


class GroupCommit:
    """The queue in front of the writers.

    Args:
        writers: Each runs one flush at a time.
        quick_writers: Likewise, of small batches only.
        budget: Bytes of admitted batches, given back when a batch is answered and dropped.
        retention: Which times are accepted.
        counters: Count what happens.
        checker: Turns bytes into rows and verdicts.
        group_bytes: A group takes no further batch beyond this many bytes.
        group_batches: A group takes at most this many.
        wait_seconds: How long a stream's batch waits for room while nothing can be committed.
        rejected: Keeps rejected records.
        clock: Gives the receive time.
    """

    def __init__(
        self,
        writers: list[Writer],
        quick_writers: list[Writer],
        budget: ByteBudget,
        retention: Retention,
        counters: IngestCounters,
        checker: GroupChecker,
        *,
        group_bytes: int,
        group_batches: int,
        wait_seconds: float,
        rejected: RejectedKeeper,
        clock: Callable[[], datetime] = lambda: datetime.now(UTC),
    ) -> None:
        self._writers = writers
        self._quick_writers = quick_writers
        self._budget = budget
        self._retention = retention
        self._counters = counters
        self._checker = checker
        self._group_bytes = group_bytes
        self._group_batches = group_batches
        self._wait_seconds = wait_seconds
        self._rejected = rejected
        self._clock = clock
        self._queue: BatchQueue[PendingBatch] = BatchQueue()
        self._running: set[PendingBatchSet] = set()
        self._idle = asyncio.Event()
        self._idle.set()
        self._last_commit = time.monotonic()
        self._trouble: Callable[[], Passing] | None = None

    @property
    def wait_seconds(self) -> float:
        """How long a stream's batch is held while nothing can be committed."""
        return self._wait_seconds

    @property
    def queued_bytes(self) -> int:
        """Bytes of all admitted batches, those being flushed included."""
        return self._budget.used

    def submit(self, batch: PendingBatch) -> None:
        """Queue an admitted batch; its `answer` is set when it is final."""
        if self._trouble is not None:
            self._budget.release(batch.admitted_bytes)
            _fail(batch, self._trouble())
            return
        self._queue.put(batch)
        self._idle.clear()

    def refuse(self, trouble: Callable[[], Passing] | None) -> None:
        """Refuse what comes, and what no writer has taken yet, until called with None.

        Args:
            trouble: Makes the error of each batch that is refused.
        """
        self._trouble = trouble
        if trouble is None:
            return
        for batch in self._queue.remove(lambda _: True):
            self._budget.release(batch.admitted_bytes)
            _fail(batch, trouble())
        self._note_idle()

    def require_open(self) -> None:
        """Refuse a call before it costs anything.

        Raises:
            Passing: As told to `refuse`.
        """
        if self._trouble is not None:
            raise self._trouble()

    async def drained(self) -> None:
        """Wait until every submitted batch has its answer."""
        await self._idle.wait()

    async def run(self) -> None:
        """Write until cancelled."""
        async with asyncio.TaskGroup() as tasks:
            for writer in self._writers:
                tasks.create_task(self._write(writer, small_only=False))
            for writer in self._quick_writers:
                tasks.create_task(self._write(writer, small_only=True))
            tasks.create_task(self._expire())

    async def wait_for_room(self, amount: int, arrived: float) -> int:
        """Take budget for a batch; ends when nothing has been committed for the wait's length.

        Args:
            amount: Bytes.
            arrived: When the batch came (time.monotonic()): its wait began there.

        Raises:
            DatabaseUnavailable: The database was away for all of the wait.
        """
        taken = self._budget.take_at_once(amount)
        if taken is not None:
            return taken
        # A task of its own keeps its place in the line over the looks at the clock.
        turn = asyncio.create_task(self._budget.acquire(amount))
        try:
            while not turn.done() and not self._is_overdue(arrived, self._wait_seconds):
                await asyncio.wait({turn}, timeout=EXPIRY_INTERVAL_SECONDS)
        except asyncio.CancelledError:
            if turn.done():
                self._budget.release(turn.result())
            turn.cancel()
            raise
        # Room that comes when others have given up comes too late for this one as well.
        if turn.done() and not self._is_overdue(arrived, self._wait_seconds):
            return turn.result()
        if turn.done():
            self._budget.release(turn.result())
        turn.cancel()
        raise _away(self._wait_seconds)

    def _is_overdue(self, since: float, patience_seconds: float) -> bool:
        now = time.monotonic()
        return now - since >= patience_seconds and now - self._last_commit >= patience_seconds

    async def _expire(self) -> None:
        while True:
            await asyncio.sleep(EXPIRY_INTERVAL_SECONDS)
            self._give_up_overdue()

    def _give_up_overdue(self) -> None:
        """Answer batches that were held for too long.

        The bytes of those that a writer has taken are given back when it drops them, so the
        budget stays true.
        """
        waiting = [(batch, self._trouble_of_waiting(batch)) for batch in self._queue.batches()]
        taken = [
            (batch, self._trouble_of(batch)) for group in self._running for batch in group.batches
        ]
        overdue = [(batch, trouble) for batch, trouble in waiting + taken if trouble is not None]
        if not overdue:
            return
        for batch, trouble in overdue:
            _fail(batch, trouble)
        for batch in self._queue.remove(lambda batch: batch.answer.done()):
            self._budget.release(batch.admitted_bytes)
        self._note_idle()

    def _trouble_of(self, batch: PendingBatch) -> Passing | None:
        if self._is_overdue(batch.arrived_at, batch.patience_seconds):
            return _away(batch.patience_seconds)
        return None

    def _trouble_of_waiting(self, batch: PendingBatch) -> Passing | None:
        trouble = self._trouble_of(batch)
        is_call = not isinstance(batch.key, BatchKey | ReplayKey)
        waited = time.monotonic() - batch.arrived_at
        # Streams and replays wait while others are committed, a call does not: its client may be
        # gone.
        if trouble is None and is_call and waited >= batch.patience_seconds:
            return Overloaded("More waits than the database takes at present.", 1.0)
        return trouble

    def _note_idle(self) -> None:
        if not self._queue and not self._running:
            self._idle.set()

    async def _write(self, writer: Writer, *, small_only: bool) -> None:
        try:
            while True:
                await self._queue.wait(small_only=small_only)
                group = PendingBatchSet(
                    self._queue.take(self._group_bytes, self._group_batches, small_only=small_only)
                )
                if not group.batches:
                    continue
                self._running.add(group)
                try:
                    await self._commit(writer, group.batches)
                finally:
                    self._running.discard(group)
                    for batch in group.batches:
                        self._budget.release(batch.admitted_bytes)
                    self._note_idle()
                    # An idle writer must not hold the bytes of its latest group.
                    del group, batch
        finally:
            await writer.close()

    async def _commit(self, writer: Writer, group: list[PendingBatch]) -> None:
        """Check a group, flush it, and answer its batches whatever happens."""
        try:
            # Decoded, a batch is ten times its size: not before the database can take it.
            await writer.reach(is_wanted=lambda: any(not batch.answer.done() for batch in group))
            group = [batch for batch in group if not batch.answer.done()]
            if not group:
                return
            checked = await self._check(group)
            # A writer that cannot reach the database goes on trying while anybody waits.
            results = await writer.flush(
                [one.flush_batch for one in checked],
                is_wanted=lambda place: not group[place].answer.done(),
                on_refused=self._counters.refused_by_database,
            )
        except Exception as error:
            self._counters.last_problem = f"{self._clock().isoformat()}: {error}"
            answer = error
            if isinstance(error, DatabaseUnavailable):
                # Not the error itself: its traceback leads to this frame, and that to the answers.
                answer = DatabaseUnavailable(str(error), error.retry_after_seconds)
            else:
                log.exception("flush_failed", batches=len(group))
            for batch in group:
                _fail(batch, answer)
            return
        self._last_commit = time.monotonic()
        for batch, one, result in zip(group, checked, results, strict=True):
            if result is None:
                continue
            outcome = one.outcome(result)
            if isinstance(outcome, Exception):
                _fail(batch, outcome)
                continue
            self._counters.count(outcome, self._last_commit - batch.arrived_at)
            if outcome.status == "committed":
                self._counters.overflowed += one.flush_batch.overflowed
            if not batch.answer.done():
                batch.answer.set_result(outcome)

    async def _check(self, group: list[PendingBatch]) -> list[CheckedPending]:
        """Check the batches of a group; their bytes are dropped, unless rejected ones are kept."""
        now = self._clock()
        given: list[GivenBatch] = []
        for batch in group:
            if batch.refused is None:
                given.append(self._given(batch, now))
            batch.records = b""
        found = await self._checker.check(given, self._rejected.tally)
        results = iter(zip(given, found, strict=True))
        checked: list[CheckedPending] = []
        for batch in group:
            flush_batch = FlushBatch(batch.key, batch.shard, digest=batch.digest)
            if batch.refused is not None:
                checked.append(CheckedPending(flush_batch, Tally(), batch.refused))
                continue
            one, result = next(results)
            flush_batch.digest = result.digest
            checked.append(CheckedPending(flush_batch, result.tally, result.refused))
            if result.refused is None:
                flush_batch.rows, flush_batch.slices = result.rows, result.slices
                await self._rejected.attach(flush_batch, one.data, one.context)
        return checked

    def _given(self, batch: PendingBatch, now: datetime) -> GivenBatch:
        context = context_for(now, batch.defaults, self._retention)
        if batch.received_at is not None:
            context = replace(context, received_at=batch.received_at)
        # The mark of a replay is the kept record itself, which has no digest.
        with_digest = isinstance(batch.key, BatchKey | RequestKey)
        return GivenBatch(batch.records, context, with_digest)

    async def judge(self, batch: PendingBatch) -> Tally | None:
        """Check a batch and store nothing; None where it is refused as a whole."""
        (checked,) = await self._check([batch])
        return None if checked.flush_batch.refusal else checked.flush_batch.tally


def _fail(batch: PendingBatch, trouble: Exception) -> None:
    """Answer a batch that has no answer yet."""
    if batch.answer.done():
        return
    batch.answer.set_exception(trouble)
    # A client that is gone reads no answer, which is no fault of the loop.
    batch.answer.exception()


def _away(seconds: float) -> DatabaseUnavailable:
    return DatabaseUnavailable(
        f"Nothing could be committed for {seconds:g} seconds.", retry_after_seconds=2.0
    )


@dataclass(eq=False, slots=True)
class PendingBatchSet:
    """A group that a writer has taken."""

    batches: list[PendingBatch]


class CheckedPending:
    """A batch after its checks: what goes to the flush, and what the ack will say."""

    def __init__(self, flush_batch: FlushBatch, tally: Tally, refused: Refusal | None) -> None:
        self.flush_batch = flush_batch
        self._tally = tally
        self._refused = refused
        flush_batch.tally = tally
        if refused is not None:
            flush_batch.refusal = BATCH_REFUSALS.index(refused.reason) + 1
            if isinstance(flush_batch.key, RequestKey | ReplayKey):
                # A number is used up by a refusal, a request_id is not: mended records under it
                # would be answered as a repeat and lost. A kept record stays.
                flush_batch.key = None

    def outcome(
        self, result: Result
    ) -> Outcome | ProducerFenced | RequestIdReused | DatabaseUnavailable:
        """Join the flush's answer with the checks'; an error is what the call ends with."""
        match result:
            case Fenced():
                key = self.flush_batch.key
                assert isinstance(key, BatchKey)
                return ProducerFenced(key.producer.producer_id, key.epoch)
            case PutOff():
                return DatabaseUnavailable("A partition is being dropped.", 2.0)
            case Conflict():
                if isinstance(self.flush_batch.key, RequestKey):
                    return RequestIdReused("The request_id came with other content before.")
                detail = "the number is known with other content"
                return Outcome("refused", Tally(), result.flush_id, "sequence_conflict", detail)
            case Repeat(refusal=int() as refusal):
                word = BATCH_REFUSALS[refusal - 1]
                return Outcome("refused", Tally(), result.flush_id, word, "refused the first time")
            case Repeat():
                first = Tally(result.accepted, result.rejected, result.adjusted)
                return Outcome("duplicate", first, result.flush_id)
            case Stored():
                pass
            case _:
                assert_never(result)
        if self._refused is not None:
            return Outcome(
                "refused", Tally(), result.flush_id, self._refused.reason, self._refused.detail
            )
        return Outcome("committed", self._tally, result.flush_id)
