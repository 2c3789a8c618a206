"""dsn, sql and migrate: the database behind a server."""

from __future__ import annotations

import asyncio
import sys
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

from fernando_telemetry.domain.errors import NoServerRuns
from fernando_telemetry.embedded import EmbeddedPostgres, effective_data_dir, running_server
from fernando_telemetry.settings import Settings
from fernando_telemetry.storage.ad_hoc import AdHocResult, SqlRefused, run_read_only
from fernando_telemetry.storage.migrating import migrate
from fernando_telemetry.storage.sessions import SessionSettings


def current_dsn(settings: Settings) -> str:
    """Give the DSN in the settings, else that of the server running on the data directory.

    Raises:
        NoServerRuns: None does.
    """
    if settings.dsn:
        return settings.dsn
    data_dir = effective_data_dir(settings)
    running = running_server(data_dir)
    if running is None:
        raise NoServerRuns(data_dir)
    return running.dsn


def run_sql(settings: Settings, statement: str, *, as_json: bool) -> int:
    """Run a statement and print its rows; 1 where PostgreSQL refuses it."""
    opened = SessionSettings.of(settings, current_dsn(settings), "sql")
    try:
        result = asyncio.run(run_read_only(opened, statement))
    except SqlRefused as error:
        print(f"fernando-telemetry: {error}", file=sys.stderr)
        return 1
    if as_json:
        from fernando_telemetry.cli.sql_rows import json_line

        for row in result.rows:
            print(json_line(result, row))
    else:
        _print_rows(result)
    return 0


def _print_rows(result: AdHocResult) -> None:
    """Print a table as wide as it is on a terminal with room, else a line a column."""
    from rich.console import Console

    from fernando_telemetry.cli.printing import table_of
    from fernando_telemetry.cli.sql_rows import columns_of_result, has_room, lines_by_row
    from fernando_telemetry.cli.tables import on_the_point, plain_lines

    columns = columns_of_result(result)
    aligned = [on_the_point(column) for column in columns]
    console = Console(highlight=False, emoji=False, markup=False)
    if columns and not sys.stdout.isatty():
        for line in plain_lines(columns, header=True):
            print(line)
    elif columns and has_room(aligned, console.width):
        console.print(table_of([(column, column.width) for column in aligned]))
    elif columns:
        for line in lines_by_row(columns):
            print(line)
    sys.stdout.flush()
    print(f"({len(result.rows)} row{'' if len(result.rows) == 1 else 's'})", file=sys.stderr)


@asynccontextmanager
async def opened_database(settings: Settings) -> AsyncIterator[str]:
    """Give the DSN of the settings or of a running server, else start the embedded database."""
    if settings.dsn:
        yield settings.dsn
    elif running := running_server(effective_data_dir(settings)):
        yield running.dsn
    else:
        async with EmbeddedPostgres(settings) as embedded:
            yield embedded.dsn


def run_migrate(settings: Settings) -> None:
    """Migrate the database of the settings; the embedded one is started for it.

    Raises:
        StartupError: It does not answer, or its schema is newer.
    """

    async def run() -> None:
        async with opened_database(settings) as dsn:
            await migrate(SessionSettings.of(settings, dsn, "migrate"), allowed=True)

    asyncio.run(run())
    print("The schema is up to date.")
