"""Rows that come late into partitions being sealed: acknowledged in time, stored once."""

from __future__ import annotations

import asyncio
import time
from datetime import datetime, timedelta
from typing import Any

import asyncpg
import pytest
from grpc import aio

from fernando.telemetry.v1 import AdminServiceStub, GetServerInfoRequest
from fernando_telemetry.settings import Settings
from tests.conftest import Serving, share
from tests.integration.ingest.ingest_call import IngestCall
from tests.integration.ingest.locks import becomes
from tests.integration.ingest.records import event, now, stamp

# The database is slow where eight test runs share it; a plain build would hold a COPY for as long
# as the writer in the test stays open: for ever.
STALL_SECONDS = 20.0
BUILD_WAITS = """
SELECT count(*) > 0 FROM pg_stat_activity
WHERE application_name = 'fernando-telemetry maintenance' AND wait_event_type = 'Lock'
    AND query LIKE 'CREATE INDEX CONCURRENTLY%' AND datname = current_database()
"""
# $1: rows before this time are late.
UNSEALED = """
SELECT count(*) FROM pg_class WHERE obj_description(oid) IS NULL AND oid IN
    (SELECT DISTINCT tableoid FROM telemetry_events WHERE event_timestamp < $1)
"""


def unsealed_before(moment: datetime) -> str:
    return UNSEALED.replace("$1", f"'{moment.isoformat()}'")


def short(settings: Settings, length: str = "10 seconds") -> Settings:
    return settings.model_copy(update={"partition_length": length, "seal_grace_seconds": 0.0})


async def test_an_ack_does_not_wait_for_a_partition_being_sealed(
    settings: Settings, serving: Serving, database: str, connection: Any
) -> None:
    at = now() - timedelta(days=2)
    holder = await asyncpg.connect(database)
    hourly = short(settings, "hour")
    async with serving(hourly) as server, aio.insecure_channel(server.address) as channel:
        async with IngestCall(channel) as stream, holder.transaction():
            await holder.execute("LOCK TABLE telemetry_events IN ROW EXCLUSIVE MODE")
            await stream.welcome()
            await stream.commit(1, event(event_timestamp=stamp(at), user_id="u"))
            # One build after the other waits for writers; this one never ends.
            partition = await connection.fetchval(
                "SELECT tableoid::regclass::text FROM telemetry_events WHERE user_id = 'u'"
            )
            await holder.execute(f"LOCK TABLE {partition} IN ROW EXCLUSIVE MODE")
            await becomes(connection, BUILD_WAITS, value=True)
            slowest = 0.0
            for sequence in range(2, 22):
                begun = time.monotonic()
                await stream.commit(sequence, event(event_timestamp=stamp(at), user_id="u"))
                slowest = max(slowest, time.monotonic() - begun)
            assert await connection.fetchval(BUILD_WAITS)
            assert slowest < STALL_SECONDS
            print(f"\nslowest of 20 acks behind a waiting build: {1000 * slowest:.0f} ms")
        await becomes(connection, f"SELECT obj_description('{partition}'::regclass) IS NULL", False)
        info = await AdminServiceStub(channel).GetServerInfo(GetServerInfoRequest())
        assert info.unsealed_partitions <= 4  # of an hour that passed during the test
    plan = await connection.fetch(f"EXPLAIN SELECT * FROM {partition} WHERE user_id = 'u'")
    assert plan
    await connection.execute("SET enable_seqscan = off")
    assert await connection.fetchval(f"SELECT count(*) FROM {partition} WHERE user_id = 'u'") == 21
    await holder.close()


async def test_unsealed_partitions_are_told(
    settings: Settings, serving: Serving, database: str, connection: Any
) -> None:
    """By GetServerInfo and the server's own metric, while another server's lock keeps them so."""
    holder = await asyncpg.connect(database)
    await holder.execute("SELECT pg_advisory_lock(1179603533, 3)")
    told = short(settings).model_copy(update={"health_interval_seconds": 0.2})
    async with serving(told) as server, aio.insecure_channel(server.address) as channel:
        async with IngestCall(channel) as stream:
            await stream.welcome()
            for sequence, minutes in enumerate((60, 61, 62), 1):
                at = stamp(now() - timedelta(days=2, minutes=minutes))
                await stream.commit(sequence, event(event_timestamp=at))
        info = await AdminServiceStub(channel).GetServerInfo(GetServerInfoRequest())
        assert info.unsealed_partitions >= 3
        await becomes(
            connection,
            "SELECT coalesce(max(value), 0) >= 3 FROM metric_samples JOIN metric_series "
            "USING (series_id) WHERE metric_name = 'unsealed_partitions'",
            value=True,
        )
        await holder.close()
        await becomes(connection, unsealed_before(now() - timedelta(days=1)), 0)


@pytest.mark.load
@pytest.mark.timeout(600)
async def test_streams_of_late_rows_while_partitions_are_sealed(
    settings: Settings,
    serving: Serving,
    connection: Any,
    request: pytest.FixtureRequest,
) -> None:
    """Every row is stored once, in partitions that are sealed before, while and after it comes."""
    batches = share(request, "load", 30, 400)
    partitions = 12
    begun = now() - timedelta(days=2)
    slowest = 0.0

    async def send(channel: aio.Channel, name: str) -> None:
        nonlocal slowest
        async with IngestCall(channel, timeout_seconds=500) as stream:
            await stream.welcome(name)
            for sequence in range(1, batches + 1):
                late = [
                    event(
                        event_timestamp=stamp(begun + timedelta(seconds=10 * (n % partitions))),
                        user_id=name,
                        session_id=f"{name} {sequence} {n}",
                        event_data=f'{{"n": {n}}}',
                    )
                    for n in range(20)
                ]
                sent = time.monotonic()
                await stream.commit(sequence, *late, event(user_id=name))
                slowest = max(slowest, time.monotonic() - sent)

    async with serving(short(settings)) as server, aio.insecure_channel(server.address) as channel:
        await asyncio.gather(*(send(channel, f"late-{n}") for n in range(4)))
        await becomes(connection, unsealed_before(now() - timedelta(days=1)), 0)
    whole = await connection.fetchrow(
        "SELECT count(*) AS rows, count(DISTINCT session_id) AS late FROM telemetry_events"
    )
    assert dict(whole) == {"rows": 4 * batches * 21, "late": 4 * batches * 20}
    # Each index of a sealed partition knows all its rows.
    assert not await connection.fetchval("SELECT count(*) FROM pg_index WHERE NOT indisvalid")
    await connection.execute("SET enable_seqscan = off; SET enable_bitmapscan = off")
    for n in range(4):
        found = "SELECT count(*) FROM telemetry_events WHERE user_id = $1 AND event_timestamp < $2"
        assert await connection.fetchval(found, f"late-{n}", begun + timedelta(hours=1)) == (
            batches * 20
        )
    assert slowest < STALL_SECONDS
    print(f"\n{4 * batches} batches of late rows; slowest ack {1000 * slowest:.0f} ms")
