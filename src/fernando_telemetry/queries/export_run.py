"""One export: by time or by flush, in many short snapshots, and its manifest.

By time: a cursor is taken first, and what it has consumed is read in slices of time. By flush:
what came after a cursor, up to what shows when the export begins.
"""

from __future__ import annotations

from collections.abc import AsyncGenerator
from contextlib import aclosing
from datetime import datetime

from fernando_telemetry.domain.cursor import Cursor
from fernando_telemetry.domain.export_place import FIELD, ExportTokens, Place, RangePlace
from fernando_telemetry.domain.filters import Filter
from fernando_telemetry.domain.time_range import ALL_TIME
from fernando_telemetry.queries.export_by_flush import FlushExport
from fernando_telemetry.queries.export_by_time import TimeExport
from fernando_telemetry.queries.export_chunks import Chunk, Chunks
from fernando_telemetry.queries.export_formats import ArrowIpc, JsonLines
from fernando_telemetry.queries.export_reading import ExportReading
from fernando_telemetry.queries.export_request import ExportOptions, ExportRequest, Manifest
from fernando_telemetry.storage.committed import CommittedReading
from fernando_telemetry.storage.export_columns import SCHEMA_VERSION
from fernando_telemetry.storage.export_kinds import Exported
from fernando_telemetry.storage.export_rows import BEGINNING, partition_spans
from fernando_telemetry.storage.snapshots import Snapshots


class ExportRun:
    """One export.

    Args:
        snapshots: Of the read database.
        options: Bounds.
        exported: The kind of records.
        conditions: The filter.
        request: What was asked for.
    """

    def __init__(
        self,
        snapshots: Snapshots,
        options: ExportOptions,
        exported: Exported,
        conditions: Filter,
        request: ExportRequest,
    ) -> None:
        self._snapshots = snapshots
        self._exported = exported
        self._request = request
        columns = exported.columns
        self._chunks = Chunks(
            exported, JsonLines(columns) if request.as_json else ArrowIpc(columns)
        )
        self._reading = ExportReading(snapshots, options, exported, conditions, self._chunks)

    async def answer(self, min_flush_id: int | None) -> AsyncGenerator[Chunk | Manifest]:
        """Give chunks, then the manifest."""
        async with self._snapshots.opened(min_flush_id) as connection:
            committed = await CommittedReading.begin(connection, FIELD)
            newest = await committed.newest()
            tokens = self._tokens(committed)
            place = self._place(tokens, newest)
        token = tokens.write(place)
        if isinstance(place, RangePlace):
            order: TimeExport | FlushExport = TimeExport(self._reading, place)
        else:
            order = FlushExport(self._reading, place, newest)
        chunks = order.chunks()
        async with aclosing(chunks):
            async for piece, behind in chunks:
                token = tokens.write(behind)
                yield Chunk(piece.data, piece.row_count, token)
        if end := self._chunks.end():
            # Behind the last record, and not behind the export: the manifest is to come.
            yield Chunk(end, 0, token)
        yield await self._manifest(tokens.write(order.end), order.expired)

    def _place(self, tokens: ExportTokens, newest: Cursor) -> Place:
        """Give where the export begins."""
        request = self._request
        if request.time_range is not None or not request.after_token:
            return RangePlace(newest, request.time_range or ALL_TIME)
        return tokens.read(request.after_token)

    async def _manifest(self, token: str, expired: int) -> Manifest:
        chunks = self._chunks
        return Manifest(
            chunks.row_count,
            chunks.sha256(),
            token,
            SCHEMA_VERSION,
            chunks.min_time,
            chunks.max_time,
            expired,
            await self._oldest() if expired else None,
        )

    async def _oldest(self) -> datetime | None:
        """Give from when on there are partitions; None: from the beginning of time."""
        async with self._snapshots.opened() as connection:
            spans = await partition_spans(connection, self._exported.tables)
        return spans[0].start if spans and spans[0].start > BEGINNING else None

    def _tokens(self, reading: CommittedReading) -> ExportTokens:
        exported = self._exported
        return ExportTokens(
            reading.installation_id,
            exported.kind,
            self._request.filter,
            tuple(kind for _, kind in exported.range_keys),
            tuple(kind for _, kind in exported.flush_keys),
        )
