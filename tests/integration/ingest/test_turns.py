"""Not all writers COPY at once: the last one waits for its turn, and small batches for none."""

from __future__ import annotations

from datetime import datetime
from typing import Any

import pytest
from grpc import aio

from fernando.telemetry.v1 import Event
from fernando_telemetry.settings import Settings
from tests.conftest import Serving
from tests.integration.ingest.ingest_call import IngestCall, batch
from tests.integration.ingest.locks import becomes, held
from tests.integration.ingest.records import event, now, stamp

WRITERS = """
SELECT array_agg(does ORDER BY does) FROM (
    SELECT CASE WHEN wait_event_type = 'Lock' THEN 'copies' ELSE state END AS does
    FROM pg_stat_activity
    WHERE application_name = 'fernando-telemetry writer' AND datname = current_database()
        AND (wait_event_type = 'Lock' OR state = 'idle in transaction')
) AS writers
"""
RECORDS = 1000


def large(moment: datetime) -> list[Event]:
    """Make more than a small batch has."""
    return [
        event(session_id=f"{number:0100}", event_timestamp=stamp(moment))
        for number in range(RECORDS)
    ]


@pytest.mark.parametrize(
    ("writers", "expected"), [(1, 1), (2, 1), (3, 2)], ids=["one", "two", "three"]
)
async def test_one_writer_fewer_copies_at_a_time(
    settings: Settings, serving: Serving, connection: Any, writers: int, expected: int
) -> None:
    moment = now()
    # Of the table's own lock the making of partitions would be in need as well.
    partition = f"telemetry_events_p{moment:%Y%m%d}"
    changed = settings.model_copy(update={"writers": writers})
    states = ["copies"] * expected + ["idle in transaction"] * (writers - expected)
    async with (
        serving(changed) as server,
        aio.insecure_channel(server.address) as channel,
        IngestCall(channel) as stream,
        IngestCall(channel) as other,
    ):
        await stream.welcome()
        await other.welcome("other")
        async with held(connection, partition):
            for sequence in range(1, writers + 1):
                await stream.send(batch(sequence, *large(moment)))
                await becomes(connection, WRITERS, states[:sequence])
            # A writer of small batches goes past them, to the same lock.
            await other.send(batch(1, event(event_timestamp=stamp(moment))))
            await becomes(connection, WRITERS, ["copies", *states])
        assert [ack.sequence for ack in await stream.acks(writers)] == [*range(1, writers + 1)]
        assert (await other.ack()).sequence == 1
        await stream.end()
    stored = await connection.fetchval("SELECT count(*) FROM telemetry_events")
    assert stored == writers * RECORDS + 1
