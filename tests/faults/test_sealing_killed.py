"""`kill -9` in the middle of an index build: the next start clears up and builds it anew."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import asyncpg
import pytest
from grpc import aio

from fernando.telemetry.v1 import IngestServiceStub, IngestTelemetryRequest, TelemetryRecords
from fernando_telemetry.embedded.owner_lock import running_server
from tests.conftest import share
from tests.faults.server_process import serve
from tests.integration.embedded.processes import until_none_lives
from tests.integration.ingest.locks import becomes
from tests.integration.ingest.records import event, stamp
from tests.integration.storage.partition_rows import indexes_of, wanted

pytestmark = [
    pytest.mark.faults,
    pytest.mark.timeout(300),
    pytest.mark.skipif(not Path("/proc/self/stat").exists(), reason="needs /proc"),
]
# The first flush of a server waits for a partition to be made.
UNARY_WAIT_SECONDS = 30
BUILD_WAITS = """
SELECT count(*) > 0 FROM pg_stat_activity WHERE wait_event_type = 'Lock'
    AND application_name = 'fernando-telemetry maintenance'
    AND query LIKE 'CREATE INDEX CONCURRENTLY%'
"""


async def _send(address: str, at: datetime, user_id: str) -> None:
    late = event(event_timestamp=stamp(at), user_id=user_id)
    request = IngestTelemetryRequest(records=TelemetryRecords(events=[late]))
    async with aio.insecure_channel(address) as channel:
        await IngestServiceStub(channel).IngestTelemetry(request, timeout=2 * UNARY_WAIT_SECONDS)


async def opened(data_dir: Path) -> Any:
    told = running_server(data_dir)
    assert told is not None
    return await asyncpg.connect(told.dsn, server_settings={"TimeZone": "UTC"})


async def test_a_build_that_was_killed_is_done_anew(
    tmp_path: Path, run_folder: dict[str, str], request_share: int
) -> None:
    data_dir = tmp_path / "data"
    settings: dict[str, Any] = {
        "pg_shared_buffers_mib": 16,
        "partition_length": "10 seconds",
        "seal_grace_seconds": 0,
        "unary_wait_seconds": UNARY_WAIT_SECONDS,
    }
    partitions: list[str] = []
    for turn in range(request_share):
        at = datetime.now(UTC) - timedelta(hours=2 + turn)
        async with serve(
            data_dir, tmp_path / f"log-{turn}", environment=run_folder, **settings
        ) as server:
            connection, holder = await opened(data_dir), await opened(data_dir)
            await _assert_sealed(connection, partitions)
            if turn:
                assert server.count("invalid_index_dropped") == 1
            writing = holder.transaction()
            await writing.start()
            # What is made for the row is sealed at once; the build waits for this writer.
            await connection.execute("SELECT pg_advisory_lock(1179603533, 3)")
            await _send(server.address, at, f"turn-{turn}")
            name = await connection.fetchval(
                "SELECT tableoid::regclass::text FROM telemetry_events WHERE user_id = $1",
                f"turn-{turn}",
            )
            partitions.append(name)
            await holder.execute(f"LOCK TABLE {name} IN ROW EXCLUSIVE MODE")
            await connection.execute("SELECT pg_advisory_unlock(1179603533, 3)")
            await becomes(connection, BUILD_WAITS, value=True)
            await server.kill()
            server.assert_no_traceback()
            for session in (connection, holder):
                session.terminate()
        await until_none_lives(data_dir)
    async with serve(data_dir, tmp_path / "log", environment=run_folder, **settings) as server:
        connection = await opened(data_dir)
        await _assert_sealed(connection, partitions)
        assert server.count("invalid_index_dropped") == 1
        assert await connection.fetchval("SELECT count(*) FROM telemetry_events") == len(partitions)
        await connection.close()
        assert await server.stop() == 0
        server.assert_no_traceback()
    print(f"\n{request_share} kills in mid-build, {request_share} invalid indexes built anew")


@pytest.fixture
def request_share(request: pytest.FixtureRequest) -> int:
    return share(request, "faults", 1, 6)


async def _assert_sealed(connection: Any, partitions: list[str]) -> None:
    for name in partitions:
        await becomes(connection, f"SELECT obj_description('{name}'::regclass) IS NULL", False)
        assert await indexes_of(connection, name) == wanted("full")


async def test_the_server_alone_is_killed_and_its_build_ends(
    database: str, connection: Any, tmp_path: Path
) -> None:
    """PostgreSQL lives on: the orphaned build is noticed and holds nobody up for long."""
    at = datetime.now(UTC) - timedelta(days=2)
    settings: dict[str, Any] = {
        "dsn": database,
        "partition_length": "10 seconds",
        "seal_grace_seconds": 0,
        "unary_wait_seconds": UNARY_WAIT_SECONDS,
    }
    holder = await asyncpg.connect(database)
    async with serve(tmp_path / "a", tmp_path / "log-a", **settings) as server:
        await connection.execute("SELECT pg_advisory_lock(1179603533, 3)")
        await _send(server.address, at, "late")
        name = await connection.fetchval("SELECT tableoid::regclass::text FROM telemetry_events")
        writing = holder.transaction()
        await writing.start()
        await holder.execute(f"LOCK TABLE {name} IN ROW EXCLUSIVE MODE")
        await connection.execute("SELECT pg_advisory_unlock(1179603533, 3)")
        await becomes(connection, BUILD_WAITS, value=True)
        await server.kill()
    await becomes(connection, BUILD_WAITS, value=False)
    assert False in (await indexes_of(connection, name)).values()
    await writing.rollback()
    async with serve(tmp_path / "b", tmp_path / "log-b", **settings) as server:
        await _assert_sealed(connection, [name])
        assert await server.stop() == 0
        server.assert_no_traceback()
    await holder.close()
