"""Statements of the benchmarks whose table is a parameter, and so no part of storage/sql.

Names of tables and columns come from this package or from the catalogue.
"""
# ruff: noqa: S608

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Final

from fernando_telemetry.bench.server import Connection
from fernando_telemetry.storage.statements import load

sql = load("bench")

TABLES: Final = {
    "events": "telemetry_events",
    "samples": "metric_samples",
    "points": "metric_samples",
    "spans": "traces",
}
TIME_COLUMNS: Final = {
    "telemetry_events": "event_timestamp",
    "metric_samples": "time",
    "traces": "start_time",
}


async def columns_of(connection: Connection, table: str) -> list[str]:
    """Give the columns of a table that COPY takes, in their order."""
    return [row[0] for row in await connection.fetch(sql.columns_of, table)]


async def count_rows(connection: Connection, table: str) -> int:
    """Count a table's rows."""
    return int(await connection.fetchval(f"SELECT count(*) FROM {table}", timeout=600))


async def has_rows(connection: Connection, table: str) -> bool:
    """Tell whether a table has any row."""
    return bool(await connection.fetchval(f"SELECT EXISTS (SELECT FROM {table})"))


def select_slice(table: str, columns: Sequence[str], offset: int, limit: int) -> str:
    """Select some rows in the order they lie in."""
    return f"SELECT {', '.join(columns)} FROM {table} OFFSET {offset} LIMIT {limit}"


def insert_row(table: str, columns: Sequence[str]) -> str:
    """Insert one row; its values are the parameters, in order."""
    places = ", ".join(f"${number}" for number in range(1, len(columns) + 1))
    return f"INSERT INTO {table} ({', '.join(columns)}) VALUES ({places})"


async def keep_pattern(
    connection: Connection, pattern: str, table: str, columns: Sequence[str], most_rows: int
) -> int:
    """Keep some rows of a table in another, numbered by `place` from 0; gives how many."""
    names = ", ".join(columns)
    await connection.execute(
        f"CREATE UNLOGGED TABLE {pattern} AS SELECT row_number() OVER () - 1 AS place, {names} "
        f"FROM (SELECT {names} FROM {table} LIMIT {most_rows}) stored"
    )
    await connection.execute(f"CREATE INDEX ON {pattern} (place); ANALYZE {pattern}")
    return await count_rows(connection, pattern)


def insert_copies(
    table: str, columns: Sequence[str], pattern: str, pattern_rows: int, step_micros: int
) -> str:
    """Insert rows of the pattern round and round, with times that rise by a step.

    Its parameters: $1 time of row 0, $2 first row, $3 row behind the last.
    """
    seconds = f"g * {step_micros} / 1e6::float8"
    time = TIME_COLUMNS[table]
    values = ", ".join(
        f"$1::timestamptz + make_interval(secs => {seconds})" if column == time else f"p.{column}"
        for column in columns
    )
    return (
        f"INSERT INTO {table} ({', '.join(columns)}) "
        f"SELECT {values} FROM generate_series($2::bigint, $3::bigint - 1) g "
        f"JOIN {pattern} p ON p.place = g % {pattern_rows}"
    )


def insert_made_up(table: str, columns: Sequence[str], select: str) -> str:
    """Insert the rows that a statement of bench_rows.sql makes; its parameters are the same."""
    return f"INSERT INTO {table} ({', '.join(columns)}) {select.rstrip().rstrip(';')}"


def continued(base: str, condition: str, order: str, limit: int) -> str:
    """Go on with a list's statement of storage/sql, as the list does."""
    return f"{base.rstrip()} AND {condition} ORDER BY {order} LIMIT {limit}"


async def analyze(connection: Connection, table: str) -> None:
    """Run ANALYZE."""
    await connection.execute(f"ANALYZE {table}", timeout=3600)


async def make_like(connection: Connection, table: str, pattern: str) -> None:
    """Make an empty table with the columns and indexes of another, in place of an older one."""
    await connection.execute(f"DROP TABLE IF EXISTS {table}")
    await connection.execute(
        f"CREATE TABLE {table} "
        f"(LIKE {pattern} INCLUDING DEFAULTS INCLUDING GENERATED INCLUDING INDEXES)"
    )


async def vacuum(connection: Connection, table: str) -> None:
    """Run VACUUM ANALYZE."""
    await connection.execute(f"VACUUM ANALYZE {table}", timeout=3600)


async def any_row(connection: Connection, table: str, columns: Sequence[str]) -> Any:
    """Give a row, or None."""
    return await connection.fetchrow(f"SELECT {', '.join(columns)} FROM {table} LIMIT 1")


async def oldest_flush(connection: Connection, deltas: str) -> float:
    """Give the age of the oldest delta in a table, in seconds; 0 where there is none."""
    age = await connection.fetchval(
        f"SELECT extract(epoch FROM clock_timestamp() - min(flushed_at))::float8 FROM {deltas}"
    )
    return float(age or 0.0)
