"""A failover to a real standby, which the server finds by itself: nothing acknowledged is lost.

The DSN names both hosts. Commits wait for the standby (synchronous), as they must where an ack
has to outlive its primary.
"""

from __future__ import annotations

import asyncio
import contextlib
import random
from collections.abc import AsyncIterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from urllib.parse import quote

import asyncpg
import pytest

from fernando_telemetry.embedded import EmbeddedPostgres
from fernando_telemetry.settings import Settings
from tests.faults.going_away import check, flowing, streaming
from tests.faults.left_behind import stand_still
from tests.faults.numbered_producer import NumberedProducer
from tests.faults.server_process import ServerProcess, serve
from tests.faults.wire import socket_of
from tests.integration.embedded.processes import living_postgres

pytestmark = [
    pytest.mark.faults,
    pytest.mark.timeout(240),
    pytest.mark.skipif(not Path("/proc/self/stat").exists(), reason="needs /proc"),
]


@pytest.fixture
def producers() -> list[NumberedProducer]:
    return [NumberedProducer(f"moved-{n}", random.Random(n), spoil=False) for n in range(6)]


@dataclass
class Pair:
    """A primary and its standby."""

    primary: EmbeddedPostgres
    standby: EmbeddedPostgres

    @property
    def dsn(self) -> str:
        """Names both; the primary first, so that a server which takes the first goes astray."""
        hosts = [str(Path(socket_of(one.dsn)).parent) for one in (self.primary, self.standby)]
        port = socket_of(self.primary.dsn).rpartition(".")[2]
        return f"postgresql://postgres@/fernando?host={','.join(hosts)}&port={port}"

    async def promote(self) -> None:
        await _execute(self.standby.dsn, "SELECT pg_promote(true, 30)")


async def _execute(dsn: str, *statements: str) -> Any:
    connection = await asyncpg.connect(dsn)
    try:
        return [await connection.fetchval(statement) for statement in statements][-1]
    finally:
        await connection.close()


def _settings(data_dir: Path) -> Settings:
    return Settings(data_dir=data_dir, pg_fsync=False, pg_shared_buffers_mib=16)


async def _copy_of(primary: EmbeddedPostgres, data_dir: Path) -> None:
    """Make the data directory of a standby."""
    await asyncio.to_thread(data_dir.mkdir)
    socket = Path(socket_of(primary.dsn))
    conninfo = f"host={socket.parent} port={socket.suffix[1:]} user=postgres"
    process = await asyncio.create_subprocess_exec(
        *(str(primary.programs_folder / "pg_basebackup"), "-D", str(data_dir / "pgdata")),
        *("-d", f"{conninfo} application_name=standby", "-X", "stream", "-R", "-c", "fast", "-N"),
        stderr=asyncio.subprocess.PIPE,
    )
    _, words = await process.communicate()
    assert process.returncode == 0, words.decode()


@pytest.fixture
async def pair(tmp_path: Path) -> AsyncIterator[Pair]:
    async with EmbeddedPostgres(_settings(tmp_path / "primary")) as primary:
        await _copy_of(primary, tmp_path / "standby")
        async with EmbeddedPostgres(_settings(tmp_path / "standby")) as standby:
            await _execute(
                primary.dsn,
                f"ALTER SYSTEM SET synchronous_standby_names = '{quote('standby')}'",
                "SELECT pg_reload_conf()",
            )
            async with asyncio.timeout(30):
                wanted = "SELECT count(*) FROM pg_stat_replication WHERE sync_state = 'sync'"
                while await _execute(primary.dsn, wanted) != 1:  # noqa: ASYNC110 - a poll
                    await asyncio.sleep(0.05)
            yield Pair(primary, standby)


@contextlib.asynccontextmanager
async def _served(pair: Pair, folder: Path) -> AsyncIterator[ServerProcess]:
    async with serve(
        folder / "server",
        folder / "log",
        dsn=pair.dsn,
        database_command_timeout_seconds=3,
        database_connect_timeout_seconds=2,
    ) as server:
        yield server


async def _assert_moved(server: ServerProcess, pair: Pair, before: int) -> None:
    """Flushes were stored on the promoted server, by lanes of its own."""
    assert await _execute(pair.standby.dsn, "SELECT pg_is_in_recovery()") is False
    assert await _execute(pair.standby.dsn, "SELECT count(*) FROM lanes") > before


async def test_a_primary_that_turned_read_only_is_left(
    tmp_path: Path, pair: Pair, producers: list[NumberedProducer]
) -> None:
    """The old primary lives, answers, and refuses: every session of it has to be dropped."""
    async with _served(pair, tmp_path) as server:
        async with streaming(server.address, producers):
            lanes = await _execute(pair.primary.dsn, "SELECT count(*) FROM lanes")
            await _execute(
                pair.primary.dsn,
                "ALTER SYSTEM SET default_transaction_read_only = on",
                "SELECT pg_reload_conf()",
            )
            await pair.promote()
            await flowing(producers)
            await flowing(producers)
        ends = {end for one in producers for _begun, _ended, end in one.ledger.lives}
        assert ends == {"OK"}, "all were held until the promoted server was found"
        await _assert_moved(server, pair, lanes)
        assert server.count("flush_retried") > 0
        # New streams say hello through the control sessions: those have moved as well.
        async with streaming(server.address, producers):
            pass
        print(f"\n{await check(pair.standby.dsn, producers, server)}")


async def test_a_primary_that_fell_silent_is_left(
    tmp_path: Path, pair: Pair, producers: list[NumberedProducer], stopped: list[int]
) -> None:
    """The old primary's machine is gone without a word: connections to it hang."""
    async with _served(pair, tmp_path) as server:
        async with streaming(server.address, producers):
            lanes = await _execute(pair.primary.dsn, "SELECT count(*) FROM lanes")
            # The postmaster first: it would start no process that is missed then.
            stand_still([pair.primary.postmaster_pid], stopped)
            stand_still(living_postgres(pair.primary.data_dir), stopped)
            await pair.promote()
            await flowing(producers)
        await _assert_moved(server, pair, lanes)
        print(f"\n{await check(pair.standby.dsn, producers, server)}")
