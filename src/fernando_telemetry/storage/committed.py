"""Reads committed data in the order of its arrival: every flush once, from a cursor on.

    async with readers.snapshot() as connection:
        reading = await CommittedReading.begin(connection)
        step = await reading.next(cursor, max_flushes=100, max_rows=10_000)
        for flush in step.flushes:
            async for rows in reading.rows(flush, EVENTS): …
    # what was read is dealt with: step.cursor is where to go on

Lanes, flushes and rows come out of one snapshot, so a flush that shows is whole. Works on a
replica alike, which may merely be behind.
"""

from __future__ import annotations

import heapq
from collections import Counter
from collections.abc import AsyncIterator, Collection, Iterable
from dataclasses import dataclass
from datetime import datetime
from itertools import groupby
from typing import Any, Final
from uuid import UUID

import asyncpg

from fernando_telemetry.domain.cursor import (
    Cursor,
    LaneState,
    cursor_at,
    read_cursor,
    write_cursor,
)
from fernando_telemetry.domain.errors import CursorInvalid, CursorTooOld
from fernando_telemetry.domain.flush_ids import lane_of
from fernando_telemetry.storage.flush_partitions import FlushPartitions, dropped_meanwhile
from fernando_telemetry.storage.hot_partitions import Plan, plan_by
from fernando_telemetry.storage.list_statement import Parameters
from fernando_telemetry.storage.lists import Row, slices
from fernando_telemetry.storage.rows import RAW_TABLES, RawTable
from fernando_telemetry.storage.sessions import Connection
from fernando_telemetry.storage.statements import load

sql = load("committed")

# A catch-up over the lanes of many restarts would else look at millions of flushes a step.
FULL_LANES: Final = 64

_ROWS: Final[dict[str, str]] = {
    table.name: getattr(sql, f"{table.extent}_rows") for table in RAW_TABLES
}


@dataclass(frozen=True, slots=True)
class Extent:
    """How many rows of a table a flush has, and the range of their times, both ends included."""

    count: int
    min_time: datetime | None
    max_time: datetime | None


@dataclass(frozen=True, slots=True)
class CommittedFlush:
    """A committed flush.

    Args:
        flush_id: Lane and number.
        ingested_at: The database's clock when it began.
        rule_set_revision: Of the alert rules it was matched against.
        extents: By name of the raw table.
    """

    flush_id: int
    ingested_at: datetime
    rule_set_revision: int
    extents: dict[str, Extent]

    def row_count(self, tables: Iterable[RawTable]) -> int:
        """Give its rows in these tables, as many as they were."""
        return sum(self.extents[table.name].count for table in tables)


@dataclass(frozen=True, slots=True)
class Step:
    """Some flushes and where to go on behind them.

    Args:
        flushes: In order of arrival; of each lane in its order.
        cursor: Behind all of them.
        is_last: Whether the snapshot has no more.
        begun_at: The cursor before all of them.
        lanes: What the snapshot shows of the lanes.
    """

    flushes: tuple[CommittedFlush, ...]
    cursor: Cursor
    is_last: bool
    begun_at: Cursor
    lanes: tuple[LaneState, ...]

    def row_count(self, tables: Collection[RawTable]) -> int:
        """Give the rows of the flushes in these tables, as many as they were."""
        return sum(flush.row_count(tables) for flush in self.flushes)

    def cursor_below(self, flush_id: int) -> Cursor:
        """Give the cursor behind those of the flushes that have a lower id than a given one."""
        lower = sorted(one.flush_id for one in self.flushes if one.flush_id < flush_id)
        return self.begun_at.advanced(self.lanes, lower)


class CommittedReading:
    """Reads in one snapshot. Get it by `begin`."""

    def __init__(
        self, connection: Connection, facts: asyncpg.Record, field: str, began_at: datetime
    ) -> None:
        self._connection = connection
        self._installation_id: UUID = facts["installation_id"]
        self._highest_lane: int = facts["highest_lane"]
        self._is_primary: bool = facts["is_primary"]
        self._field = field
        self._began_at = began_at

    @property
    def installation_id(self) -> UUID:
        """Whose data is read."""
        return self._installation_id

    @property
    def began_at(self) -> datetime:
        """When the snapshot's transaction began, by the database's clock."""
        return self._began_at

    @classmethod
    async def begin(cls, connection: Connection, field: str = "cursor") -> CommittedReading:
        """Begin to read.

        Args:
            connection: In a repeatable-read transaction in which nothing was read yet, such as
                ReaderPool.snapshot() gives. Its other statements do without sequential scans.
            field: Where the caller gave the cursor, for errors.
        """
        await connection.execute(sql.hold_flushes)
        # Statistics of a partition that is being written are stale; what follows has an index.
        began_at = await plan_by(connection, Plan.BY_ONE_KEY)
        facts = await connection.fetchrow(sql.facts)
        assert facts is not None
        return cls(connection, facts, field, began_at)

    # Cursors and their texts ----------------------------------------------------------------

    async def oldest(self) -> Cursor:
        """Give the cursor before all that is kept."""
        lanes = await self._lanes(Cursor())
        return cursor_at(lanes, {state.lane: state.pruned_through for state in lanes})

    async def newest(self) -> Cursor:
        """Give the cursor behind all that shows: only what comes later is to be read."""
        lanes = await self._lanes(Cursor())
        numbers = {state.lane: state.last_number or state.pruned_through for state in lanes}
        living = [state.lane for state in lanes if state.last_number is None]
        for row in await self._connection.fetch(sql.newest_numbers, living):
            numbers[row["lane"]] = row["number"]
        return cursor_at(lanes, numbers)

    def write(self, cursor: Cursor) -> str:
        """Give a cursor's text, bound to this installation."""
        return write_cursor(cursor, self._installation_id)

    def read(self, text: str) -> Cursor:
        """Give the cursor of a text.

        Raises:
            CursorInvalid: It is damaged or of another installation.
        """
        return read_cursor(text, self._installation_id, self._field)

    # Steps ----------------------------------------------------------------------------------

    async def next(
        self,
        cursor: Cursor,
        *,
        max_flushes: int,
        max_rows: int,
        tables: Collection[RawTable] = RAW_TABLES,
        through: Cursor | None = None,
    ) -> Step:
        """Give the flushes after a cursor, at most so many; at least one where there is one.

        Args:
            cursor: Where to go on.
            max_flushes: Most flushes in the step.
            max_rows: The step ends with the flush that reaches it.
            tables: Whose rows count.
            through: Only flushes that lie before it; None: all that show.

        Raises:
            CursorTooOld: Flushes behind it have been pruned unread.
            CursorInvalid: It is ahead of this database, which was set back.
        """
        lanes = await self._kept_lanes(cursor)
        after = cursor.after_ids(lanes)
        # One more than wanted tells whether the step is the last one.
        of_each = _share(max_flushes + 1, len(after))
        candidates = await self._flushes_after(after, of_each)
        found = [
            _flush(row)
            for row in candidates
            if through is None or through.has_consumed(row["flush_id"])
        ]
        taken: list[CommittedFlush] = []
        rows = 0
        for flush in _by_arrival(found):
            if taken and (len(taken) >= max_flushes or rows >= max_rows):
                break
            taken.append(flush)
            rows += flush.row_count(tables)
        of_lanes = Counter(lane_of(flush.flush_id) for flush in found)
        return Step(
            tuple(taken),
            cursor.advanced(lanes, [flush.flush_id for flush in taken]),
            is_last=len(taken) == len(found) and max(of_lanes.values(), default=0) < of_each,
            begun_at=cursor,
            lanes=tuple(lanes),
        )

    async def only(self, cursor: Cursor, flush_id: int) -> Step:
        """Give one flush, the first of its lane after a cursor, which the snapshot shows.

        Raises:
            CursorTooOld: Flushes behind the cursor have been pruned unread.
            CursorInvalid: There is no such flush after it.
        """
        lanes = await self._kept_lanes(cursor)
        found = await self._flushes_after([flush_id - 1], 1)
        if not found or found[0]["flush_id"] != flush_id or cursor.has_consumed(flush_id):
            raise CursorInvalid(self._field, "it names a flush that is not there.")
        behind = cursor.advanced(lanes, [flush_id])
        return Step((_flush(found[0]),), behind, is_last=False, begun_at=cursor, lanes=tuple(lanes))

    async def rows(self, flush: CommittedFlush, table: RawTable) -> AsyncIterator[list[Row]]:
        """Give a flush's rows of a table in slices, in no order; read only when asked for.

        Rows that retention took meanwhile do not come.

        Raises:
            DatabaseUnavailable: A partition was dropped while it was read.
        """
        if not flush.extents[table.name].count:
            return
        with dropped_meanwhile():
            statement = await self._rows_statement(flush, table)
            if statement is not None:
                async for found in slices(self._connection, *statement):
                    yield found

    async def _rows_statement(
        self, flush: CommittedFlush, table: RawTable
    ) -> tuple[str, Parameters] | None:
        """Give what reads a flush's rows of a table; None: the partitions they were in are gone."""
        extent = flush.extents[table.name]
        partitions = await FlushPartitions.shown(self._connection, [table])
        parameters = Parameters(extent.min_time, extent.max_time, flush.flush_id)
        leading = partitions.leading([table], [flush], parameters)
        return None if leading is None else (leading + _ROWS[table.name], parameters)

    async def _flushes_after(self, after: list[int], of_each: int) -> list[Any]:
        """Give the next flushes of each lane; planned once for the session."""
        await self._connection.execute(sql.keep_plans)
        found = await self._connection.fetch(sql.flushes_after, after, of_each)
        await self._connection.execute(sql.plan_anew)
        return found

    async def _kept_lanes(self, cursor: Cursor) -> list[LaneState]:
        self._check_not_ahead(cursor)
        lanes = await self._lanes(cursor)
        if cursor.is_lost_in(lanes):
            raise CursorTooOld(await self._connection.fetchval(sql.oldest_flush))
        return lanes

    async def _lanes(self, cursor: Cursor) -> list[LaneState]:
        rows = await self._connection.fetch(sql.lanes, cursor.known_lane, list(cursor.positions))
        return [LaneState(**dict(row)) for row in rows]

    async def shows(self, cursor: Cursor) -> bool:
        """Tell whether all that a cursor has consumed shows here; a replica may be behind it.

        Raises:
            CursorInvalid: It is ahead of this database, which was set back.
        """
        self._check_not_ahead(cursor)
        return self._is_primary or (await self.newest()).covers(cursor)

    def _check_not_ahead(self, cursor: Cursor) -> None:
        """Make sure that the database was not set back."""
        # A replica is behind at times; the primary never is, unless it was set back.
        if self._is_primary and cursor.known_lane > self._highest_lane:
            raise CursorInvalid(self._field, "it is ahead of the database, which was set back.")


def _share(wanted: int, lanes: int) -> int:
    """Give how many flushes of each lane to look at: less of each where there are very many."""
    return wanted if lanes <= FULL_LANES else max(2, wanted * FULL_LANES // lanes)


def _flush(row: Any) -> CommittedFlush:
    return CommittedFlush(
        row["flush_id"],
        row["ingested_at"],
        row["rule_set_revision"],
        {
            table.name: Extent(
                row[f"{table.extent}_count"],
                row[f"{table.extent}_min_time"],
                row[f"{table.extent}_max_time"],
            )
            for table in RAW_TABLES
        },
    )


def _by_arrival(flushes: Iterable[CommittedFlush]) -> Iterable[CommittedFlush]:
    """Merge lanes by time, and leave each in its own order, whatever the clock did."""
    ordered = sorted(flushes, key=lambda flush: flush.flush_id)
    lanes = [list(run) for _, run in groupby(ordered, key=lambda flush: lane_of(flush.flush_id))]
    return heapq.merge(*lanes, key=lambda flush: (flush.ingested_at, flush.flush_id))
