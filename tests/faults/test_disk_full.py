"""The database's disk fills up and is emptied again, for real: a small file system.

Nothing acknowledged is lost or doubled, streams end with a hint, and the way back needs nobody.
With the disk budget PostgreSQL never gets there.
"""

from __future__ import annotations

import asyncio
import contextlib
import os
import random
import signal
import time
from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import asyncpg
import pytest
from grpc import StatusCode, aio
from structlog.testing import capture_logs

from fernando.telemetry.v1 import (
    AdminServiceStub,
    EventServiceStub,
    GetServerInfoRequest,
    ListEventsRequest,
)
from fernando_telemetry.embedded import EmbeddedPostgres, cluster
from fernando_telemetry.embedded.owner_lock import running_server
from fernando_telemetry.settings import Settings
from tests.conftest import with_database
from tests.faults.going_away import (
    WAIT_SECONDS,
    check,
    failing_call,
    flowing,
    goes_away_and_comes_back,
    streaming,
)
from tests.faults.numbered_producer import NumberedProducer
from tests.faults.server_process import ServerProcess, serve, until
from tests.faults.small_disk import MIB, SmallDisk, small_disk

pytestmark = [pytest.mark.faults, pytest.mark.timeout(240)]
FULL = "RESOURCE_EXHAUSTED OVERLOADED"
MEMORY_BYTES = 320 * MIB
# Of the disk: less than the 5 % that ingest needs, and more than the 16 MiB of a file of WAL, of
# which PostgreSQL may begin another one before the next look at the disk.
TOO_LITTLE = 0.046
UNARY_WAIT_SECONDS = 20.0
DRAIN_SECONDS = 30.0


@pytest.fixture
def producers() -> list[NumberedProducer]:
    return [NumberedProducer(f"full-{n}", random.Random(n), 60, spoil=False) for n in range(6)]


@pytest.fixture
def disk(tmp_path: Path) -> Iterator[SmallDisk]:
    with small_disk(tmp_path / "disk", 400) as made:
        yield made


@pytest.fixture
def small_tablespace(tmp_path: Path) -> Iterator[SmallDisk]:
    with small_disk(tmp_path / "tablespace", 40) as made:
        yield made


async def test_tables_on_a_full_disk(
    tmp_path: Path,
    postgres: EmbeddedPostgres,
    template_database: str,
    small_tablespace: SmallDisk,
    producers: list[NumberedProducer],
) -> None:
    """53100: PostgreSQL lives and refuses every row that needs a new page."""
    admin = await asyncpg.connect(postgres.dsn)
    files = small_tablespace.folder / "files"
    files.mkdir(mode=0o700)
    await admin.execute(f"CREATE TABLESPACE small LOCATION '{files}'")
    await admin.execute(f"CREATE DATABASE full_disk TEMPLATE {template_database} TABLESPACE small")
    dsn = with_database(postgres.dsn, "full_disk")

    async def fill() -> None:
        small_tablespace.fill()

    async def make_room() -> None:
        small_tablespace.make_room()

    try:
        async with serve(
            tmp_path / "data", tmp_path / "log", dsn=dsn, database_wait_seconds=WAIT_SECONDS
        ) as server:
            ends = await goes_away_and_comes_back(server, producers, fill, make_room)
            causes = Counter(
                entry["cause"].partition("(")[0]
                for entry in server.log_entries()
                if entry["event"] == "flush_retried"
            )
            assert causes["DiskFullError"] > 0, causes
            assert server.memory_bytes() < MEMORY_BYTES
            print(f"\n{ends}; retried for {causes}; {await check(dsn, producers, server)}")
    finally:
        await admin.execute("DROP DATABASE full_disk WITH (FORCE)")
        await admin.execute("DROP TABLESPACE small")
        await admin.close()


async def test_wal_on_a_full_disk(
    tmp_path: Path, disk: SmallDisk, producers: list[NumberedProducer]
) -> None:
    """PostgreSQL panics, cannot even recover, and is back by itself when there is room."""
    data_dir = disk.folder / "data"

    async def fill() -> None:
        disk.fill()
        told = running_server(data_dir)
        assert told is not None
        # The streams may bring it about at any moment, the one of the connection included.
        with contextlib.suppress(OSError, asyncpg.PostgresError, asyncpg.InterfaceError):
            connection = await asyncpg.connect(told.dsn)
            try:
                # Each switch leaves a segment; the next one finds no room.
                while not server.count("embedded_postgres_died"):
                    await connection.execute("SELECT pg_logical_emit_message(true, '', 'x')")
                    await connection.execute("SELECT pg_switch_wal()")
            finally:
                connection.terminate()
        await until(lambda: server.count("embedded_postgres_died") > 0)

    async def make_room() -> None:
        disk.make_room()

    async with serve(
        data_dir,
        tmp_path / "log",
        pg_shared_buffers_mib=16,
        database_wait_seconds=WAIT_SECONDS,
        disk_free_stop_percent=0,
    ) as server:
        told = running_server(data_dir)
        assert told is not None
        ends = await goes_away_and_comes_back(server, producers, fill, make_room)
        words = [
            entry["last_words"]
            for entry in server.log_entries()
            if entry["event"] == "embedded_postgres_died"
        ]
        assert "No space left on device" in words[0], words
        failed = server.count("embedded_postgres_restart_failed")
        print(f"\n{ends}; {failed} restarts failed; {await check(told.dsn, producers, server)}")


async def test_a_postgresql_without_room_is_not_given_up(
    tmp_path: Path, disk: SmallDisk, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Restarts that fail for want of room do not count: it may come at any time."""
    monkeypatch.setattr(cluster, "RESTARTS_IN_A_ROW", 1)
    settings = Settings(data_dir=disk.folder / "data", pg_fsync=False, pg_shared_buffers_mib=16)
    with capture_logs() as lines:
        async with EmbeddedPostgres(settings) as postgres:
            failing = asyncio.create_task(postgres.wait_failed())
            disk.fill()
            os.kill(postgres.postmaster_pid, signal.SIGKILL)
            events = "embedded_postgres_restart_failed", "embedded_postgres_restarted"
            await until(lambda: sum(line["event"] == events[0] for line in lines) >= 3)
            assert not failing.done()
            disk.make_room()
            await until(lambda: any(line["event"] == events[1] for line in lines))
            connection = await asyncpg.connect(postgres.dsn)
            assert await connection.fetchval("SELECT 1") == 1
            await connection.close()
            failing.cancel()


async def _info(address: str) -> Any:
    async with aio.insecure_channel(address) as channel:
        return await AdminServiceStub(channel).GetServerInfo(GetServerInfoRequest())


async def _can_query(address: str) -> bool:
    request = ListEventsRequest(page_size=1)
    request.time_range.start_time.FromJsonString("2020-01-01T00:00:00Z")
    request.time_range.end_time.FromJsonString("2040-01-01T00:00:00Z")
    async with aio.insecure_channel(address) as channel:
        return len((await EventServiceStub(channel).ListEvents(request)).events) == 1


async def test_the_disk_budget_refuses_before_postgresql_panics(
    tmp_path: Path, disk: SmallDisk, producers: list[NumberedProducer]
) -> None:
    data_dir = disk.folder / "data"
    async with serve(
        data_dir,
        tmp_path / "log",
        pg_shared_buffers_mib=16,
        disk_check_interval_seconds=0.1,
        unary_wait_seconds=UNARY_WAIT_SECONDS,
    ) as server:
        told = running_server(data_dir)
        assert told is not None
        async with streaming(server.address, producers):
            disk.fill(leave_bytes=int(disk.total_bytes() * TOO_LITTLE))
            await _refused(server, producers)
            failure, took = await failing_call(server.address)
            assert (failure.code, failure.reason) == (StatusCode.RESOURCE_EXHAUSTED, "OVERLOADED")
            assert failure.metadata == {"resource": "disk"}
            assert failure.retry_after_seconds == 2.0
            assert took < UNARY_WAIT_SECONDS / 2, "a refusal waits for no room"
            info = await _info(server.address)
            assert "Ingest is refused" in info.last_problem
            assert "of the disk of" in info.last_problem
            assert info.queued_bytes == 0
            assert await _can_query(server.address)
            # Just above the limit is not enough: it would flap.
            disk.give_back(int(disk.total_bytes() * 0.054) - disk.free_bytes())
            refused = [one.ledger.ends.get(FULL, 0) for one in producers]
            await until(
                lambda: all(
                    one.ledger.ends.get(FULL, 0) >= before + 5
                    for one, before in zip(producers, refused, strict=True)
                )
            )
            disk.make_room()
            await flowing(producers)
        ends = sum((Counter(one.ledger.ends) for one in producers), Counter[str]())
        assert set(ends) <= {FULL, "OK"}
        assert server.count("ingest_refused_for_room") == 1
        assert server.count("ingest_taken_again") == 1
        assert server.count("embedded_postgres_died") == 0
        assert server.count("flush_retried") == 0
        assert "Taken again since" in (await _info(server.address)).last_problem
        print(f"\n{ends}; {await check(told.dsn, producers, server)}")


async def test_a_stop_while_ingest_is_refused_waits_for_nothing(
    tmp_path: Path, disk: SmallDisk, producers: list[NumberedProducer]
) -> None:
    """The next server refuses from its start on, and takes records when there is room."""
    data_dir = disk.folder / "data"
    quick: dict[str, Any] = {
        "pg_shared_buffers_mib": 16,
        "disk_check_interval_seconds": 0.1,
        "drain_seconds": DRAIN_SECONDS,
    }
    async with serve(data_dir, tmp_path / "log", **quick) as server:
        async with streaming(server.address, producers):
            disk.fill(leave_bytes=int(disk.total_bytes() * TOO_LITTLE))
            await _refused(server, producers)
        begun = time.monotonic()
        assert await server.stop() == 0
        assert time.monotonic() - begun < DRAIN_SECONDS
        server.assert_no_traceback()
    async with serve(data_dir, tmp_path / "log-2", **quick) as server:
        await until(lambda: server.count("ingest_refused_for_room") == 1)
        failure, _took = await failing_call(server.address)
        assert failure.reason == "OVERLOADED"
        disk.make_room()
        await until(lambda: server.count("ingest_taken_again") == 1)
        told = running_server(data_dir)
        assert told is not None
        print(f"\n{await check(told.dsn, producers, server)}")


async def _refused(server: ServerProcess, producers: list[NumberedProducer]) -> None:
    """Wait until every producer's stream, and the one behind it, was refused for the disk."""
    await until(lambda: all(one.ledger.ends.get(FULL, 0) >= 2 for one in producers))
    assert server.count("ingest_refused_for_room") == 1
