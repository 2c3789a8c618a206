"""`kill -9` of a server in mid-replay: a record is stored or still kept, and never both."""

from __future__ import annotations

import asyncio
import random
from pathlib import Path
from typing import Any

import asyncpg
import pytest
from grpc import aio

from fernando.telemetry.v1 import IngestServiceStub, IngestTelemetryRequest, TelemetryRecords
from fernando_telemetry.app import Application
from fernando_telemetry.settings import Settings
from tests.conftest import share
from tests.faults.server_process import serve
from tests.integration.ingest.records import event
from tests.integration.ingest.rejects import KEPT, replay

pytestmark = [pytest.mark.faults, pytest.mark.timeout(300)]

RECORDS_A_ROUND = 700
LAST_KEPT = "SELECT FROM rejected_records ORDER BY rejected_at DESC, rejected_id DESC LIMIT 1"
STORED = "SELECT count(*) FROM telemetry_events"
BOTH = """
SELECT count(*) FROM telemetry_events e
JOIN rejected_records r ON e.duration_ms = r.index
"""


async def reject(channel: aio.Channel, connection: Any, count: int) -> None:
    """Have events refused that PostgreSQL takes later; `duration_ms` is their place."""
    events = [event("", duration_ms=float(place)) for place in range(count)]
    answer = await IngestServiceStub(channel).IngestTelemetry(
        IngestTelemetryRequest(records=TelemetryRecords(events=events))
    )
    assert answer.result.rejected_count == count
    # Mends them: a later field of the same number wins.
    named = event("named").SerializeToString()
    await connection.execute("UPDATE rejected_records SET record = record || $1::bytea", named)


async def test_a_killed_replay_neither_loses_nor_doubles(
    settings: Settings,
    database: str,
    connection: Any,
    tmp_path: Path,
    request: pytest.FixtureRequest,
) -> None:
    rounds = share(request, "faults", 3, 30)
    count = RECORDS_A_ROUND * rounds
    chance = random.Random(7)
    stored_at_kills: list[int] = []
    keeping = settings.model_copy(update={"rejected_keep": True})
    async with Application(keeping) as server, aio.insecure_channel(server.address) as channel:
        await reject(channel, connection, count)
    for turn in range(rounds):
        log = tmp_path / f"log-{turn}"
        holder = await asyncpg.connect(database)
        if turn == 0:
            # It cannot come to its end before the kill, however late that comes.
            await holder.execute(f"BEGIN; {LAST_KEPT} FOR UPDATE")
        async with serve(tmp_path / "data", log, dsn=database) as process:
            before = await connection.fetchval(STORED)
            wanted = min(before + chance.randrange(1, RECORDS_A_ROUND), count - 1)
            async with aio.insecure_channel(process.address) as channel:
                running = asyncio.ensure_future(replay(channel))
                while await connection.fetchval(STORED) < wanted and not running.done():  # noqa: ASYNC110
                    await asyncio.sleep(0)
                await process.kill()
                await asyncio.gather(running, return_exceptions=True)
            process.assert_no_traceback()
            await holder.close()
            await no_session_is_left(connection)
        stored, kept = await connection.fetchval(STORED), await connection.fetchval(KEPT)
        assert stored + kept == count
        assert await connection.fetchval(BOTH) == 0
        stored_at_kills.append(stored)
    assert 0 < stored_at_kills[0] < count, "no kill struck a replay"
    async with serve(tmp_path / "data", tmp_path / "log", dsn=database) as process:
        async with aio.insecure_channel(process.address) as channel:
            assert await replay(channel) == (count - stored_at_kills[-1], 0)
        assert await process.stop() == 0
    rows = await connection.fetchrow(
        "SELECT count(*) AS rows, count(DISTINCT duration_ms) AS places FROM telemetry_events"
    )
    assert tuple(rows) == (count, count)
    assert await connection.fetchval(KEPT) == 0
    print(f"\n{rounds} kills of a replay of {count}; stored then: {stored_at_kills}")


async def no_session_is_left(connection: Any) -> None:
    """Wait until PostgreSQL has noticed that the killed server is gone."""
    query = (
        "SELECT count(*) FROM pg_stat_activity WHERE datname = current_database() "
        "AND application_name LIKE 'fernando-telemetry %'"
    )
    async with asyncio.timeout(30):
        while await connection.fetchval(query):  # noqa: ASYNC110 - a state of PostgreSQL
            await asyncio.sleep(0.01)
