"""Between queue and flush: checks what waits, and makes of the flush's results the answers."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from datetime import UTC, datetime
from typing import assert_never

from fernando_telemetry.domain.errors import DatabaseUnavailable, ProducerFenced, RequestIdReused
from fernando_telemetry.domain.retention import Retention
from fernando_telemetry.domain.verdicts import Tally
from fernando_telemetry.domain.vocabulary import BATCH_REFUSALS
from fernando_telemetry.ingest.checks.context import context_for
from fernando_telemetry.ingest.columnar.decoding import GivenBatch
from fernando_telemetry.ingest.group_check import GroupChecker
from fernando_telemetry.ingest.pending import Outcome, PendingBatch
from fernando_telemetry.ingest.record_check import Refusal
from fernando_telemetry.ingest.rejected import RejectedKeeper
from fernando_telemetry.storage.marks import (
    BatchKey,
    Conflict,
    Fenced,
    FlushBatch,
    PutOff,
    Repeat,
    RequestKey,
    Result,
    Stored,
)
from fernando_telemetry.storage.rejected_records import ReplayKey


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


class PendingCheck:
    """Checks the batches that a writer has taken.

    Args:
        checker: Turns bytes into rows and verdicts.
        retention: Gives which times are accepted now.
        rejected: Keeps rejected records.
        clock: Gives the receive time.
    """

    def __init__(
        self,
        checker: GroupChecker,
        retention: Callable[[], Retention],
        rejected: RejectedKeeper,
        clock: Callable[[], datetime] = lambda: datetime.now(UTC),
    ) -> None:
        self._checker = checker
        self._retention = retention
        self._rejected = rejected
        self._clock = clock

    async def check(self, group: list[PendingBatch]) -> list[CheckedPending]:
        """Check the batches of a group; their bytes are dropped, unless rejected ones are kept."""
        now = self._clock()
        retention = self._retention()
        given: list[GivenBatch] = []
        for batch in group:
            if batch.refused is None:
                given.append(self._given(batch, now, retention))
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

    def _given(self, batch: PendingBatch, now: datetime, retention: Retention) -> GivenBatch:
        context = context_for(now, batch.defaults, retention)
        if batch.received_at is not None:
            context = replace(context, received_at=batch.received_at)
        # The mark of a replay is the kept record itself, which has no digest.
        with_digest = isinstance(batch.key, BatchKey | RequestKey)
        return GivenBatch(batch.records, context, with_digest)

    async def judge(self, batch: PendingBatch) -> Tally | None:
        """Check a batch and store nothing; None where it is refused as a whole."""
        (checked,) = await self.check([batch])
        return None if checked.flush_batch.refusal else checked.flush_batch.tally
