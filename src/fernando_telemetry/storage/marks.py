"""Marks: one per batch or named request, written in the transaction of its rows.

They make ingest exactly once: what finds its mark already there is a repeat, and is answered with
the first counts. Marks are a set, so any writer takes any batch.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from typing import Any
from uuid import UUID

from fernando_telemetry.domain.verdicts import Tally, Verdict
from fernando_telemetry.storage.producers import ProducerKey
from fernando_telemetry.storage.rejected_records import RejectedRow, ReplayKey, settle_replays
from fernando_telemetry.storage.rows import CheckedRows
from fernando_telemetry.storage.sessions import Connection
from fernando_telemetry.storage.statements import load

sql = load("marks")


@dataclass(frozen=True, slots=True)
class BatchKey:
    """A numbered batch of a producer."""

    producer: ProducerKey
    sequence: int

    @property
    def shard(self) -> int:
        """The producer's shard."""
        return self.producer.shard


@dataclass(frozen=True, slots=True)
class RequestKey:
    """A unary request that named itself."""

    shard: int
    license_id: str
    request_id: UUID


Key = BatchKey | RequestKey | ReplayKey


@dataclass(slots=True)
class FlushBatch:
    """One batch on its way into a flush.

    Attributes:
        key: What makes a repeat of it known; None: a unary request without request_id.
        shard: Shard of its rows.
        rows: Its storable rows; samples still carry their SeriesIdentity.
        tally: The counts that its mark remembers.
        refusal: Number of its BatchRefusalReason where it is refused; it then has no rows.
        rejected: Rejected records to keep, written beside its mark.
        keep: Makes such rows of further verdicts; None: rejected records are not kept.
    """

    key: Key | None
    shard: int
    rows: CheckedRows = field(default_factory=CheckedRows)
    tally: Tally = field(default_factory=Tally)
    refusal: int | None = None
    rejected: list[RejectedRow] = field(default_factory=list)
    keep: Callable[[Sequence[Verdict]], Awaitable[list[RejectedRow]]] | None = None


@dataclass(frozen=True, slots=True)
class Stored:
    """A batch committed by this flush."""

    flush_id: int


@dataclass(frozen=True, slots=True)
class Repeat:
    """A batch that had been committed before; counts are zero where its mark was trimmed."""

    flush_id: int | None
    accepted: int = 0
    rejected: int = 0
    adjusted: int = 0
    refusal: int | None = None


Result = Stored | Repeat


async def write_marks(
    connection: Connection, batches: Sequence[FlushBatch], flush_id: int, now: datetime
) -> list[Result]:
    """Write the marks of a group and tell fresh batches from repeats.

    Args:
        connection: Inside the flush's transaction.
        batches: The group; a key may stand in it more than once.
        flush_id: The flush.
        now: The database's clock.

    Returns:
        A result for each batch, in order.
    """
    first: dict[Key, FlushBatch] = {}
    for batch in batches:
        if batch.key is not None:
            first.setdefault(batch.key, batch)
    numbered = {key: batch for key, batch in first.items() if isinstance(key, BatchKey)}
    requests = {key: batch for key, batch in first.items() if isinstance(key, RequestKey)}
    repeats = await _mark_numbered(connection, numbered, flush_id)
    repeats |= await _mark_requests(connection, requests, flush_id, now)
    replays = {key: batch for key, batch in first.items() if isinstance(key, ReplayKey)}
    repeats |= await _mark_replays(connection, replays)
    results: list[Result] = []
    for batch in batches:
        key = batch.key
        if key is None or (key not in repeats and first[key] is batch):
            results.append(Stored(flush_id))
        elif key in repeats:
            results.append(repeats[key])
        else:  # a second copy inside this very group
            one, tally = first[key], first[key].tally
            results.append(
                Repeat(flush_id, tally.accepted, tally.rejected, tally.adjusted, one.refusal)
            )
    return results


async def _mark_numbered(
    connection: Connection, batches: dict[BatchKey, FlushBatch], flush_id: int
) -> dict[Key, Repeat]:
    if not batches:
        return {}
    keys = list(batches)
    returned = await connection.fetch(
        sql.insert_batch_marks,
        *_columns(keys),
        [batches[key].tally.accepted for key in keys],
        [batches[key].tally.rejected for key in keys],
        [batches[key].tally.adjusted for key in keys],
        [batches[key].refusal for key in keys],
        flush_id,
    )
    fresh = {_batch_key(row) for row in returned}
    progress = {
        ProducerKey(row["license_id"], row["producer_id"]): row["contiguous_through"]
        for row in await connection.fetch(sql.progress_of, *_producers(keys))
    }
    late = [key for key in fresh if key.sequence <= progress.get(key.producer, 0)]
    if late:
        await connection.execute(sql.delete_batch_marks, *_columns(late))
        fresh.difference_update(late)
    repeated = [key for key in keys if key not in fresh]
    repeats: dict[Key, Repeat] = {key: Repeat(None) for key in repeated}
    if repeated:
        for row in await connection.fetch(sql.batch_marks, *_columns(repeated)):
            repeats[_batch_key(row)] = _repeat(row)
    return repeats


async def _mark_requests(
    connection: Connection, batches: dict[RequestKey, FlushBatch], flush_id: int, now: datetime
) -> dict[Key, Repeat]:
    if not batches:
        return {}
    keys = list(batches)
    returned = await connection.fetch(
        sql.insert_request_marks,
        *_request_columns(keys),
        [batches[key].tally.accepted for key in keys],
        [batches[key].tally.rejected for key in keys],
        [batches[key].tally.adjusted for key in keys],
        flush_id,
        now,
    )
    fresh = {_request_key(row) for row in returned}
    repeated = [key for key in keys if key not in fresh]
    if not repeated:
        return {}
    rows = await connection.fetch(sql.request_marks, *_request_columns(repeated))
    return {_request_key(row): _repeat(row) for row in rows}


async def _mark_replays(
    connection: Connection, batches: dict[ReplayKey, FlushBatch]
) -> dict[Key, Repeat]:
    """A kept record is its own mark: where it is gone, it was replayed before."""
    if not batches:
        return {}
    there = await settle_replays(
        connection, {key: batch.tally.rejection for key, batch in batches.items()}
    )
    return {key: Repeat(None) for key in batches if key not in there}


def _columns(keys: Sequence[BatchKey]) -> tuple[list[Any], ...]:
    return (
        [key.shard for key in keys],
        [key.producer.license_id for key in keys],
        [key.producer.producer_id for key in keys],
        [key.sequence for key in keys],
    )


def _producers(keys: Sequence[BatchKey]) -> tuple[list[Any], ...]:
    producers = list({key.producer for key in keys})
    return (
        [one.shard for one in producers],
        [one.license_id for one in producers],
        [one.producer_id for one in producers],
    )


def _request_columns(keys: Sequence[RequestKey]) -> tuple[list[Any], ...]:
    return (
        [key.shard for key in keys],
        [key.license_id for key in keys],
        [key.request_id for key in keys],
    )


def _batch_key(row: Any) -> BatchKey:
    return BatchKey(ProducerKey(row["license_id"], row["producer_id"]), row["sequence"])


def _request_key(row: Any) -> RequestKey:
    return RequestKey(row["shard"], row["license_id"], UUID(int=row["request_id"].int))


def _repeat(row: Any) -> Repeat:
    return Repeat(
        row["flush_id"],
        row["accepted_count"],
        row["rejected_count"],
        row["adjusted_count"],
        row["refusal"],
    )
