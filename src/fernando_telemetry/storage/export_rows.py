"""Reads records in bulk: COPY as text, in pieces of whole lines, as fast as they are taken."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator, Iterable
from typing import Any, Final

from asyncpg.protocol.protocol import NO_TIMEOUT

from fernando_telemetry.domain.errors import QueryTooExpensive
from fernando_telemetry.domain.time_range import TimeRange
from fernando_telemetry.storage.export_columns import NULL
from fernando_telemetry.storage.list_statement import Parameters
from fernando_telemetry.storage.partitions import BEGINNING, parse_bounds
from fernando_telemetry.storage.partitions import sql as partitions_sql
from fernando_telemetry.storage.rows import RawTable
from fernando_telemetry.storage.sessions import Connection
from fernando_telemetry.storage.statements import load

__all__ = ["BEGINNING", "copied", "counts", "partition_spans", "settle"]

sql = load("export")

# What a socket holds is some 200 KiB.
FULL_BYTES: Final = 96 * 1024
FILLING_SECONDS: Final = 0.0005


async def settle(connection: Connection) -> None:
    """Let the rest of a transaction read for an export."""
    await connection.execute(sql.settle)


async def partition_spans(connection: Connection, tables: Iterable[RawTable]) -> list[TimeRange]:
    """Give the spans of time that partitions of some tables cover, in order, none overlapping."""
    rows = await connection.fetch(partitions_sql.existing, [table.name for table in tables])
    spans: list[TimeRange] = []
    for start, end in sorted({parse_bounds(row["bounds"]) for row in rows}):
        begin = max(start, spans[-1].end) if spans else start
        if begin < end:
            spans.append(TimeRange(begin, end))
    return spans


async def counts(
    connection: Connection, statement: tuple[str, Parameters] | None
) -> dict[int, int]:
    """Give the rows of a statement of counts by flush; None: there is nothing to count."""
    if statement is None:
        return {}
    text, parameters = statement
    rows = await connection.fetch(text, *parameters.values)
    return {row["flush_id"]: row["count"] for row in rows}


async def copied(
    connection: Connection,
    text: str,
    parameters: Parameters,
    *,
    piece_bytes: int,
    patience_seconds: float,
) -> AsyncGenerator[bytes]:
    """Give a statement's rows as ExportColumns reads them, only as fast as they are taken.

    Args:
        connection: Inside a transaction that is settled.
        text: The statement.
        parameters: Its values.
        piece_bytes: A piece ends with the line that reaches it.
        patience_seconds: How long the next piece is waited for.

    Raises:
        QueryTooExpensive: The next piece did not come in time.
    """
    pieces: asyncio.Queue[bytes] = asyncio.Queue(1)
    held: list[bytes] = []
    size = 0

    async def take(data: bytes) -> None:
        # The server sends a message for each row and the driver gives whole messages.
        nonlocal size
        held.append(data)
        size += len(data)
        if size >= piece_bytes:
            piece = b"".join(held)
            held.clear()
            size = 0
            await pieces.put(piece)
        elif len(data) < FULL_BYTES:
            # PostgreSQL sends 8 KiB at a time, and waking up for each costs more than what is in
            # it. Meanwhile the socket fills; the driver does not read.
            await asyncio.sleep(FILLING_SECONDS)

    async def run() -> None:
        source: Any = connection
        # Of no age by itself: a time-out of the whole would count the taker's time.
        await source.copy_from_query(
            text, *parameters.values, output=take, format="text", null=NULL, timeout=NO_TIMEOUT
        )
        if held:
            await pieces.put(b"".join(held))

    copying = asyncio.create_task(run(), name="export-copy")
    try:
        while piece := await _next(pieces, copying, patience_seconds):
            yield piece
    finally:
        copying.cancel()
        await asyncio.gather(copying, return_exceptions=True)


async def _next(
    pieces: asyncio.Queue[bytes], copying: asyncio.Task[None], patience_seconds: float
) -> bytes:
    """Give the next piece, b"" behind the last one."""
    if not pieces.empty():
        return pieces.get_nowait()
    getting = asyncio.create_task(pieces.get())
    try:
        done, _ = await asyncio.wait(
            [getting, copying], timeout=patience_seconds, return_when=asyncio.FIRST_COMPLETED
        )
    finally:
        getting.cancel()
    if getting in done:
        return getting.result()
    if copying not in done:
        raise QueryTooExpensive("The export waited for its rows past the time-out of a query.")
    copying.result()
    return b"" if pieces.empty() else pieces.get_nowait()
