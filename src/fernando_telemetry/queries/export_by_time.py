"""An export by time: what a cursor has consumed, in slices of time that are a snapshot each."""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncGenerator, AsyncIterator
from contextlib import aclosing, asynccontextmanager
from datetime import timedelta
from typing import Final

from fernando_telemetry.domain.calendar import MICROSECOND
from fernando_telemetry.domain.errors import CommitTokenNotReached
from fernando_telemetry.domain.export_place import FIELD, Last, Place, RangePlace
from fernando_telemetry.domain.time_range import TimeRange
from fernando_telemetry.queries.export_chunks import Piece
from fernando_telemetry.queries.export_reading import RETRY_SECONDS, SLICE_ROWS, ExportReading
from fernando_telemetry.storage.committed import CommittedReading
from fernando_telemetry.storage.export_rows import BEGINNING, partition_spans, settle
from fernando_telemetry.storage.export_statement import range_statement
from fernando_telemetry.storage.sessions import Connection

# Few may match of many that are read, and the caller may be slow.
SLICE_SECONDS: Final = 5.0
FIRST_WIDTH: Final = timedelta(seconds=1)
LONGEST_WIDTH: Final = timedelta(days=400)
GROWTH: Final = 8


class TimeExport:
    """What comes behind a place in a time range.

    Args:
        reading: What is read with.
        place: Where it begins.

    Attributes:
        end: The cursor whose records it has.
        expired: None are known of.
    """

    def __init__(self, reading: ExportReading, place: RangePlace) -> None:
        self._reading = reading
        self._place = place
        self.end = place.cursor
        self.expired = 0

    async def chunks(self) -> AsyncGenerator[tuple[Piece, Place]]:
        """Give the chunks, each with the place behind it."""
        exported, place = self._reading.exported, self._place
        reach, last = exported.reach(place.time_range), place.last
        start = reach.start if last is None else last.keys[0]
        width = FIRST_WIDTH
        async with self._snapshot() as connection:
            spans = await partition_spans(connection, exported.tables)
        for span in spans:
            start, end = max(span.start, start), min(span.end, reach.end)
            while start < end:
                # The oldest partition reaches back to the beginning of time, and holds little.
                behind = end if span.start == BEGINNING or end - start < width else start + width
                begun, rows = time.monotonic(), 0
                given = self._slice(TimeRange(start, behind), last)
                async with aclosing(given):
                    async for piece in given:
                        rows += piece.row_count
                        yield piece, RangePlace(place.cursor, place.time_range, piece.last)
                width = _width(width, rows, time.monotonic() - begun)
                start, last = behind, None

    async def _slice(self, part: TimeRange, last: Last | None) -> AsyncGenerator[Piece]:
        """Give the chunks of a part of the time range."""
        reading, place = self._reading, self._place
        exported = reading.exported
        statement = range_statement(
            exported, reading.conditions, part, place.time_range, place.cursor, last
        )
        async with self._snapshot() as connection:
            pieces = reading.pieces(connection, statement, exported.range_keys, last)
            async with aclosing(pieces):
                async for piece in pieces:
                    yield piece

    @asynccontextmanager
    async def _snapshot(self) -> AsyncIterator[Connection]:
        """Lend a settled session that shows all that the cursor has consumed.

        Raises:
            CommitTokenNotReached: A replica did not come so far in time.
        """
        patience = self._reading.options.commit_wait_seconds
        deadline = asyncio.get_running_loop().time() + patience
        while True:
            async with self._reading.snapshots.opened() as connection:
                await settle(connection)
                committed = await CommittedReading.begin(connection, FIELD)
                if await committed.shows(self._place.cursor):
                    yield connection
                    return
            if asyncio.get_running_loop().time() > deadline:
                raise CommitTokenNotReached(
                    "The database that is read is behind the export's token.", RETRY_SECONDS
                )
            await asyncio.sleep(patience / 10)


def _width(width: timedelta, rows: int, seconds: float) -> timedelta:
    """Give the width of the next slice, after one that had so many rows and took so long."""
    room = min(SLICE_ROWS / max(rows, 1), SLICE_SECONDS / max(seconds, 0.001))
    factor = min(GROWTH, max(1 / GROWTH, room))
    return max(MICROSECOND, min(LONGEST_WIDTH, width * factor))
