"""A PostgreSQL that dies while its owner lives is brought back, or given up aloud."""

# Nothing else waits for this loop: files may be looked at, and conditions polled, in it.
# ruff: noqa: ASYNC110
from __future__ import annotations

import asyncio
import contextlib
import os
import shutil
import signal

import asyncpg
import pytest

from fernando_telemetry.embedded import EmbeddedPostgres, cluster
from tests.integration.embedded.conftest import MakeSettings, needs_proc, query


async def query_once_back(dsn: str, text: str) -> object:
    async with asyncio.timeout(30):
        while True:
            try:
                return await query(dsn, text)
            except (OSError, asyncpg.PostgresError, asyncpg.InterfaceError):
                await asyncio.sleep(0.02)


async def test_a_killed_postmaster_is_started_again(make_settings: MakeSettings) -> None:
    async with EmbeddedPostgres(make_settings()) as postgres:
        await query(postgres.dsn, "CREATE TABLE kept AS SELECT 7 AS number")
        for _turn in range(2):
            before = postgres.postmaster_pid
            os.kill(before, signal.SIGKILL)
            async with asyncio.timeout(30):
                while True:
                    with contextlib.suppress(AssertionError):
                        if postgres.postmaster_pid != before:
                            break
                    await asyncio.sleep(0.01)
            assert await query_once_back(postgres.dsn, "SELECT number FROM kept") == 7


@needs_proc
async def test_sessions_that_outlive_their_postmaster_do_not_hold_it_up(
    make_settings: MakeSettings,
) -> None:
    async with EmbeddedPostgres(make_settings()) as postgres:
        busy = asyncio.create_task(
            query(postgres.dsn, "SELECT sum(sqrt(i)) FROM generate_series(1, 1e10::bigint) i")
        )
        active = "SELECT count(*) FROM pg_stat_activity WHERE state = 'active'"
        async with asyncio.timeout(30):
            while await query(postgres.dsn, active) != 2:
                await asyncio.sleep(0.01)
        os.kill(postgres.postmaster_pid, signal.SIGKILL)
        assert await query_once_back(postgres.dsn, "SELECT 1") == 1
        with pytest.raises((OSError, asyncpg.PostgresError, asyncpg.InterfaceError)):
            await busy


async def test_a_removed_run_directory_is_made_again(make_settings: MakeSettings) -> None:
    async with EmbeddedPostgres(make_settings()) as postgres:
        shutil.rmtree(postgres.dsn.partition("host=")[2].partition("&")[0])
        os.kill(postgres.postmaster_pid, signal.SIGKILL)
        assert await query_once_back(postgres.dsn, "SELECT 1") == 1


async def test_one_that_cannot_be_brought_back_is_given_up(
    make_settings: MakeSettings, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(cluster, "RESTARTS_IN_A_ROW", 2)
    async with EmbeddedPostgres(make_settings()) as postgres:
        (postgres.data_dir / "pgdata" / "global" / "pg_control").unlink()
        os.kill(postgres.postmaster_pid, signal.SIGKILL)
        async with asyncio.timeout(30):
            failure = await postgres.wait_failed()
        assert "pg_control" in str(failure)


async def test_stop_while_it_is_being_restarted(make_settings: MakeSettings) -> None:
    postgres = EmbeddedPostgres(make_settings())
    await postgres.start()
    (postgres.data_dir / "pgdata" / "global" / "pg_control").unlink()
    os.kill(postgres.postmaster_pid, signal.SIGKILL)
    waiting = asyncio.create_task(postgres.wait_failed())
    await asyncio.wait([waiting], timeout=0.3)
    assert not waiting.done()
    async with asyncio.timeout(30):
        await postgres.stop()
    waiting.cancel()
