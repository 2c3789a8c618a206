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

from fernando_telemetry.domain.cursor import (
    Cursor,
    LaneState,
    cursor_at,
    read_cursor,
    write_cursor,
)
from fernando_telemetry.domain.errors import CursorInvalid, CursorTooOld
from fernando_telemetry.domain.flush_ids import lane_of
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
        """Give its rows in these tables."""
        return sum(self.extents[table.name].count for table in tables)


@dataclass(frozen=True, slots=True)
class Step:
    """Some flushes and where to go on behind them.

    Args:
        flushes: In order of arrival; of each lane in its order.
        cursor: Behind all of them.
        is_last: Whether the snapshot has no more.
    """

    flushes: tuple[CommittedFlush, ...]
    cursor: Cursor
    is_last: bool


class CommittedReading:
    """Reads in one snapshot. Get it by `begin`."""

    def __init__(self, connection: Connection, installation_id: UUID) -> None:
        self._connection = connection
        self._installation_id = installation_id

    @classmethod
    async def begin(cls, connection: Connection) -> CommittedReading:
        """Begin to read.

        Args:
            connection: In a repeatable-read transaction in which nothing was read yet, such as
                ReaderPool.snapshot() gives. Its other statements do without sequential scans.
        """
        await connection.execute(sql.hold_flushes)
        await connection.execute(sql.avoid_whole_scans)
        return cls(connection, await connection.fetchval(sql.installation_id))

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

    def read(self, text: str, field: str = "cursor") -> Cursor:
        """Give the cursor of a text.

        Raises:
            CursorInvalid: It is damaged or of another installation.
        """
        return read_cursor(text, self._installation_id, field)

    # Steps ----------------------------------------------------------------------------------

    async def next(
        self,
        cursor: Cursor,
        *,
        max_flushes: int,
        max_rows: int,
        tables: Collection[RawTable] = RAW_TABLES,
    ) -> Step:
        """Give the flushes after a cursor, at most so many; at least one where there is one.

        Args:
            cursor: Where to go on.
            max_flushes: Most flushes in the step.
            max_rows: The step ends with the flush that reaches it.
            tables: Whose rows count.

        Raises:
            CursorTooOld: Flushes behind it have been pruned unread.
            CursorInvalid: It is ahead of this database, which was set back.
        """
        await self._check_not_ahead(cursor)
        lanes = await self._lanes(cursor)
        if cursor.is_lost_in(lanes):
            raise CursorTooOld(await self._connection.fetchval(sql.oldest_flush))
        after = cursor.after_ids(lanes)
        # One more than wanted tells whether the step is the last one.
        of_each = _share(max_flushes + 1, len(after))
        candidates = await self._connection.fetch(sql.flushes_after, after, of_each)
        found = [_flush(row) for row in candidates]
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
        )

    async def rows(self, flush: CommittedFlush, table: RawTable) -> AsyncIterator[list[Row]]:
        """Give a flush's rows of a table in slices, in no order; read only when asked for.

        Rows that retention took meanwhile do not come.
        """
        extent = flush.extents[table.name]
        if not extent.count:
            return
        parameters = Parameters(extent.min_time, extent.max_time, flush.flush_id)
        async for found in slices(self._connection, _ROWS[table.name], parameters):
            yield found

    async def _lanes(self, cursor: Cursor) -> list[LaneState]:
        rows = await self._connection.fetch(sql.lanes, cursor.known_lane, list(cursor.positions))
        return [LaneState(**dict(row)) for row in rows]

    async def _check_not_ahead(self, cursor: Cursor) -> None:
        row = await self._connection.fetchrow(sql.highest_lane)
        assert row is not None
        # A replica is behind at times; the primary never is, unless it was set back.
        if row["is_primary"] and cursor.known_lane > row["lane"]:
            raise CursorInvalid("cursor", "it is ahead of the database, which was set back.")


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
