"""Start, stop, start again; what the cluster is like."""

# Nothing else waits for this loop: files may be looked at, and conditions polled, in it.
# ruff: noqa: ASYNC110, ASYNC240
from __future__ import annotations

import asyncio
import os
import shutil
import stat
import subprocess
import threading
from pathlib import Path

import pytest

from fernando_telemetry.embedded import EmbeddedPostgres, running_server
from fernando_telemetry.embedded.data_directory import DataDirectory
from tests.integration.embedded.conftest import (
    POSTGRESQL_15,
    MakeLaunch,
    MakeSettings,
    needs_postgresql_15,
    needs_proc,
    query,
)
from tests.integration.embedded.processes import living_postgres


async def test_a_second_start_keeps_the_data(make_settings: MakeSettings) -> None:
    async with EmbeddedPostgres(make_settings()) as postgres:
        await query(postgres.dsn, "CREATE TABLE kept AS SELECT 7 AS number")
    async with EmbeddedPostgres(make_settings()) as postgres:
        assert await query(postgres.dsn, "SELECT number FROM kept") == 7


async def test_the_cluster_is_as_designed(make_settings: MakeSettings) -> None:
    async with EmbeddedPostgres(make_settings()) as postgres:
        wanted = {
            "listen_addresses": "",
            "shared_buffers": "16MB",
            "max_wal_size": "2GB",
            "wal_level": "replica",
            "max_connections": "100",
            "fsync": "off",
            "TimeZone": "UTC",
            "autovacuum": "on",
            "server_encoding": "UTF8",
        }
        for name, value in wanted.items():
            assert await query(postgres.dsn, f"SHOW {name}") == value, name
        locale = "SELECT datlocprovider::text || datlocale FROM pg_database WHERE datname = "
        assert await query(postgres.dsn, f"{locale} current_database()") == "bC.UTF-8"


async def test_wal_is_kept_as_the_disk_has_room_for_it(
    make_settings: MakeSettings, monkeypatch: pytest.MonkeyPatch
) -> None:
    kept = "SELECT setting::int FROM pg_settings WHERE name = 'min_wal_size'"
    for disk_gib, expected_mib in ((1, 80), (20, 409), (500, 1024)):
        size = disk_gib * 1024**3
        monkeypatch.setattr(DataDirectory, "disk_bytes", lambda _, size=size: size)
        async with EmbeddedPostgres(make_settings()) as postgres:
            assert await query(postgres.dsn, kept) == expected_mib
    monkeypatch.undo()
    settings = make_settings()
    folder = settings.data_dir
    assert DataDirectory(folder).disk_bytes() == shutil.disk_usage(folder).total


async def test_fsync_is_on_unless_told_otherwise(make_settings: MakeSettings) -> None:
    async with EmbeddedPostgres(make_settings(pg_fsync=True)) as postgres:
        assert await query(postgres.dsn, "SHOW fsync") == "on"
        assert await query(postgres.dsn, "SHOW full_page_writes") == "on"


@needs_proc
async def test_stop_leaves_no_process_and_no_socket(make_settings: MakeSettings) -> None:
    postgres = EmbeddedPostgres(make_settings())
    dsn = await postgres.start()
    assert postgres.postmaster_pid in living_postgres(postgres.data_dir)
    run_directory = Path(dsn.partition("host=")[2].partition("&")[0])
    assert stat.S_IMODE(run_directory.stat().st_mode) == 0o700
    await postgres.stop()
    assert living_postgres(postgres.data_dir) == []
    assert not run_directory.exists()
    await postgres.stop()


async def test_stop_does_not_wait_for_clients(make_settings: MakeSettings) -> None:
    async with EmbeddedPostgres(make_settings()) as postgres:
        asleep = asyncio.create_task(query(postgres.dsn, "SELECT pg_sleep(600)"))
        count = "SELECT count(*) FROM pg_stat_activity WHERE query LIKE '%pg_sleep(600)'"
        async with asyncio.timeout(30):
            while await query(postgres.dsn, f"{count} AND pid <> pg_backend_pid()") == 0:
                await asyncio.sleep(0.01)
        async with asyncio.timeout(30):
            await postgres.stop()
        with pytest.raises(Exception, match=r"terminating connection|closed in the middle"):
            await asleep


async def test_psql_takes_the_dsn(make_settings: MakeSettings) -> None:
    async with EmbeddedPostgres(make_settings()) as postgres:
        process = await asyncio.create_subprocess_exec(
            *(postgres.programs_folder / "psql", postgres.dsn, "-Atc", "SELECT 6 * 7"),
            stdout=subprocess.PIPE,
        )
        output, _errors = await process.communicate()
        assert output == b"42\n"


async def test_a_long_data_path(tmp_path: Path, make_settings: MakeSettings) -> None:
    deep = tmp_path.joinpath(*["a-folder-with-quite-a-long-name, spaces and 'quotes'"] * 4)
    assert len(str(deep)) > 200
    async with EmbeddedPostgres(make_settings(data_dir=deep)) as postgres:
        assert await query(postgres.dsn, "SELECT 1") == 1
        assert len(list((deep / "log").glob("postgresql-*.log"))) == 1


@needs_postgresql_15
async def test_binaries_of_postgresql_15(make_settings: MakeSettings) -> None:
    async with EmbeddedPostgres(make_settings(pg_bin=POSTGRESQL_15)) as postgres:
        assert postgres.version.startswith("15.")
        assert await query(postgres.dsn, "SHOW server_version_num") == str(
            await query(postgres.dsn, "SELECT current_setting('server_version_num')")
        )
        collation = "SELECT datcollate FROM pg_database WHERE datname = current_database()"
        assert await query(postgres.dsn, collation) == "C.UTF-8"


async def test_running_server_tells_of_a_live_owner_only(
    data_dir: Path, make_launch: MakeLaunch
) -> None:
    assert running_server(data_dir) is None
    async with make_launch().owner() as owner:
        found = running_server(data_dir)
        assert found is not None
        assert (found.pid, found.dsn, found.grpc_address) == (owner.pid, owner.dsn, None)
        assert stat.S_IMODE((data_dir / "server.json").stat().st_mode) == 0o600
        await owner.kill()
        assert running_server(data_dir) is None
        assert (data_dir / "server.json").exists(), "a killed owner cannot take it away"
    async with make_launch().owner() as owner:
        assert running_server(data_dir) is not None
        assert (await owner.stop())[0] == 0
    assert running_server(data_dir) is None
    assert not (data_dir / "server.json").exists()


async def test_publish_adds_the_grpc_address(make_settings: MakeSettings) -> None:
    async with EmbeddedPostgres(make_settings()) as postgres:
        postgres.publish(grpc_address="127.0.0.1:4317")
        found = running_server(postgres.data_dir)
        assert found is not None
        assert (found.grpc_address, found.pid, found.dsn) == (
            "127.0.0.1:4317",
            os.getpid(),
            postgres.dsn,
        )


def test_only_the_main_thread_may_start_it(make_settings: MakeSettings) -> None:
    seen: list[BaseException] = []

    async def start() -> None:
        postgres = EmbeddedPostgres(make_settings())
        try:
            await postgres.start()
        except AssertionError as error:
            seen.append(error)

    thread = threading.Thread(target=lambda: asyncio.run(start()))
    thread.start()
    thread.join()
    assert "main" in str(seen[0])


@needs_proc
async def test_ctrl_c_of_the_terminal_does_not_reach_it(make_settings: MakeSettings) -> None:
    async with EmbeddedPostgres(make_settings()) as postgres:
        assert os.getpgid(postgres.postmaster_pid) != os.getpgrp()
        assert os.getsid(postgres.postmaster_pid) != os.getsid(0)
