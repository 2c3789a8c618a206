"""The flush: one transaction of one writer session, holding many batches of many streams.

    marks (repeats leave the group) -> COPY rows -> one `flushes` row -> COMMIT

A *lane* is one life of one writer session. `flush_id = lane << 40 | number`; the number rises by
one per attempt, a rolled-back one is a hole nobody waits for. Marks are a set, so any writer
takes any batch. The protocol's reasons: docs/decisions/0002-flush.md.
"""

from __future__ import annotations

import secrets
from collections.abc import Sequence
from dataclasses import dataclass, field
from datetime import UTC, date, datetime
from typing import Any
from uuid import UUID

import asyncpg

from fernando_telemetry.domain.errors import DatabaseUnavailable
from fernando_telemetry.domain.identifiers import uuid7_run
from fernando_telemetry.domain.series import SeriesIdentity
from fernando_telemetry.domain.verdicts import Tally
from fernando_telemetry.storage.producers import ProducerKey
from fernando_telemetry.storage.rows import (
    BUSINESS_METRICS,
    DISTRIBUTIONS,
    EVENTS,
    RAW_TABLES,
    SAMPLES,
    SPANS,
    CheckedRows,
    RawTable,
    Row,
)
from fernando_telemetry.storage.sessions import (
    Connection,
    SessionSettings,
    connect,
    is_passing,
    translated,
)
from fernando_telemetry.storage.statements import load

sql = load("flush")

LANE_SHIFT = 40

# SQLSTATE classes that a row can be to blame for: its data (22), a constraint (23), its size (54).
# All else (a missing table, a right taken away, an I/O error) is no fault of records, and they
# must not be told so in an ack, which is final.
ROW_STATE_CLASSES = ("22", "23", "54")


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


@dataclass(slots=True)
class FlushBatch:
    """One batch on its way into a flush.

    Attributes:
        key: What makes a repeat of it known; None: a unary request without request_id.
        shard: Shard of its rows.
        rows: Its storable rows; samples still carry their SeriesIdentity.
        tally: The counts that its mark remembers.
        refusal: Number of its BatchRefusalReason where it is refused; it then has no rows.
    """

    key: BatchKey | RequestKey | None
    shard: int
    rows: CheckedRows = field(default_factory=CheckedRows)
    tally: Tally = field(default_factory=Tally)
    refusal: int | None = None


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


class OutcomeUnknown(Exception):
    """The session was lost while COMMIT was on its way.

    Args:
        lane: The lane whose end must be awaited.
        flush_id: The flush to look for then.
        results: The answers, should it have been committed.
    """

    def __init__(self, lane: int, flush_id: int, results: list[Result]) -> None:
        self.lane = lane
        self.flush_id = flush_id
        self.results = results
        super().__init__(f"outcome of flush {flush_id:x} is unknown")


class PartitionMissing(Exception):
    """A partition was dropped between check and COPY (23514)."""


class RowsRefused(Exception):
    """PostgreSQL refused a row for a reason the checks did not foresee; the text is its own."""


class Lane:
    """One life of one writer session. Not for two tasks at once."""

    def __init__(self, connection: Connection, lane: int) -> None:
        self._connection = connection
        self.lane = lane
        self._number = 0

    @classmethod
    async def open(cls, settings: SessionSettings) -> Lane:
        """Open a session, take the next lane and hold it.

        Raises:
            DatabaseUnavailable: The database does not answer.
        """
        connection = await connect(settings)
        try:
            with translated():
                async with connection.transaction():
                    await connection.execute(sql.lock_lanes)
                    lane: int = await connection.fetchval(sql.next_lane)
                    await connection.execute(sql.hold_lane, lane)
        except BaseException:
            connection.terminate()
            raise
        return cls(connection, lane)

    async def ping(self, timeout_seconds: float) -> None:
        """Tell whether the session answers.

        Raises:
            DatabaseUnavailable: Not in this time.
        """
        with translated():
            await self._connection.fetchval(sql.ping, timeout=timeout_seconds)

    def terminate(self) -> None:
        """Drop the session at once; a transaction that runs is rolled back."""
        self._connection.terminate()

    async def close(self) -> None:
        """End the session."""
        try:
            await self._connection.close(timeout=2)
        except (OSError, TimeoutError, asyncpg.PostgresError, asyncpg.InterfaceError):
            self._connection.terminate()

    async def flush(
        self, batches: Sequence[FlushBatch], series: dict[SeriesIdentity, int]
    ) -> list[Result]:
        """Commit a group of batches.

        Args:
            batches: The group; a key may stand in it more than once.
            series: Ids of all series in it.

        Returns:
            A result for each batch, in order.

        Raises:
            DatabaseUnavailable: Nothing was committed; a new lane may succeed.
            OutcomeUnknown: The session was lost in COMMIT.
            PartitionMissing: A row's partition is gone.
            RowsRefused: A row was refused.
        """
        self._number += 1
        flush_id = self.lane << LANE_SHIFT | self._number
        transaction: Any = None
        try:
            # Refused at once where the idle session was lost since the last flush.
            transaction = self._connection.transaction()
            await transaction.start()
            ingested_at: datetime = await self._connection.fetchval(sql.clock)
            results = await self._mark(batches, flush_id, ingested_at)
            fresh = [
                batch
                for batch, result in zip(batches, results, strict=True)
                if isinstance(result, Stored)
            ]
            await self._copy(fresh, series, flush_id, ingested_at)
        except BaseException as error:
            await self._give_up(transaction, error)
            self._raise_known(error)
            raise
        try:
            await transaction.commit()
        except Exception as error:
            # Only an answer of PostgreSQL on a session that lives on says that nothing was stored.
            answered = isinstance(error, asyncpg.PostgresError)
            if is_passing(error) and not (answered and not self._connection.is_closed()):
                self._connection.terminate()
                raise OutcomeUnknown(self.lane, flush_id, results) from error
            self._raise_known(error)
            raise
        return results

    async def would_take(self, batch: FlushBatch, series: dict[SeriesIdentity, int]) -> bool:
        """Try a batch's rows in a transaction that is rolled back.

        Raises:
            DatabaseUnavailable: The session was lost.
            PartitionMissing: A row's partition is gone.
        """
        transaction: Any = None
        try:
            transaction = self._connection.transaction()
            await transaction.start()
            now: datetime = await self._connection.fetchval(sql.clock)
            await self._copy([batch], series, self.lane << LANE_SHIFT, now)
        except Exception as error:
            await self._give_up(transaction, error)
            try:
                self._raise_known(error)
            except RowsRefused:
                return False
            raise
        await transaction.rollback()
        return True

    async def _give_up(self, transaction: Any, error: BaseException) -> None:
        if self._connection.is_closed():
            return
        # Only a session that answered can be asked to roll back. One that ran into a time-out,
        # or whose flush was cancelled, may not answer that either: dropping it rolls back too.
        if not isinstance(error, asyncpg.PostgresError | ValueError | TypeError | OverflowError):
            self._connection.terminate()
            return
        try:
            await transaction.rollback()
        except Exception:  # noqa: BLE001 - whatever it was: this session is of no use any more
            self._connection.terminate()

    @staticmethod
    def _raise_known(error: BaseException) -> None:
        if isinstance(error, asyncpg.CheckViolationError) and not error.constraint_name:
            raise PartitionMissing from error
        if is_passing(error) or isinstance(error, asyncpg.QueryCanceledError):
            raise DatabaseUnavailable("The database does not answer.", 1.0) from error
        if isinstance(error, ValueError | TypeError | OverflowError) or (
            isinstance(error, asyncpg.PostgresError)
            and (error.sqlstate or "")[:2] in ROW_STATE_CLASSES
        ):
            raise RowsRefused(str(error)) from error
        if isinstance(error, asyncpg.PostgresError):
            raise DatabaseUnavailable("The database refuses the flush.", 2.0) from error

    # Marks ----------------------------------------------------------------------------------

    async def _mark(
        self, batches: Sequence[FlushBatch], flush_id: int, now: datetime
    ) -> list[Result]:
        """Write the marks and tell fresh batches from repeats."""
        first: dict[BatchKey | RequestKey, FlushBatch] = {}
        for batch in batches:
            if batch.key is not None:
                first.setdefault(batch.key, batch)
        numbered = {key: batch for key, batch in first.items() if isinstance(key, BatchKey)}
        requests = {key: batch for key, batch in first.items() if isinstance(key, RequestKey)}
        repeats = await self._mark_numbered(numbered, flush_id)
        repeats |= await self._mark_requests(requests, flush_id, now)
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
        self, batches: dict[BatchKey, FlushBatch], flush_id: int
    ) -> dict[BatchKey | RequestKey, Repeat]:
        if not batches:
            return {}
        keys = list(batches)
        returned = await self._connection.fetch(
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
            for row in await self._connection.fetch(sql.progress_of, *_producers(keys))
        }
        late = [key for key in fresh if key.sequence <= progress.get(key.producer, 0)]
        if late:
            await self._connection.execute(sql.delete_batch_marks, *_columns(late))
            fresh.difference_update(late)
        repeated = [key for key in keys if key not in fresh]
        repeats: dict[BatchKey | RequestKey, Repeat] = {key: Repeat(None) for key in repeated}
        if repeated:
            for row in await self._connection.fetch(sql.batch_marks, *_columns(repeated)):
                repeats[_batch_key(row)] = _repeat(row)
        return repeats

    async def _mark_requests(
        self, batches: dict[RequestKey, FlushBatch], flush_id: int, now: datetime
    ) -> dict[BatchKey | RequestKey, Repeat]:
        if not batches:
            return {}
        keys = list(batches)
        returned = await self._connection.fetch(
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
        rows = await self._connection.fetch(sql.request_marks, *_request_columns(repeated))
        return {_request_key(row): _repeat(row) for row in rows}

    # Rows -----------------------------------------------------------------------------------

    async def _copy(
        self,
        batches: list[FlushBatch],
        series: dict[SeriesIdentity, int],
        flush_id: int,
        ingested_at: datetime,
    ) -> None:
        """COPY the rows of fresh batches and note the flush."""
        extents: list[Any] = []
        millis = int(ingested_at.timestamp() * 1000)
        for table in RAW_TABLES:
            rows = _finished(table, batches, series, flush_id, ingested_at, millis)
            if rows:
                await self._connection.copy_records_to_table(
                    table.name, records=rows, columns=table.columns
                )
            extents += _extent(table, rows)
        today: date = ingested_at.astimezone(UTC).date()
        await self._connection.execute(sql.insert_flush, today, flush_id, ingested_at, *extents)


def _finished(
    table: RawTable,
    batches: list[FlushBatch],
    series: dict[SeriesIdentity, int],
    flush_id: int,
    ingested_at: datetime,
    millis: int,
) -> list[Row]:
    """Give a table's rows of all batches with the columns that the flush adds."""
    rows: list[Row] = []
    match table:
        case t if t is EVENTS or t is BUSINESS_METRICS:
            ids = uuid7_run(millis, secrets.randbits(73))
            for batch in batches:
                added = (ingested_at, batch.shard, flush_id)
                rows += [(next(ids), *row, *added) for row in batch.rows.rows[table.name]]
        case t if t is SAMPLES:
            for batch in batches:
                added_to_sample = (batch.shard, flush_id)
                rows += [
                    (series[identity], time, value, *added_to_sample)
                    for identity, time, value in batch.rows.rows[table.name]
                ]
            # One series' samples lie side by side: BRIN over (series_id, time) then finds them.
            rows.sort(key=lambda row: (row[0], row[1]))
        case t if t is DISTRIBUTIONS:
            for batch in batches:
                for identity, *rest in batch.rows.rows[table.name]:
                    rows.append((series[identity], *rest, len(rows), batch.shard, flush_id))
        case t if t is SPANS:
            for batch in batches:
                for row in batch.rows.rows[table.name]:
                    rows.append((*row, ingested_at, len(rows), batch.shard, flush_id))
    return rows


def _extent(table: RawTable, rows: list[Row]) -> tuple[int, datetime | None, datetime | None]:
    place = table.time_index + (1 if table.id_column else 0)
    times = [row[place] for row in rows]
    return len(rows), min(times, default=None), max(times, default=None)


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


async def outcome_of(settings: SessionSettings, unknown: OutcomeUnknown) -> bool:
    """Tell whether a flush of a lost session was committed.

    The `flushes` row decides, also for batches that have no mark. Where it shows, that is all;
    where it does not, only the lane's lock tells that it never will: it is free when the session
    is gone, last transaction included.

    Raises:
        DatabaseUnavailable: The database does not answer, or the session still lives.
    """
    connection = await connect(settings)
    try:
        with translated():
            if await connection.fetchval(sql.flush_exists, unknown.flush_id):
                return True
            async with connection.transaction():
                await connection.execute(sql.await_lane_end, unknown.lane)
            return bool(await connection.fetchval(sql.flush_exists, unknown.flush_id))
    finally:
        connection.terminate()
