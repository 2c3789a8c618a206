"""dsn, sql and migrate: the database behind a server."""

from __future__ import annotations

import asyncio
import json
import sys
from typing import Any

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
        for row in result.rows:
            print(json.dumps(dict(zip(result.columns, row, strict=True)), default=str))
    else:
        _print_table(result)
    return 0


def _print_table(result: AdHocResult) -> None:
    from rich.console import Console
    from rich.table import Table
    from rich.text import Text

    table = Table(show_edge=False)
    for column in result.columns:
        table.add_column(column, overflow="fold")
    for row in result.rows:
        table.add_row(*(Text(_cell(value)) for value in row))
    console = Console(width=None if sys.stdout.isatty() else 10_000)
    if result.columns:
        console.print(table)
    console.print(f"({len(result.rows)} row{'' if len(result.rows) == 1 else 's'})")


def _cell(value: Any) -> str:
    return "" if value is None else str(value)


def run_migrate(settings: Settings) -> None:
    """Migrate the database of the settings; the embedded one is started for it.

    Raises:
        StartupError: It does not answer, or its schema is newer.
    """

    async def run() -> None:
        if settings.dsn:
            await migrate(SessionSettings.of(settings, settings.dsn, "migrate"), allowed=True)
            return
        running = running_server(effective_data_dir(settings))
        if running is not None:
            await migrate(SessionSettings.of(settings, running.dsn, "migrate"), allowed=True)
            return
        async with EmbeddedPostgres(settings) as embedded:
            await migrate(SessionSettings.of(settings, embedded.dsn, "migrate"), allowed=True)

    asyncio.run(run())
    print("The schema is up to date.")
