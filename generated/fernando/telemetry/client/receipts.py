"""What a sender gets back: a receipt that becomes an acknowledgement."""

from __future__ import annotations

import asyncio
from collections.abc import Generator
from dataclasses import dataclass
from typing import Any

from fernando.telemetry.client.splitting import Offsets
from fernando.telemetry.v1 import BatchAck, BatchRefused, RecordVerdict


@dataclass(frozen=True, slots=True)
class Acknowledgement:
    """The final word of the server on the records of one `send`; never send them again.

    Attributes:
        accepted_count: Records that are committed, adjusted ones included.
        rejected_count: Records that are not stored; `verdicts` says why.
        adjusted_count: Accepted records of which a part was changed or left out.
        verdicts: At most 100 per batch; `index` counts in the lists that were sent.
        verdicts_truncated: There were more verdicts than the acknowledgement carries.
        refusals: Batches refused as a whole; nothing of these is stored.
        duplicate: A batch was already stored by an earlier try (its ack was lost). Counts are
            those of the first time, or zero if the server no longer knows them.
        sequences: Numbers of the batches the records travelled in.
        commit_token: Token of the last batch; a read given it sees all these records. "" if
            nothing was stored.
    """

    accepted_count: int = 0
    rejected_count: int = 0
    adjusted_count: int = 0
    verdicts: tuple[RecordVerdict, ...] = ()
    verdicts_truncated: bool = False
    refusals: tuple[BatchRefused, ...] = ()
    duplicate: bool = False
    sequences: tuple[int, ...] = ()
    commit_token: str = ""

    @property
    def complete(self) -> bool:
        """Whether every record is stored."""
        return not self.refusals and self.rejected_count == 0


class Receipt:
    """Stands for records that are on their way; await it for their `Acknowledgement`.

    Awaiting raises the producer's error if it ends before the ack (`ProducerFenced`,
    `ProducerClosed`, `RpcFailed`). It may be awaited many times, by many tasks, or never:
    cancelling a waiter cancels nothing else.
    """

    def __init__(self) -> None:
        self._future: asyncio.Future[Acknowledgement] = asyncio.get_running_loop().create_future()
        # An error nobody asked for is told by `flush` and by the next `send` anyway.
        self._future.add_done_callback(_retrieve)
        self._parts = 1
        self._acks: list[tuple[BatchAck, Offsets]] = []

    def __await__(self) -> Generator[Any, None, Acknowledgement]:
        return asyncio.shield(self._future).__await__()

    def done(self) -> bool:
        """Whether awaiting returns at once."""
        return self._future.done()

    async def settled(self) -> None:
        """Wait until it is done, whatever the outcome."""
        await asyncio.wait((self._future,))

    def part_split(self) -> None:
        """Expect one more ack: a part of these records travels as two batches."""
        self._parts += 1

    def part_acknowledged(self, ack: BatchAck, offsets: Offsets) -> None:
        """Take the ack of one part; the last one completes the receipt."""
        self._acks.append((ack, offsets))
        if len(self._acks) == self._parts and not self._future.done():
            self._future.set_result(_merge(self._acks))

    def fail(self, error: Exception) -> None:
        """End with an error, unless it is done."""
        if not self._future.done():
            self._future.set_exception(error)


def _retrieve(future: asyncio.Future[Acknowledgement]) -> None:
    if not future.cancelled():
        future.exception()


def _merge(acks: list[tuple[BatchAck, Offsets]]) -> Acknowledgement:
    accepted = rejected = adjusted = 0
    truncated = duplicate = False
    token = ""
    verdicts: list[RecordVerdict] = []
    refusals: list[BatchRefused] = []
    for ack, offsets in acks:
        outcome = ack.WhichOneof("outcome")
        if outcome == "refused":
            refusals.append(ack.refused)
            continue
        duplicate = duplicate or outcome == "duplicate"
        result = ack.duplicate if outcome == "duplicate" else ack.committed
        accepted += result.accepted_count
        rejected += result.rejected_count
        adjusted += result.adjusted_count
        truncated = truncated or result.verdicts_truncated
        token = result.commit_token or token
        for verdict in result.verdicts:
            moved = RecordVerdict()
            moved.CopyFrom(verdict)
            moved.index += offsets.get(verdict.kind, 0)
            verdicts.append(moved)
    return Acknowledgement(
        accepted_count=accepted,
        rejected_count=rejected,
        adjusted_count=adjusted,
        verdicts=tuple(verdicts),
        verdicts_truncated=truncated,
        refusals=tuple(refusals),
        duplicate=duplicate,
        sequences=tuple(ack.sequence for ack, _ in acks if ack.sequence),
        commit_token=token,
    )
