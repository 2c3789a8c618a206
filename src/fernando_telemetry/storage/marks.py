"""Marks: one per batch or named request, written in the transaction of its rows.

They make ingest exactly once: what finds its mark already there is a repeat, and is answered with
the first counts, or is refused where the digest says that its content is another. Marks are a
set, so any writer takes any batch. A batch whose producer was taken over since (a newer hello, on
any server) is fenced: it leaves the group and disturbs no other.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from typing import Any
from uuid import UUID

from fernando_telemetry.domain.digests import is_other_content
from fernando_telemetry.domain.series import SeriesIdentity
from fernando_telemetry.domain.verdicts import Tally, Verdict
from fernando_telemetry.storage.columns import ColumnSlice
from fernando_telemetry.storage.producers import ProducerKey
from fernando_telemetry.storage.rejected_records import RejectedRow, ReplayKey, settle_replays
from fernando_telemetry.storage.rows import CheckedRows
from fernando_telemetry.storage.sessions import Connection
from fernando_telemetry.storage.statements import load

sql = load("marks")


@dataclass(frozen=True, slots=True)
class BatchKey:
    """A numbered batch of a producer.

    Attributes:
        producer: Who sent it.
        sequence: Its number.
        epoch: Epoch of the stream it came on. No part of the mark's key: the number is known
            whichever stream brings it.
    """

    producer: ProducerKey
    sequence: int
    epoch: int = field(default=0, compare=False)

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
        rows: Its storable rows as tuples; samples still carry their SeriesIdentity.
        slices: Its storable rows as columns.
        tally: The counts that its mark remembers.
        refusal: Number of its BatchRefusalReason where it is refused; it then has no rows.
        digest: Of its content (domain/digests.py); None: not known, nothing is compared.
        overflowed: Samples kept in a coarser series; `tally` has their verdicts.
        rejected: Rejected records to keep, written beside its mark.
        keep: Makes such rows of further verdicts; None: rejected records are not kept.
    """

    key: Key | None
    shard: int
    rows: CheckedRows = field(default_factory=CheckedRows)
    slices: list[ColumnSlice] = field(default_factory=list)
    tally: Tally = field(default_factory=Tally)
    refusal: int | None = None
    digest: bytes | None = None
    overflowed: int = 0
    rejected: list[RejectedRow] = field(default_factory=list)
    keep: Callable[[Sequence[Verdict]], Awaitable[list[RejectedRow]]] | None = None

    def series(self) -> set[SeriesIdentity]:
        """Give the identities of all its samples and distributions."""
        found = set(self.rows.series())
        for part in self.slices:
            found |= part.identities()
        return found

    def make_plain(self) -> None:
        """Turn its columns into tuples, so that single rows can be told from each other."""
        for part in self.slices:
            indexes = part.block.indexes[part.start : part.stop].tolist()
            for row, index in zip(part.rows(), indexes, strict=True):
                self.rows.add(part.block.table, row, part.block.kind, index)
        self.slices = []


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


@dataclass(frozen=True, slots=True)
class Conflict:
    """A batch whose key was used before for other content; the first mark stands."""

    flush_id: int | None


@dataclass(frozen=True, slots=True)
class Fenced:
    """A batch whose producer was taken over by a newer stream; nothing of it is stored."""

    flush_id: None = None


@dataclass(frozen=True, slots=True)
class PutOff:
    """A batch that cannot be stored now: a partition it needs is being dropped."""

    flush_id: None = None


Result = Stored | Repeat | Conflict | Fenced | PutOff


@dataclass(frozen=True, slots=True)
class _Known:
    """A key that has its mark already: the answer to repeats, and the digest they must have."""

    repeat: Repeat
    digest: bytes | None = None

    def answer_to(self, batch: FlushBatch) -> Repeat | Conflict:
        """Tell a repeat from other content; what was refused the first time is refused again."""
        if self.repeat.refusal is None and is_other_content(self.digest, batch.digest):
            return Conflict(self.repeat.flush_id)
        return self.repeat


# By the place of the first batch of each key.
_Found = dict[int, Stored | Fenced | _Known]


async def write_marks(
    connection: Connection, batches: Sequence[FlushBatch], flush_id: int
) -> tuple[list[Result], datetime]:
    """Fence, write the marks of a group and tell fresh batches from repeats.

    Args:
        connection: Inside the flush's transaction.
        batches: The group; a key may stand in it more than once.
        flush_id: The flush.

    Returns:
        A result for each batch, in order; and the database's clock, read behind the locks.
    """
    numbered: dict[tuple[BatchKey, int], int] = {}
    requests: dict[RequestKey, int] = {}
    replays: dict[ReplayKey, int] = {}
    for place, batch in enumerate(batches):
        match batch.key:
            case BatchKey() as key:
                numbered.setdefault((key, key.epoch), place)
            case RequestKey() as key:
                requests.setdefault(key, place)
            case ReplayKey() as key:
                replays.setdefault(key, place)
    found: _Found = {}
    now = await _mark_numbered(connection, batches, list(numbered.values()), flush_id, found)
    if now is None:
        now = await connection.fetchval(sql.clock)
    await _mark_requests(connection, batches, list(requests.values()), flush_id, now, found)
    await _settle(connection, batches, replays, flush_id, found)
    answers: list[Result] = []
    for place, batch in enumerate(batches):
        match batch.key:
            case BatchKey() as key:
                first = numbered[key, key.epoch]
            case RequestKey() as key:
                first = requests[key]
            case ReplayKey() as key:
                first = replays[key]
            case _:
                answers.append(Stored(flush_id))
                continue
        result = found[first]
        if first != place and isinstance(result, Stored):
            result = _known_since(batches[first], flush_id)
        # Each copy inside a group is compared for itself: only the first one's content is known.
        answers.append(result.answer_to(batch) if isinstance(result, _Known) else result)
    return answers, now


def _known_since(batch: FlushBatch, flush_id: int) -> _Known:
    """Give the mark that this very group has written."""
    tally = batch.tally
    repeat = Repeat(flush_id, tally.accepted, tally.rejected, tally.adjusted, batch.refusal)
    return _Known(repeat, batch.digest)


async def _mark_numbered(
    connection: Connection,
    batches: Sequence[FlushBatch],
    places: list[int],
    flush_id: int,
    found: _Found,
) -> datetime | None:
    """Mark the numbered batches at these places; gives the clock, None where there are none."""
    if not places:
        return None
    keys: list[Any] = [batches[place].key for place in places]
    rows = await connection.fetch(
        sql.mark_batches,
        *_producers(keys),
        [key.epoch for key in keys],
        [key.sequence for key in keys],
        *_counts(batches, places),
        [batches[place].refusal for place in places],
        flush_id,
    )
    fresh: list[int] = []
    known: list[int] = []
    for row in rows:
        place = places[row["place"]]
        if not row["held"]:
            found[place] = Fenced()
        elif row["fresh"]:
            fresh.append(place)
        else:
            known.append(place)
    late = await _late(connection, [batches[place].key for place in fresh])
    known += [place for place in fresh if batches[place].key in late]
    found |= {place: Stored(flush_id) for place in fresh if batches[place].key not in late}
    await _look_up(connection, sql.batch_marks, batches, known, found, _columns, _batch_key)
    now: datetime = rows[0]["now"]
    return now


async def _late(connection: Connection, fresh: list[Any]) -> set[BatchKey]:
    """Find fresh marks at or below the trimmed run, which are repeats too, and take them back."""
    if not fresh:
        return set()
    progress = {
        ProducerKey(row["license_id"], row["producer_id"]): row["contiguous_through"]
        for row in await connection.fetch(sql.progress_of, *_distinct_producers(fresh))
    }
    late = [key for key in fresh if key.sequence <= progress.get(key.producer, 0)]
    if late:
        await connection.execute(sql.delete_batch_marks, *_columns(late))
    return set(late)


async def _mark_requests(
    connection: Connection,
    batches: Sequence[FlushBatch],
    places: list[int],
    flush_id: int,
    now: datetime,
    found: _Found,
) -> None:
    if not places:
        return
    keys: list[Any] = [batches[place].key for place in places]
    returned = await connection.fetch(
        sql.insert_request_marks,
        *_request_columns(keys),
        *_counts(batches, places),
        flush_id,
        now,
    )
    fresh = {_request_key(row) for row in returned}
    found |= {place: Stored(flush_id) for place in places if batches[place].key in fresh}
    known = [place for place in places if batches[place].key not in fresh]
    await _look_up(
        connection, sql.request_marks, batches, known, found, _request_columns, _request_key
    )


async def _look_up(
    connection: Connection,
    statement: str,
    batches: Sequence[FlushBatch],
    known: list[int],
    found: _Found,
    columns: Callable[[Sequence[Any]], tuple[list[Any], ...]],
    key_of: Callable[[Any], BatchKey | RequestKey],
) -> None:
    """Read the first answers to repeats; where the mark was trimmed there is none."""
    if not known:
        return
    keys = [batches[place].key for place in known]
    marks: dict[Any, Any] = {
        key_of(row): row for row in await connection.fetch(statement, *columns(keys))
    }
    for place in known:
        row = marks.get(batches[place].key)
        found[place] = _Known(Repeat(None)) if row is None else _Known(_repeat(row), row["digest"])


def _counts(batches: Sequence[FlushBatch], places: list[int]) -> tuple[list[Any], ...]:
    tallies = [batches[place].tally for place in places]
    return (
        [batches[place].digest for place in places],
        [tally.accepted for tally in tallies],
        [tally.rejected for tally in tallies],
        [tally.adjusted for tally in tallies],
    )


async def _settle(
    connection: Connection,
    batches: Sequence[FlushBatch],
    places: dict[ReplayKey, int],
    flush_id: int,
    found: _Found,
) -> None:
    """A kept record is its own mark: where it is gone, it was replayed before."""
    if not places:
        return
    there = await settle_replays(
        connection, {key: batches[place].tally.rejection for key, place in places.items()}
    )
    for key, place in places.items():
        found[place] = Stored(flush_id) if key in there else _Known(Repeat(None))


def _columns(keys: Sequence[BatchKey]) -> tuple[list[Any], ...]:
    return (*_producers(keys), [key.sequence for key in keys])


def _producers(keys: Sequence[BatchKey]) -> tuple[list[Any], ...]:
    return (
        [key.shard for key in keys],
        [key.producer.license_id for key in keys],
        [key.producer.producer_id for key in keys],
    )


def _distinct_producers(keys: Sequence[BatchKey]) -> tuple[list[Any], ...]:
    return _producers(list({key.producer: key for key in keys}.values()))


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
