"""Reads the rows of an export's statements, and makes chunks of them while others are sent."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator
from contextlib import aclosing
from dataclasses import dataclass
from typing import Final

from fernando_telemetry.domain.export_place import Last
from fernando_telemetry.domain.filters import Filter
from fernando_telemetry.domain.paging import KeyType
from fernando_telemetry.queries.export_chunks import Chunks, Piece
from fernando_telemetry.queries.export_request import ExportOptions
from fernando_telemetry.storage.export_kinds import Exported
from fernando_telemetry.storage.export_rows import copied
from fernando_telemetry.storage.list_statement import Parameters
from fernando_telemetry.storage.sessions import Connection
from fernando_telemetry.storage.snapshots import Snapshots

# A slice or group is sorted as a whole by PostgreSQL.
SLICE_ROWS: Final = 65_536
RETRY_SECONDS: Final = 1.0


@dataclass(frozen=True, slots=True)
class ExportReading:
    """What both orders of an export read with.

    Args:
        snapshots: Of the read database.
        options: Bounds.
        exported: The kind of records.
        conditions: The filter.
        chunks: What is made of the rows.
    """

    snapshots: Snapshots
    options: ExportOptions
    exported: Exported
    conditions: Filter
    chunks: Chunks

    async def pieces(
        self,
        connection: Connection,
        statement: tuple[str, Parameters],
        keys: tuple[tuple[str, KeyType], ...],
        last: Last | None,
    ) -> AsyncGenerator[Piece]:
        """Give the chunks of a statement's rows.

        Args:
            connection: Inside a transaction that is settled.
            statement: What reads them.
            keys: Their order.
            last: They begin behind it, or with records equal to it that were given.
        """
        self.chunks.begin(keys, last)
        pieces = copied(
            connection,
            *statement,
            piece_bytes=self.chunks.piece_bytes,
            patience_seconds=self.options.patience_seconds,
        )
        made: asyncio.Future[list[Piece]] | None = None
        try:
            async with aclosing(pieces):
                async for piece in pieces:
                    ready = await made if made is not None else []
                    # Arrow works on the next ones while these are sent.
                    made = asyncio.ensure_future(asyncio.to_thread(self.chunks.of, piece))
                    for chunk in ready:
                        yield chunk
            for chunk in await made if made is not None else []:
                yield chunk
        finally:
            if made is not None:
                await asyncio.gather(made, return_exceptions=True)
