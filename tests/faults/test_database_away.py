"""The database dies, hangs or is shut down: batches are held, then streams end with a hint.

The server stays the same process throughout, and nothing acknowledged is lost or doubled.
"""

from __future__ import annotations

import asyncio
import os
import random
import signal
import time
from pathlib import Path
from typing import Any

import asyncpg
import pytest

from fernando_telemetry.embedded import EmbeddedPostgres
from fernando_telemetry.embedded.owner_lock import running_server
from fernando_telemetry.settings import Settings
from tests.conftest import share
from tests.faults.going_away import (
    SLACK_SECONDS,
    WAIT_SECONDS,
    check,
    flowing,
    goes_away_and_comes_back,
    streaming,
)
from tests.faults.left_behind import go_on, stand_still
from tests.faults.numbered_producer import NumberedProducer
from tests.faults.server_process import DEADLINE_SECONDS, ServerProcess, serve, until
from tests.integration.embedded.processes import living_postgres

pytestmark = [
    pytest.mark.faults,
    pytest.mark.timeout(240),
    pytest.mark.skipif(not Path("/proc/self/stat").exists(), reason="needs /proc"),
]


DRAIN_SECONDS = 2.0


@pytest.fixture
def producers() -> list[NumberedProducer]:
    return [NumberedProducer(f"held-{n}", random.Random(n), spoil=False) for n in range(6)]


async def test_a_killed_postmaster_is_restarted_and_no_stream_ends(
    tmp_path: Path, producers: list[NumberedProducer], request: pytest.FixtureRequest
) -> None:
    kills = share(request, "faults", 2, 6)
    data_dir = tmp_path / "data"
    async with serve(data_dir, tmp_path / "log", pg_shared_buffers_mib=16) as server:
        told = running_server(data_dir)
        assert told is not None
        async with streaming(server.address, producers):
            for turn in range(1, kills + 1):
                os.kill(_postmaster(data_dir), signal.SIGKILL)
                await until(
                    lambda turn=turn: server.count("embedded_postgres_restarted") >= turn  # type: ignore[misc]
                )
                await flowing(producers)
            assert not any(one.ledger.lives for one in producers), "held for 30 s by default"
        print(f"\n{kills} postmasters killed; {await check(told.dsn, producers, server)}")


def _postmaster(data_dir: Path) -> int:
    return int((data_dir / "pgdata" / "postmaster.pid").read_text().split()[0])


async def test_a_database_that_hangs(
    tmp_path: Path, producers: list[NumberedProducer], stopped: list[int]
) -> None:
    data_dir = tmp_path / "data"

    async def stop_database() -> None:
        # The postmaster first: it would start no process that is missed then.
        stand_still([_postmaster(data_dir)], stopped)
        stand_still(living_postgres(data_dir), stopped)

    async def start_database() -> None:
        go_on(stopped)

    async with serve(
        data_dir, tmp_path / "log", pg_shared_buffers_mib=16, database_wait_seconds=WAIT_SECONDS
    ) as server:
        told = running_server(data_dir)
        assert told is not None
        ends = await goes_away_and_comes_back(server, producers, stop_database, start_database)
        print(f"\n{ends}; {await check(told.dsn, producers, server)}")


async def test_a_stop_while_the_database_hangs_keeps_to_its_time(
    tmp_path: Path, database: str, producers: list[NumberedProducer], stopped: list[int]
) -> None:
    # Only the server's own sessions hang: the others share the PostgreSQL of all tests.
    connection = await asyncpg.connect(database)
    async with serve(
        tmp_path, tmp_path / "log", dsn=database, drain_seconds=DRAIN_SECONDS
    ) as server:
        stop = asyncio.Event()
        running = [asyncio.create_task(one.run(server.address, stop)) for one in producers]
        await flowing(producers)
        sessions = await connection.fetch(
            "SELECT pid FROM pg_stat_activity WHERE application_name LIKE 'fernando-telemetry %' "
            "AND datname = current_database()"
        )
        stand_still([row["pid"] for row in sessions], stopped)
        begun = time.monotonic()
        stop.set()
        assert await server.stop() == 0
        took = time.monotonic() - begun
        # Batches are held for 30 s, and statements for 60.
        assert took < DRAIN_SECONDS + SLACK_SECONDS
        go_on(stopped)
        await asyncio.gather(*running)
        server.assert_no_traceback()
    # The sessions wake up to find their client gone.
    left = "SELECT count(*) FROM pg_stat_activity WHERE datname = current_database()"
    async with asyncio.timeout(DEADLINE_SECONDS):
        while True:
            if await connection.fetchval(left) == 1:
                break
            await asyncio.sleep(0.02)
    await connection.close()
    async with serve(tmp_path, tmp_path / "log2", dsn=database) as server:
        print(f"\nstopped in {took:.1f} s; {await check(database, producers, server)}")


async def test_a_database_that_is_shut_down(
    tmp_path: Path, producers: list[NumberedProducer]
) -> None:
    settings = Settings(data_dir=tmp_path / "pg", pg_fsync=False, pg_shared_buffers_mib=16)
    databases = [EmbeddedPostgres(settings)]
    dsn = await databases[0].start()

    async def stop_database() -> None:
        await databases[-1].stop()

    async def start_database() -> None:
        databases.append(EmbeddedPostgres(settings))
        assert await databases[-1].start() == dsn

    try:
        async with serve(
            tmp_path / "data", tmp_path / "log", dsn=dsn, database_wait_seconds=WAIT_SECONDS
        ) as server:
            ends = await goes_away_and_comes_back(server, producers, stop_database, start_database)
            print(f"\n{ends}; {await check(dsn, producers, server)}")
    finally:
        await databases[-1].stop()


def _tries(server: ServerProcess) -> int:
    return server.count("flush_retried") + server.count("database_not_reached")


@pytest.mark.parametrize(
    ("spoil", "mend"),
    [
        (
            "ALTER TABLE telemetry_events RENAME TO away",
            "ALTER TABLE away RENAME TO telemetry_events",
        ),
        (
            "ALTER DATABASE {name} SET default_transaction_read_only = on",
            "ALTER DATABASE {name} RESET default_transaction_read_only",
        ),
    ],
    ids=["table_missing", "read_only"],
)
async def test_a_fault_of_the_database_is_not_blamed_on_records(
    spoil: str,
    mend: str,
    database: str,
    connection: Any,
    tmp_path: Path,
    producers: list[NumberedProducer],
) -> None:
    name = database.partition("?")[0].rpartition("/")[2]
    async with serve(tmp_path, tmp_path / "log", dsn=database) as server:
        async with streaming(server.address, producers):
            await connection.execute(spoil.format(name=name))
            await connection.execute(
                "SELECT pg_terminate_backend(pid) FROM pg_stat_activity "
                "WHERE application_name = 'fernando-telemetry writer' "
                "AND datname = current_database()"
            )
            await until(lambda: _tries(server) >= 4)
            await connection.execute("SET default_transaction_read_only = off")
            await connection.execute(mend.format(name=name))
            await connection.execute(
                "SELECT pg_terminate_backend(pid) FROM pg_stat_activity "
                "WHERE application_name = 'fernando-telemetry writer' "
                "AND datname = current_database()"
            )
            await flowing(producers)
            ends = [one.ledger.ends for one in producers]
            assert not any(ends), (ends, "they were held")
        print(f"\n{await check(database, producers, server)}")
