"""Group commit: writers take what waits as one group, check it, flush it and answer it.

There is no timer: an idle writer takes the first batch at once, and while all writers are busy
batches gather behind them, so groups grow with the load. A group's batches stay bytes until a
writer takes them; memory holds 64 MiB of bytes and a few decoded groups, never more.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable
from dataclasses import dataclass

import structlog

from fernando_telemetry.domain.errors import DatabaseUnavailable, Overloaded, Passing
from fernando_telemetry.ingest.admission import ByteBudget
from fernando_telemetry.ingest.batch_queue import BatchQueue
from fernando_telemetry.ingest.counters import IngestCounters
from fernando_telemetry.ingest.pending import PendingBatch
from fernando_telemetry.ingest.pending_check import PendingCheck
from fernando_telemetry.storage.marks import BatchKey
from fernando_telemetry.storage.rejected_records import ReplayKey
from fernando_telemetry.storage.writer import Writer

log = structlog.get_logger(__name__)

# How often it is looked whether batches are overdue.
EXPIRY_INTERVAL_SECONDS = 0.25


class GroupCommit:
    """The queue in front of the writers.

    Args:
        writers: Each runs one flush at a time.
        quick_writers: Likewise, of small batches only.
        budget: Bytes of admitted batches, given back when a batch is answered and dropped.
        counters: Count what happens.
        check: Turns bytes into rows and verdicts.
        group_bytes: A group takes no further batch beyond this many bytes.
        group_batches: A group takes at most this many.
        wait_seconds: How long a stream's batch waits for room while nothing can be committed.
        on_commit: Called behind each commit; must not wait.
    """

    def __init__(
        self,
        writers: list[Writer],
        quick_writers: list[Writer],
        budget: ByteBudget,
        counters: IngestCounters,
        check: PendingCheck,
        *,
        group_bytes: int,
        group_batches: int,
        wait_seconds: float,
        on_commit: Callable[[], None],
    ) -> None:
        self._writers = writers
        self._quick_writers = quick_writers
        self._budget = budget
        self._counters = counters
        self._check = check
        self._group_bytes = group_bytes
        self._group_batches = group_batches
        self._wait_seconds = wait_seconds
        self._on_commit = on_commit
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
            batch.fail(self._trouble())
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
            batch.fail(trouble())
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
            batch.fail(trouble)
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
            checked = await self._check.check(group)
            # A writer that cannot reach the database goes on trying while anybody waits.
            results = await writer.flush(
                [one.flush_batch for one in checked],
                is_wanted=lambda place: not group[place].answer.done(),
                on_refused=self._counters.refused_by_database,
            )
        except Exception as error:
            self._counters.note_problem(str(error))
            answer = error
            if isinstance(error, DatabaseUnavailable):
                # Not the error itself: its traceback leads to this frame, and that to the answers.
                answer = DatabaseUnavailable(str(error), error.retry_after_seconds)
            else:
                log.exception("flush_failed", batches=len(group))
            for batch in group:
                batch.fail(answer)
            return
        self._last_commit = time.monotonic()
        self._on_commit()
        for batch, one, result in zip(group, checked, results, strict=True):
            if result is None:
                continue
            outcome = one.outcome(result)
            if isinstance(outcome, Exception):
                batch.fail(outcome)
                continue
            self._counters.count(outcome, self._last_commit - batch.arrived_at)
            if outcome.status == "committed":
                self._counters.overflowed += one.flush_batch.overflowed
            if not batch.answer.done():
                batch.answer.set_result(outcome)


def _away(seconds: float) -> DatabaseUnavailable:
    return DatabaseUnavailable(
        f"Nothing could be committed for {seconds:g} seconds.", retry_after_seconds=2.0
    )


@dataclass(eq=False, slots=True)
class PendingBatchSet:
    """A group that a writer has taken."""

    batches: list[PendingBatch]
