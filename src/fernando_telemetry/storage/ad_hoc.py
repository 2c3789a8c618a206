"""Runs one statement of an operator, read-only."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Final

import asyncpg

from fernando_telemetry.domain.errors import TelemetryError
from fernando_telemetry.storage.sessions import SessionSettings, connect

_JSON: Final = ("json", "jsonb")


class SqlRefused(TelemetryError):
    """PostgreSQL refused the statement; the text is its own."""


class JsonText(str):
    """JSON as the database wrote it."""

    __slots__ = ()


@dataclass(frozen=True, slots=True)
class AdHocResult:
    """Rows, in the statement's order.

    Args:
        columns: Their names.
        types: PostgreSQL's names of the columns' types, such as `int8` or `jsonb[]`.
        rows: Values as Python has them: JSON as `JsonText`, rows as dicts, ranges as texts.
    """

    columns: tuple[str, ...]
    types: tuple[str, ...]
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
            columns = prepared.get_attributes()
            types = tuple(column.type.name for column in columns)
            rows = [
                tuple(_plain(value, kind) for value, kind in zip(row, types, strict=True))
                for row in await prepared.fetch()
            ]
            return AdHocResult(tuple(column.name for column in columns), types, rows)
    except asyncpg.PostgresError as error:
        position = getattr(error, "position", None)
        where = f" (at character {position})" if position else ""
        raise SqlRefused(f"{error}{where}") from error
    finally:
        await connection.close()


def _plain(value: Any, kind: str) -> Any:
    """Give a value without types of the driver."""
    if isinstance(value, str):
        return JsonText(value) if kind.removesuffix("[]") in _JSON else value
    if isinstance(value, list):
        return [_plain(one, kind) for one in value]
    if isinstance(value, tuple):
        return tuple(_plain(one, "") for one in value)
    if isinstance(value, asyncpg.Record):
        return {key: _plain(one, "") for key, one in value.items()}
    if isinstance(value, asyncpg.Range):
        return _range(value)
    return value


def _range(value: Any) -> str:
    """Write a range as PostgreSQL does."""
    if value.isempty:
        return "empty"
    sides = ["" if side is None else str(side) for side in (value.lower, value.upper)]
    return f"{'[' if value.lower_inc else '('}{','.join(sides)}{']' if value.upper_inc else ')'}"
