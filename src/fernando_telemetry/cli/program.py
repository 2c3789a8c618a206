"""The commands."""

from __future__ import annotations

import sys
from importlib.metadata import version
from pathlib import Path
from typing import Annotated, Any

import typer

from fernando_telemetry.cli import bench, export, query, rejected, retention, rollups, send
from fernando_telemetry.cli.signatures import Command
from fernando_telemetry.domain.errors import TelemetryError

app = typer.Typer(
    name="fernando-telemetry",
    help="Events, metrics, KPIs and traces over gRPC, committed to PostgreSQL.",
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
)
app.add_typer(send.app, name="send")
app.add_typer(query.app, name="query")
app.add_typer(rejected.app, name="rejected")
app.add_typer(retention.app, name="retention")
app.add_typer(rollups.app, name="rollups")
app.add_typer(export.app, name="export")
app.add_typer(bench.app, name="bench")

DataDir = Annotated[
    Path | None, typer.Option("--data-dir", help="Folder of the embedded PostgreSQL.")
]
Dsn = Annotated[str | None, typer.Option("--dsn", help="PostgreSQL to use; empty: the embedded.")]


def run() -> None:
    """Run the program. Trouble an operator can mend is one sentence and exit code 1."""
    try:
        app()
    except TelemetryError as error:
        print(f"fernando-telemetry: {error}", file=sys.stderr)
        raise SystemExit(1) from None


def _print_version(wanted: bool) -> None:
    if wanted:
        typer.echo(f"fernando-telemetry {version('fernando-telemetry')}")
        raise typer.Exit


@app.callback()
def _options(
    _version: Annotated[  # read by its callback
        bool,
        typer.Option(
            "--version", callback=_print_version, is_eager=True, help="Print the version and end."
        ),
    ] = False,
) -> None:
    """Take part in every call: options of the program itself."""


def _settings(**arguments: Any) -> Any:
    from fernando_telemetry.settings import load_settings

    return load_settings(**arguments)


@app.command(cls=Command)
def serve(
    *,
    data_dir: DataDir = None,
    dsn: Dsn = None,
    host: Annotated[str | None, typer.Option(help="Address to listen on.")] = None,
    port: Annotated[int | None, typer.Option(help="gRPC port; 0: any free one.")] = None,
    workers: Annotated[int | None, typer.Option(help="Processes that share the port.")] = None,
    insecure_bind: Annotated[
        bool | None,
        typer.Option(
            "--insecure-bind", help="Allow an address beyond loopback without TLS and keys."
        ),
    ] = None,
    migrate: Annotated[
        str | None, typer.Option(help="on: migrate an old schema; off: refuse it.")
    ] = None,
    agent: Annotated[
        bool | None, typer.Option("--agent/--no-agent", help="Collect this host's metrics.")
    ] = None,
    log_level: Annotated[str | None, typer.Option(help="debug, info, warning or error.")] = None,
    log_format: Annotated[str | None, typer.Option(help="auto, json or console.")] = None,
) -> None:
    """Run the server, with its own PostgreSQL unless --dsn names another.

    Every setting can also be given as FERNANDO_<NAME> in the environment, or in the TOML file
    that FERNANDO_CONFIG names. Stop it with Ctrl-C or SIGTERM.
    """
    from fernando_telemetry.cli.serving import serve as run_server

    settings = _settings(
        data_dir=data_dir,
        dsn=dsn,
        host=host,
        port=port,
        workers=workers,
        insecure_bind=insecure_bind,
        migrate=migrate,
        agent=agent,
        log_level=log_level,
        log_format=log_format,
    )
    raise typer.Exit(run_server(settings))


@app.command("serve-worker", hidden=True)
def serve_worker() -> None:
    """Be one of the processes of `serve --workers`, which starts this."""
    from fernando_telemetry.cli.working import serve_worker as run_worker

    raise typer.Exit(run_worker())


@app.command(cls=Command)
def agent(
    *,
    target: Annotated[str | None, typer.Option(help="Server to send to, as host:port.")] = None,
    interval_seconds: Annotated[
        float | None, typer.Option(help="Time between two collections.")
    ] = None,
    log_level: Annotated[str | None, typer.Option(help="debug, info, warning or error.")] = None,
) -> None:
    """Collect this host's metrics and send them to a server, without serving."""
    from fernando_telemetry.cli.serving import run_agent_alone

    settings = _settings(
        agent_target=target, agent_interval_seconds=interval_seconds, log_level=log_level
    )
    raise typer.Exit(run_agent_alone(settings))


@app.command(cls=Command)
def dsn(*, data_dir: DataDir = None) -> None:
    """Print the DSN of the database of a running server: psql "$(fernando-telemetry dsn)"."""
    from fernando_telemetry.cli.database import current_dsn

    typer.echo(current_dsn(_settings(data_dir=data_dir)))


@app.command(cls=Command)
def sql(
    statement: Annotated[str, typer.Argument(help="One SQL statement.")],
    *,
    data_dir: DataDir = None,
    dsn: Dsn = None,
    as_json: Annotated[bool, typer.Option("--json", help="One JSON object a row.")] = False,
) -> None:
    """Run one SQL statement in the server's database, read-only, and print its rows."""
    from fernando_telemetry.cli.database import run_sql

    settings = _settings(data_dir=data_dir, dsn=dsn)
    raise typer.Exit(run_sql(settings, statement, as_json=as_json))


@app.command(cls=Command)
def migrate(*, data_dir: DataDir = None, dsn: Dsn = None) -> None:
    """Bring the database to this program's schema, then end."""
    from fernando_telemetry.cli.database import run_migrate

    run_migrate(_settings(data_dir=data_dir, dsn=dsn))
