"""The flush: one transaction of one writer session, holding many batches of many streams.

    locks, marks (fenced batches and repeats leave) -> COPY rows and deltas (where roll-ups are off:
    note the gaps instead) -> one `flushes` row -> COMMIT

A *lane* is one life of one writer session. `flush_id = lane << 40 | number`; the number rises by
one per attempt, a rolled-back one is a hole nobody waits for. Marks are a set, so any writer
takes any batch. The protocol's reasons: docs/decisions/0002-flush.md.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Iterator, Sequence
from contextlib import nullcontext
from datetime import UTC, date, datetime
from typing import Any

import asyncpg
import pyarrow as pa

from fernando_telemetry.domain.errors import DatabaseUnavailable
from fernando_telemetry.domain.flush_ids import flush_id_of
from fernando_telemetry.domain.series import SeriesIdentity
from fernando_telemetry.storage.copy_binary import can_encode, encode_batch
from fernando_telemetry.storage.flush_rows import RowsOfTable
from fernando_telemetry.storage.fresh_rows import FreshRows
from fernando_telemetry.storage.marks import FlushBatch, Result, Stored, write_marks
from fernando_telemetry.storage.rejected_records import keep_rejected
from fernando_telemetry.storage.rollup import Rollup
from fernando_telemetry.storage.rollup_gaps import hours_noted
from fernando_telemetry.storage.rollups import ROLLUPS
from fernando_telemetry.storage.rows import RAW_TABLES
from fernando_telemetry.storage.sessions import (
    Connection,
    SessionSettings,
    connect,
    is_passing,
    translated,
    unavailable,
)
from fernando_telemetry.storage.statements import load

sql = load("flush")
gaps_sql = load("rollup_gaps")

# SQLSTATE classes that a row can be to blame for: its data (22), a constraint (23), its size (54).
# All else (a missing table, a right taken away, an I/O error) is no fault of records, and they
# must not be told so in an ack, which is final.
ROW_STATE_CLASSES = ("22", "23", "54")


def blames_row(error: BaseException) -> bool:
    """Tell whether a row may be to blame for an error of PostgreSQL or of the driver's encoder."""
    if isinstance(error, asyncpg.PostgresError):
        return (error.sqlstate or "")[:2] in ROW_STATE_CLASSES
    return isinstance(error, ValueError | TypeError | OverflowError)


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
    """One life of one writer session. Not for two tasks at once.

    Args:
        connection: The session.
        lane: Its number.
        rollups: Those that flushes append deltas for; of the others they note the gaps.
        turns: Bounds the flushes that COPY at once; None: this lane waits for no turn.
    """

    def __init__(
        self,
        connection: Connection,
        lane: int,
        rollups: Sequence[Rollup],
        turns: asyncio.Semaphore | None = None,
    ) -> None:
        self._connection = connection
        self._rollups = rollups
        kept = {rollup.name for rollup in rollups}
        self._left_out = [rollup for rollup in ROLLUPS if rollup.name not in kept]
        self._turns = turns
        self.lane = lane
        self._number = 0

    @classmethod
    async def open(
        cls,
        settings: SessionSettings,
        rollups: Sequence[Rollup] = ROLLUPS,
        turns: asyncio.Semaphore | None = None,
    ) -> Lane:
        """Open a session, take the next lane and hold it.

        Args:
            settings: Of the session.
            rollups: As of the class.
            turns: As of the class.

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
                await connection.execute(sql.keep_plans)
        except BaseException:
            connection.terminate()
            raise
        return cls(connection, lane, rollups, turns)

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
        flush_id = flush_id_of(self.lane, self._number)
        transaction: Any = None
        try:
            # Refused at once where the idle session was lost since the last flush.
            transaction = self._connection.transaction()
            await transaction.start()
            results, ingested_at = await write_marks(self._connection, batches, flush_id)
            fresh = [
                batch
                for batch, result in zip(batches, results, strict=True)
                if isinstance(result, Stored)
            ]
            await keep_rejected(self._connection, [row for one in fresh for row in one.rejected])
            # Behind the marks: who waits for a turn holds no lock that a COPY could wait for.
            async with self._turns or nullcontext():
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
            await self._copy([batch], series, flush_id_of(self.lane, 0), now)
        except Exception as error:
            await self._give_up(transaction, error)
            try:
                self._raise_known(error)
            except RowsRefused:
                return False
            raise
        with translated():
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
            raise unavailable(error) from error
        if blames_row(error):
            raise RowsRefused(str(error)) from error
        if isinstance(error, asyncpg.PostgresError):
            raise DatabaseUnavailable("The database refuses the flush.", 2.0) from error

    async def _copy(
        self,
        batches: list[FlushBatch],
        series: dict[SeriesIdentity, int],
        flush_id: int,
        ingested_at: datetime,
    ) -> None:
        """COPY the rows of fresh batches and note the flush."""
        extents: list[Any] = []
        hours: dict[str, list[datetime]] = {}
        for table in RAW_TABLES:
            rows = RowsOfTable(table, batches)
            for source in rows.sources(series, flush_id, ingested_at):
                if isinstance(source, list):
                    await self._connection.copy_records_to_table(
                        table.name, records=source, columns=table.columns
                    )
                else:
                    await self._connection.copy_to_table(
                        table.name, source=_paced(source), columns=table.columns, format="binary"
                    )
            extents += rows.extent()
            if self._left_out:
                hours[table.name] = rows.hours()
        fresh = FreshRows(batches)
        for rollup in self._rollups:
            deltas = rollup.group(fresh, series, ingested_at)
            if deltas is not None:
                await self._copy_deltas(rollup, deltas)
        if self._left_out:
            # At the end, since one that closes gaps may have to wait for it.
            names, noted = hours_noted(self._left_out, hours)
            if names:
                await self._connection.execute(
                    gaps_sql.note_gaps, names, noted, self.lane, flush_id
                )
        today: date = ingested_at.astimezone(UTC).date()
        await self._connection.execute(sql.insert_flush, today, flush_id, ingested_at, *extents)

    async def _copy_deltas(self, rollup: Rollup, deltas: pa.RecordBatch) -> None:
        if can_encode():
            await self._connection.copy_to_table(
                rollup.deltas.name,
                source=_paced(encode_batch(deltas)),
                columns=rollup.columns,
                format="binary",
            )
        else:
            rows = zip(*(column.to_pylist() for column in deltas.columns), strict=True)
            await self._connection.copy_records_to_table(
                rollup.deltas.name, records=rows, columns=rollup.columns
            )


async def _paced(pieces: Iterator[bytes]) -> AsyncIterator[bytes]:
    """Give pieces of COPY data, and the event loop its turn between them."""
    for piece in pieces:
        yield piece
        await asyncio.sleep(0)


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
