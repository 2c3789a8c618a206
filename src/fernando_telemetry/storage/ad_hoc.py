"""Runs one statement of an operator, read-only."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import asyncpg

from fernando_telemetry.domain.errors import TelemetryError
from fernando_telemetry.storage.sessions import SessionSettings, connect


class SqlRefused(TelemetryError):
    """PostgreSQL refused the statement; the text is its own."""


@dataclass(frozen=True, slots=True)
class AdHocResult:
    """Column names and rows, in the statement's order."""

    columns: tuple[str, ...]
    rows: list[tuple[Any, ...]]


async def run_read_only(settings: SessionSettings, statement: str) -> AdHocResult:
    """Run a statement in a read-only transaction and fetch all its rows.

    Raises:
        SqlRefused: It does not parse, would write, or ran past the time-out.
        DatabaseUnavailable: The database does not answer.
    """
    connection = await connect(settings)
    try:
        async with connection.transaction(readonly=True):
            prepared = await connection.prepare(statement)
            rows = [tuple(row) for row in await prepared.fetch()]
            return AdHocResult(tuple(column.name for column in prepared.get_attributes()), rows)
    except asyncpg.PostgresError as error:
        position = getattr(error, "position", None)
        where = f" (at character {position})" if position else ""
        raise SqlRefused(f"{error}{where}") from error
    finally:
        await connection.close()
