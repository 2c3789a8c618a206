"""Partitions that somebody detaches: late rows find another place, and keep nobody waiting."""

from __future__ import annotations

import asyncio
from datetime import timedelta
from typing import Any

import asyncpg
from grpc import StatusCode, aio

from fernando_telemetry.settings import Settings
from tests.conftest import Serving
from tests.integration.ingest.ingest_call import IngestCall, batch, ingest, request
from tests.integration.ingest.locks import DEADLINE_SECONDS, a_writer_waits, becomes, held
from tests.integration.ingest.records import event, now, stamp

NAMES = "SELECT array_agg(event_name ORDER BY event_name) FROM telemetry_events"
PARTITION_OF = "SELECT tableoid::regclass::text FROM telemetry_events WHERE event_name = $1"
PENDING = "SELECT count(*) FROM pg_inherits WHERE inhdetachpending"


def late(name: str) -> Any:
    return event(name, event_timestamp=stamp(now() - timedelta(days=20)))


async def test_late_rows_of_a_day_whose_partition_was_kept_aside(
    channel: aio.Channel, connection: Any
) -> None:
    await ingest(channel, request(late("first")))
    partition = await connection.fetchval(PARTITION_OF, "first")
    await connection.execute(f"ALTER TABLE telemetry_events DETACH PARTITION {partition}")
    answer = await ingest(channel, request(late("second"), event("today")))
    assert answer.result.accepted_count == 2
    assert await connection.fetchval(PARTITION_OF, "second") == f"{partition}_2"
    assert await connection.fetchval(f"SELECT event_name FROM {partition}") == "first"


async def test_a_partition_half_detached_holds_up_only_its_own_rows(
    settings: Settings, database: str, serving: Serving, connection: Any
) -> None:
    one_writer = settings.model_copy(update={"writers": 1, "quick_writers": 0})
    holder = await asyncpg.connect(database)
    detacher = await asyncpg.connect(database)
    async with serving(one_writer) as app, aio.insecure_channel(app.address) as channel:
        await ingest(channel, request(late("first")))
        partition = await connection.fetchval(PARTITION_OF, "first")
        # DETACH … CONCURRENTLY waits for whoever has used the table: it stays half done.
        await holder.execute("BEGIN")
        await holder.fetchval(NAMES)
        detaching = asyncio.create_task(
            detacher.execute(
                f"ALTER TABLE telemetry_events DETACH PARTITION {partition} CONCURRENTLY"
            )
        )
        await becomes(connection, PENDING, 1)
        async with IngestCall(channel) as good, IngestCall(channel) as bad:
            await good.welcome("good")
            await bad.welcome("bad")
            async with held(connection, "request_marks"):
                first = asyncio.create_task(ingest(channel, request(event("gate"), request_id=ID)))
                await a_writer_waits(connection)
                # Both are in the one writer's next group.
                await bad.send(batch(1, late("second")))
                await good.send(batch(1, event("good")))
            await first
            async with asyncio.timeout(DEADLINE_SECONDS):
                assert (await good.ack()).committed.accepted_count == 1
                failure = await bad.failure()
        assert (failure.code, failure.reason) == (StatusCode.UNAVAILABLE, "DATABASE_UNAVAILABLE")
        await holder.execute("ROLLBACK")
        await detaching
        async with IngestCall(channel) as again:
            assert (await again.welcome("bad")).last_sequence == 0
            assert (await again.commit(1, late("second"))).accepted_count == 1
            await again.end()
    await holder.close()
    await detacher.close()
    assert await connection.fetchval(NAMES) == ["gate", "good", "second"]


ID = "0b0d4d1c-6c3b-4f0e-9d5f-3a2f3f1d0c12"
