"""A physical replica of a test's PostgreSQL: made by pg_basebackup, a hot standby that streams."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass
from pathlib import Path
from urllib.parse import parse_qs, urlsplit

import asyncpg

from fernando_telemetry.embedded import EmbeddedPostgres
from fernando_telemetry.settings import Settings
from tests.conftest import with_database

DEADLINE_SECONDS = 30.0


@dataclass
class Replica:
    """A running standby. Its replay can be stopped and let go on."""

    primary: EmbeddedPostgres
    standby: EmbeddedPostgres

    def dsn_of(self, primary_dsn: str) -> str:
        """Give the DSN of the same database here."""
        return with_database(self.standby.dsn, urlsplit(primary_dsn).path.lstrip("/"))

    async def pause(self) -> None:
        """Stop replay: from here on nothing new shows."""
        connection = await asyncpg.connect(with_database(self.standby.dsn, "postgres"))
        await connection.execute("SELECT pg_wal_replay_pause()")
        async with asyncio.timeout(DEADLINE_SECONDS):
            state = "SELECT pg_get_wal_replay_pause_state()"
            while await connection.fetchval(state) != "paused":  # noqa: ASYNC110
                await asyncio.sleep(0.01)
        await connection.close()

    async def resume(self) -> None:
        """Let replay go on."""
        connection = await asyncpg.connect(with_database(self.standby.dsn, "postgres"))
        await connection.execute("SELECT pg_wal_replay_resume()")
        await connection.close()

    async def catch_up(self) -> None:
        """Wait until all that is written on the primary by now is replayed."""
        primary = await asyncpg.connect(with_database(self.primary.dsn, "postgres"))
        standby = await asyncpg.connect(with_database(self.standby.dsn, "postgres"))
        written = await primary.fetchval("SELECT pg_current_wal_lsn()::text")
        replayed = "SELECT pg_last_wal_replay_lsn() >= $1::text::pg_lsn"
        async with asyncio.timeout(DEADLINE_SECONDS):
            while not await standby.fetchval(replayed, written):  # noqa: ASYNC110
                await asyncio.sleep(0.01)
        await primary.close()
        await standby.close()


@asynccontextmanager
async def replica_of(primary: EmbeddedPostgres, folder: Path) -> AsyncIterator[Replica]:
    """Copy a running PostgreSQL and let the copy follow it."""
    options = parse_qs(urlsplit(primary.dsn).query)
    process = await asyncio.create_subprocess_exec(
        str(primary.programs_folder / "pg_basebackup"),
        *("-h", options["host"][0], "-p", options["port"][0], "-U", "postgres"),
        *("-D", str(folder / "pgdata"), "-X", "stream", "-c", "fast", "-R", "--no-sync"),
        stderr=asyncio.subprocess.PIPE,
    )
    _, errors = await process.communicate()
    assert process.returncode == 0, errors.decode()
    async with EmbeddedPostgres(Settings(data_dir=folder, pg_fsync=False)) as standby:
        yield Replica(primary, standby)
