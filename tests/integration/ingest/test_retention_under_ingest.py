"""Partitions that retention drops while records come in: every ack is right."""

from __future__ import annotations

from datetime import timedelta
from typing import Any

from grpc import aio

from fernando.telemetry import v1
from fernando_telemetry.settings import Settings
from tests.conftest import Serving
from tests.integration.ingest.ingest_call import IngestCall
from tests.integration.ingest.records import event, now, stamp
from tests.integration.ingest.test_retention_terms import set_days

DAYS = 20
EVENT = v1.RecordKind.RECORD_KIND_EVENT
OLDER = "SELECT count(*) FROM telemetry_events WHERE event_timestamp < $1"


async def test_acks_are_right_while_partitions_go(
    settings: Settings, serving: Serving, connection: Any
) -> None:
    """Each batch has a row of every day; a term that shrinks by a day takes one partition more."""
    begun = now()
    changed = settings.model_copy(update={"retention_interval_seconds": 0.05})
    accepted = 0
    async with (
        serving(changed) as server,
        aio.insecure_channel(server.address) as channel,
        IngestCall(channel) as stream,
    ):
        await stream.welcome()
        sequence = 0
        for term in range(DAYS, 4, -1):
            await set_days(channel, EVENT, term)
            before = begun - timedelta(days=term + 1)
            while True:
                sequence += 1
                days = [event(event_timestamp=stamp(begun - timedelta(ago))) for ago in range(DAYS)]
                committed = await stream.commit(sequence, *days)
                # Of the day that is as old as the term only the moment decides.
                assert term <= committed.accepted_count <= term + 1
                assert committed.accepted_count + committed.rejected_count == DAYS
                assert all(
                    one.reason == v1.VerdictReason.VERDICT_REASON_TIME_TOO_OLD
                    for one in committed.verdicts
                )
                accepted += committed.accepted_count
                if not await connection.fetchval(OLDER, before):
                    break
        await stream.end()
    stored = await connection.fetch(
        "SELECT $1::date - (event_timestamp AT TIME ZONE 'UTC')::date AS ago, count(*) AS n "
        "FROM telemetry_events GROUP BY 1",
        begun,
    )
    found = {row["ago"]: row["n"] for row in stored}
    # What is younger than the shortest term was never in question.
    assert [found[ago] for ago in range(4)] == [sequence] * 4
    assert sum(found.values()) < accepted
    assert not {ago for ago in found if ago > 6}
