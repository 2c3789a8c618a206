"""A batch that waits in front of the writers, and its answer."""

from __future__ import annotations

import asyncio
from dataclasses import dataclass, field
from datetime import datetime
from typing import Literal

from fernando_telemetry.domain.verdicts import Tally
from fernando_telemetry.ingest.checks.context import RecordDefaults
from fernando_telemetry.ingest.record_check import Refusal
from fernando_telemetry.storage.marks import Key


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

    def fail(self, trouble: Exception) -> None:
        """Answer with trouble where there is no answer yet."""
        if self.answer.done():
            return
        self.answer.set_exception(trouble)
        # A client that is gone reads no answer, which is no fault of the loop.
        self.answer.exception()
