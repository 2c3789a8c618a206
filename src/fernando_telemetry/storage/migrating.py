"""Brings a database to this program's schema.

N servers may start at once: one migrates under an advisory lock, the others wait for it and find
nothing left to do. Alembic and SQLAlchemy are imported only when there is something to do, which
keeps a warm start quick, and in a process of its own, which keeps 30 MB out of the server's.
"""

from __future__ import annotations

import asyncio
import hashlib
import sys
import time
from pathlib import Path
from typing import TYPE_CHECKING, Any

import asyncpg
import structlog

from fernando_telemetry.domain.errors import DatabaseUnavailable, StartupError
from fernando_telemetry.storage.sessions import (
    Connection,
    SessionSettings,
    connect,
    connect_to_first,
    writing_hosts,
)
from fernando_telemetry.storage.statements import load

if TYPE_CHECKING:
    from sqlalchemy.ext.asyncio import AsyncEngine

log = structlog.get_logger(__name__)
sql = load("migrating")

OLDEST_POSTGRESQL = 150_000
LOCK_WAIT_SECONDS = 120.0
CONNECT_SECONDS = 10.0


def scripts_folder() -> Path:
    """Give the folder of the migrations: inside the wheel, else the repository's."""
    carried = Path(__file__).resolve().parents[1] / "_migrations"
    return carried if carried.is_dir() else Path(__file__).resolve().parents[3] / "migrations"


def revisions() -> list[str]:
    """List the known revisions, oldest first; a file is named `<revision>_<slug>.py`."""
    versions = scripts_folder() / "versions"
    return sorted(path.name.split("_", 1)[0] for path in versions.glob("[0-9]*_*.py"))


def idempotent_statements() -> list[str]:
    """Read the functions and views, in the order of their file names."""
    return [
        path.read_text(encoding="utf-8")
        for path in sorted(scripts_folder().joinpath("idempotent").glob("*.sql"))
    ]


def engine_for(dsn: str) -> AsyncEngine:
    """Make a SQLAlchemy engine over asyncpg for any DSN that asyncpg takes."""
    from sqlalchemy.ext.asyncio import create_async_engine
    from sqlalchemy.pool import NullPool

    async def creator() -> Any:
        return await connect_to_first(writing_hosts(dsn), timeout=CONNECT_SECONDS)

    return create_async_engine("postgresql+asyncpg://", async_creator=creator, poolclass=NullPool)


async def _revision_of(connection: Connection) -> str | None:
    if await connection.fetchval(sql.has_version_table) is None:
        return None
    revision: str | None = await connection.fetchval(sql.revision)
    return revision


def _digest(statements: list[str]) -> str:
    return hashlib.sha256("\0".join(statements).encode()).hexdigest()


async def _up_to_date(connection: Connection) -> bool:
    """Tell whether nothing is left to do; refuse what this program cannot work with.

    Raises:
        StartupError: The schema is newer than the program, or the server too old.
    """
    if connection.get_server_version()[0] * 10_000 < OLDEST_POSTGRESQL:
        version = await connection.fetchval("SHOW server_version")
        raise StartupError(f"PostgreSQL {version} is too old: 15 or newer is needed.")
    revision = await _revision_of(connection)
    known = revisions()
    if revision is not None and revision not in known:
        raise StartupError(
            f"The database has schema {revision}, newer than this program's {known[-1]}: "
            "install the newer fernando-telemetry, or point FERNANDO_DSN at another database."
        )
    if revision != known[-1]:
        return False
    applied = await connection.fetchval(sql.idempotent_digest)
    return bool(applied == _digest(idempotent_statements()))


async def migrate(settings: SessionSettings, *, allowed: bool) -> None:
    """Bring the database to this program's schema.

    Args:
        settings: Session of the control database.
        allowed: Whether to change an older schema; else it is refused.

    Raises:
        StartupError: The database does not answer, its schema is newer, or older and not allowed.
    """
    try:
        connection = await connect(settings)
    except DatabaseUnavailable as error:
        raise StartupError(
            f"The database does not answer: {error.__cause__ or error}. Check FERNANDO_DSN."
        ) from error
    except (asyncpg.PostgresError, ValueError) as error:
        raise StartupError(
            f"The database refuses the connection: {error} Check FERNANDO_DSN."
        ) from error
    try:
        if await _up_to_date(connection):
            return
        if not allowed:
            raise StartupError(
                "The database's schema is older than this program and FERNANDO_MIGRATE is off: "
                "run `fernando-telemetry migrate`."
            )
        await _lock(connection)
        if await _up_to_date(connection):
            return
        started = time.monotonic()
        await _upgrade_apart(settings.dsn)
        await _apply_idempotent(connection)
        log.info("schema_migrated", revision=revisions()[-1], seconds=time.monotonic() - started)
    finally:
        await connection.close()


async def _lock(connection: Connection) -> None:
    deadline = time.monotonic() + LOCK_WAIT_SECONDS
    delay = 0.02
    while not await connection.fetchval(sql.try_lock):
        if time.monotonic() > deadline:
            raise StartupError(
                f"Another server has been migrating for {LOCK_WAIT_SECONDS:.0f} seconds; "
                "look at its log."
            )
        await asyncio.sleep(delay)
        delay = min(delay * 2, 1.0)


async def _upgrade_apart(dsn: str) -> None:
    """Upgrade in a child process; the DSN goes by stdin, where nobody sees a password.

    Raises:
        StartupError: It failed; its output is on stderr.
    """
    child = await asyncio.create_subprocess_exec(
        sys.executable,
        "-P",
        "-c",
        f"import asyncio, sys; from {__name__} import upgrade; "
        "asyncio.run(upgrade(sys.stdin.readline().rstrip()))",
        stdin=asyncio.subprocess.PIPE,
        stdout=asyncio.subprocess.DEVNULL,
    )
    try:
        await child.communicate(f"{dsn}\n".encode())
    except BaseException:
        child.kill()
        raise
    if child.returncode:
        raise StartupError("The database's schema could not be migrated; stderr has the reason.")


async def upgrade(dsn: str) -> None:
    """Run the missing migrations, in this process."""
    from alembic import command
    from alembic.config import Config
    from sqlalchemy import Connection as SyncConnection
    from sqlalchemy import text

    config = Config()
    config.set_main_option("script_location", str(scripts_folder()))
    config.set_main_option("path_separator", "os")

    def upgrade(connection: SyncConnection) -> None:
        config.attributes["connection"] = connection
        command.upgrade(config, "head")

    engine = engine_for(dsn)
    try:
        async with engine.connect() as connection:
            # Plain PostgreSQL accepts the unknown name; Citus needs it where one transaction
            # makes enums and tables.
            await connection.execute(text("SET citus.multi_shard_modify_mode = 'sequential'"))
            await connection.execute(text("SET lock_timeout = '10s'"))
            await connection.execute(text("SET statement_timeout = '10min'"))
            await connection.commit()
            await connection.run_sync(upgrade)
            await connection.commit()
    finally:
        await engine.dispose()


async def _apply_idempotent(connection: Connection) -> None:
    statements = idempotent_statements()
    async with connection.transaction():
        for statement in statements:
            await connection.execute(statement)
        await connection.execute(sql.set_idempotent_digest, _digest(statements))
