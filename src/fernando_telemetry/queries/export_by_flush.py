"""An export by flush: what was committed behind a cursor, in steps that are a snapshot each."""

from __future__ import annotations

from collections.abc import AsyncGenerator
from contextlib import aclosing
from typing import Final

from fernando_telemetry.domain.cursor import Cursor
from fernando_telemetry.domain.export_place import FIELD, FlushPlace, Place
from fernando_telemetry.queries.export_chunks import Piece
from fernando_telemetry.queries.export_expiry import ExpiryCount
from fernando_telemetry.queries.export_reading import SLICE_ROWS, ExportReading
from fernando_telemetry.storage.committed import CommittedReading, Step
from fernando_telemetry.storage.export_rows import counts, settle
from fernando_telemetry.storage.export_statement import count_statement, flush_statement
from fernando_telemetry.storage.flush_partitions import FlushPartitions, dropped_meanwhile
from fernando_telemetry.storage.sessions import Connection

STEP_FLUSHES: Final = 2_000


class FlushExport:
    """What comes behind a place, up to a cursor.

    Args:
        reading: What is read with.
        place: Where it begins.
        through: The cursor.

    Attributes:
        end: The cursor behind all that was read.
        expired: Records that are gone of what was read, and of what the place knew.
    """

    def __init__(self, reading: ExportReading, place: Cursor | FlushPlace, through: Cursor) -> None:
        self._reading = reading
        self._inside = place if isinstance(place, FlushPlace) else None
        self._through = through
        self.end = place if isinstance(place, Cursor) else place.cursor
        self.expired = 0 if self._inside is None else self._inside.expired

    async def chunks(self) -> AsyncGenerator[tuple[Piece, Place]]:
        """Give the chunks, each with the place behind it."""
        is_last = False
        while not is_last:
            inside = self._inside
            flush_id = inside.flush_id if inside is not None else None
            async with self._reading.snapshots.opened(flush_id) as connection:
                await settle(connection)
                step = await self._step(await CommittedReading.begin(connection, FIELD))
                given = self._given(connection, step)
                async with aclosing(given):
                    async for one in given:
                        yield one
            self.end, self._inside, is_last = step.cursor, None, step.is_last

    async def _step(self, committed: CommittedReading) -> Step:
        if self._inside is not None:
            return await committed.only(self.end, self._inside.flush_id)
        return await committed.next(
            self.end,
            max_flushes=STEP_FLUSHES,
            max_rows=SLICE_ROWS,
            tables=self._reading.exported.tables,
            through=self._through,
        )

    async def _given(
        self, connection: Connection, step: Step
    ) -> AsyncGenerator[tuple[Piece, Place]]:
        """Give the chunks of a step."""
        reading, exported = self._reading, self._reading.exported
        last = self._inside.last if self._inside is not None else None
        having = [one for one in step.flushes if one.row_count(exported.tables)]
        committed = {one.flush_id: one.row_count(exported.tables) for one in having}
        with dropped_meanwhile():
            partitions = await FlushPartitions.shown(connection, exported.tables)
            statement = flush_statement(exported, reading.conditions, partitions, having, last)
            # Without a filter those that are there are those that are given.
            present = None
            if reading.conditions:
                present = await counts(connection, count_statement(exported, partitions, having))
            count = ExpiryCount(committed, present, self._inside)
            if statement is None:
                self.expired += count.of_all()
                return
            pieces = reading.pieces(connection, statement, exported.flush_keys, last)
            async with aclosing(pieces):
                async for piece in pieces:
                    count.give(piece)
                    below = step.cursor_below(piece.last.keys[0])
                    expired = self.expired + count.below_last()
                    yield piece, FlushPlace(below, piece.last, expired, count.given_of_last())
        self.expired += count.of_all()
