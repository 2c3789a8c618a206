"""Which records are accepted where licences have terms of their own."""

from __future__ import annotations

import asyncio
from datetime import timedelta
from typing import Any

import pytest
from google.protobuf.message import Message
from grpc import aio

from fernando.telemetry import v1
from fernando_telemetry.settings import Settings
from tests.conftest import Serving
from tests.integration.ingest.ingest_call import IngestCall, batch, ingest, request
from tests.integration.ingest.locks import DEADLINE_SECONDS
from tests.integration.ingest.records import columns, event, kpi, now, sample, span, stamp

KINDS = v1.RecordKind
SHORT, LONG, FOREVER = "short", "long", "forever"


async def set_days(
    channel: aio.Channel, kind: int, days: int, license_id: str = "", *, remove: bool = False
) -> v1.RetentionPolicy:
    """Set or remove a policy; gives what holds."""
    policy = v1.RetentionPolicy(kind=kind, license_id=license_id, days=days)  # type: ignore[arg-type]
    answer = await v1.AdminServiceStub(channel).SetRetentionPolicy(
        v1.SetRetentionPolicyRequest(policy=policy, remove=remove)
    )
    return answer.policy


def aged(days: float, license_id: str) -> list[Message]:
    """Make a record of each kind, the columns as the last, of so many days ago."""
    moment = now() - timedelta(days=days)
    of = {"license_id": license_id}
    begun = stamp(moment - timedelta(hours=1))
    packed = columns(1.0, at=moment)
    packed.series[0].license_id = license_id
    return [
        event(event_timestamp=stamp(moment), **of),
        sample(metric_timestamp=stamp(moment), **of),
        sample(metric_timestamp=stamp(moment), percentile_50=1.0, **of),
        kpi(period_start=begun, period_end=stamp(moment), **of),
        span(start_time=stamp(moment), **of),
        packed,
    ]


@pytest.mark.usefixtures("each_path")
async def test_each_licence_has_its_own_term(channel: aio.Channel, connection: Any) -> None:
    for kind in (
        KINDS.RECORD_KIND_EVENT,
        KINDS.RECORD_KIND_SYSTEM_METRIC,
        KINDS.RECORD_KIND_BUSINESS_METRIC,
        KINDS.RECORD_KIND_SPAN,
    ):
        await set_days(channel, kind, 20)
        await set_days(channel, kind, 5, SHORT)
        await set_days(channel, kind, 300, LONG)
        await set_days(channel, kind, 0, FOREVER)
    accepted = {"": 19.0, SHORT: 4.9, LONG: 299.0, FOREVER: 3_000.0}
    too_old = {"": 20.1, SHORT: 5.1, LONG: 300.1}
    async with IngestCall(channel) as stream:
        await stream.welcome()
        good = [record for name, days in accepted.items() for record in aged(days, name)]
        merged = v1.TelemetryRecords()
        for record in good:
            if isinstance(record, v1.MetricColumns):
                place = len(merged.metric_columns.series)
                record.series_index[0] = place
                merged.metric_columns.MergeFrom(record)
        rest = [record for record in good if not isinstance(record, v1.MetricColumns)]
        committed = await stream.commit(1, *rest, merged.metric_columns)
        assert (committed.accepted_count, committed.rejected_count) == (24, 0), committed
        for sequence, (name, days) in enumerate(too_old.items(), 2):
            refused = await stream.commit(sequence, *aged(days, name))
            reasons = {v1.VerdictReason.Name(one.reason) for one in refused.verdicts}
            assert (refused.accepted_count, refused.rejected_count) == (0, 6), name
            assert reasons == {"VERDICT_REASON_TIME_TOO_OLD"}
        await stream.end()
    assert await connection.fetchval("SELECT count(*) FROM telemetry_events") == 4


@pytest.mark.usefixtures("each_path")
async def test_the_default_licence_of_a_stream_counts(channel: aio.Channel) -> None:
    await set_days(channel, KINDS.RECORD_KIND_EVENT, 300, LONG)
    old = event(event_timestamp=stamp(now() - timedelta(days=200)))
    async with IngestCall(channel) as stream:
        await stream.welcome(defaults=v1.RecordDefaults(license_id=LONG))
        assert (await stream.commit(1, old)).accepted_count == 1
        await stream.send(batch(2, old, event(event_timestamp=old.event_timestamp, license_id="x")))
        committed = (await stream.ack()).committed
        assert (committed.accepted_count, committed.rejected_count) == (1, 1)
        await stream.end()


async def test_other_servers_follow_a_change_soon(
    serving: Serving, settings: Settings, channel: aio.Channel
) -> None:
    """The one that was asked at once, another within its refresh interval."""
    old = event(event_timestamp=stamp(now() - timedelta(days=50)))
    other_settings = settings.model_copy(update={"retention_refresh_seconds": 0.05})
    async with (
        serving(other_settings) as other,
        aio.insecure_channel(other.address) as other_channel,
    ):
        assert (await ingest(other_channel, request(old))).result.accepted_count == 1
        await set_days(channel, KINDS.RECORD_KIND_EVENT, 40)
        assert (await ingest(channel, request(old))).result.rejected_count == 1
        async with asyncio.timeout(DEADLINE_SECONDS):
            while not (await ingest(other_channel, request(old))).result.rejected_count:
                pass
        await set_days(channel, KINDS.RECORD_KIND_EVENT, 0, remove=True)
        assert (await ingest(channel, request(old))).result.accepted_count == 1


async def test_policies_outlive_the_server(serving: Serving, settings: Settings) -> None:
    old = event(event_timestamp=stamp(now() - timedelta(days=50)))
    async with serving(settings) as first, aio.insecure_channel(first.address) as channel:
        await set_days(channel, KINDS.RECORD_KIND_EVENT, 40)
    async with serving(settings) as second, aio.insecure_channel(second.address) as channel:
        assert (await ingest(channel, request(old))).result.rejected_count == 1
