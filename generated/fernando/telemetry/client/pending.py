"""The batches a producer still answers for: queued, or numbered and not yet acknowledged.

Kept as wire bytes: their memory is what it says, a resend costs nothing and is equal to the
first try byte for byte, by which the server knows a repeat at once.
"""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Final

from fernando.telemetry.client.receipts import Receipt
from fernando.telemetry.client.splitting import Offsets, count_records, halve
from fernando.telemetry.v1 import (
    BatchAck,
    BatchRefusalReason,
    BatchRefused,
    TelemetryRecords,
)

# The contract's largest batch. A record beyond it can never be stored, and beyond 16 MiB gRPC
# itself would end the stream, again at each resend.
LARGEST_BATCH_BYTES: Final = 8 * 1024 * 1024

# Refusals that say nothing against the records themselves: halves of the batch may be accepted.
_TOO_LARGE: Final = frozenset(
    {
        BatchRefusalReason.BATCH_REFUSAL_REASON_TOO_MANY_BYTES,
        BatchRefusalReason.BATCH_REFUSAL_REASON_TOO_MANY_RECORDS,
    }
)


@dataclass(slots=True, eq=False)
class PendingBatch:
    """One batch: `payload` is a serialised TelemetryRecords; `sequence` 0 is not numbered yet."""

    payload: bytes
    record_count: int
    receipt: Receipt
    offsets: Offsets = field(default_factory=dict)
    sequence: int = 0

    def halves(self) -> tuple[PendingBatch, PendingBatch]:
        """Split by records; the receipt waits for one ack more."""
        left, right, cuts = halve(TelemetryRecords.FromString(self.payload))
        moved: dict[int, int] = {
            kind: cut + self.offsets.get(kind, 0) for kind, cut in cuts.items()
        }
        self.receipt.part_split()
        return (
            PendingBatch(left.SerializeToString(), left.record_count, self.receipt, self.offsets),
            PendingBatch(right.SerializeToString(), right.record_count, self.receipt, moved),
        )


class PendingBatches:
    """Queue and window of a producer, bounded in batches and bytes.

    Everything runs on one event loop. `changed` is set whenever the writer may have something
    to do; `next_sequence` is the number the next batch gets; `finishing` says that no more will
    come, so that a stream with nothing left to send may half-close.
    """

    def __init__(self, max_batches: int, max_bytes: int) -> None:
        self._max_batches = max_batches
        self._max_bytes = max_bytes
        self._queued: deque[PendingBatch] = deque()
        self._numbered: dict[int, PendingBatch] = {}
        self._bytes = 0
        self._turn = asyncio.Lock()
        self._room = asyncio.Event()
        self._failure: Exception | None = None
        self.changed = asyncio.Event()
        self.next_sequence = 1
        self.finishing = False

    def __len__(self) -> int:
        return len(self._queued) + len(self._numbered)

    @property
    def size_bytes(self) -> int:
        """Payload bytes of all batches."""
        return self._bytes

    @property
    def failure(self) -> Exception | None:
        """What `fail` was given, if it was called."""
        return self._failure

    async def admit(self, records: TelemetryRecords) -> Receipt:
        """Wait for room, then queue; callers are served in the order they came.

        What is larger than all the room there is waits for an empty queue. Cancelling a waiter
        queues nothing.

        Raises:
            Exception: What `fail` was given.
        """
        records.record_count = count_records(records)
        payload = records.SerializeToString()
        async with self._turn:
            while self._failure is None and not self._fits(len(payload)):
                self._room.clear()
                await self._room.wait()
            if self._failure is not None:
                raise self._failure
            batch = PendingBatch(payload, records.record_count, Receipt())
            self._queued.append(batch)
            self._bytes += len(payload)
            self.changed.set()
            return batch.receipt

    def _fits(self, size: int) -> bool:
        count = len(self)
        return count == 0 or (count < self._max_batches and self._bytes + size <= self._max_bytes)

    def unacknowledged(self) -> Sequence[PendingBatch]:
        """Give the numbered batches by rising number: what a new stream sends first."""
        return tuple(self._numbered.values())

    def number_next(self, max_bytes: int, max_records: int) -> PendingBatch | None:
        """Number the next queued batch, halved until it is within the limits; None: no batch."""
        while self._queued:
            batch = self._queued.popleft()
            if batch.record_count > 1 and (
                len(batch.payload) > max_bytes or batch.record_count > max_records
            ):
                self._requeue_halves(batch)
            elif len(batch.payload) > LARGEST_BATCH_BYTES:
                self._refuse(batch)
            else:
                batch.sequence = self.next_sequence
                self.next_sequence += 1
                self._numbered[batch.sequence] = batch
                return batch
        return None

    def acknowledge(self, ack: BatchAck) -> bool:
        """Complete the batch the ack is for; False: no such batch is waiting."""
        batch = self._numbered.pop(ack.sequence, None)
        if batch is None:
            return False
        refused = ack.WhichOneof("outcome") == "refused"
        if refused and ack.refused.reason in _TOO_LARGE and batch.record_count > 1:
            # The grant shrank after the batch was cut. Its number is used up and nothing of it
            # is stored, so the halves are new batches.
            self._requeue_halves(batch)
        else:
            self._forget(batch)
            batch.receipt.part_acknowledged(ack, batch.offsets)
        self.changed.set()
        return True

    def forget_numbers(self) -> None:
        """Put the numbered batches back in front of the queue, to be numbered anew."""
        for batch in reversed(self._numbered.values()):
            batch.sequence = 0
            self._queued.appendleft(batch)
        self._numbered.clear()

    def finish(self) -> None:
        """Say that no more will be admitted."""
        self.finishing = True
        self.changed.set()

    def receipts(self) -> list[Receipt]:
        """Give the receipts that are not done, oldest first."""
        batches = (*self._numbered.values(), *self._queued)
        return list(dict.fromkeys(batch.receipt for batch in batches))

    def fail(self, error: Exception) -> None:
        """End all receipts and all waiting or later `admit` with this error."""
        if self._failure is None:
            self._failure = error
        for receipt in self.receipts():
            receipt.fail(error)
        self._queued.clear()
        self._numbered.clear()
        self._bytes = 0
        self._room.set()
        self.changed.set()

    def _requeue_halves(self, batch: PendingBatch) -> None:
        left, right = batch.halves()
        self._queued.extendleft((right, left))
        self._bytes += len(left.payload) + len(right.payload) - len(batch.payload)

    def _refuse(self, batch: PendingBatch) -> None:
        self._forget(batch)
        reason = BatchRefusalReason.BATCH_REFUSAL_REASON_TOO_MANY_BYTES
        detail = f"a record of {len(batch.payload)} bytes does not fit any batch; it was not sent"
        refused = BatchRefused(reason=reason, detail=detail)
        batch.receipt.part_acknowledged(BatchAck(refused=refused), batch.offsets)

    def _forget(self, batch: PendingBatch) -> None:
        self._bytes -= len(batch.payload)
        self._room.set()
