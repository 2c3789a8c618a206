"""Replays: what becomes acceptable is stored once and leaves the kept ones, the rest stays."""

from __future__ import annotations

import asyncio
import math
from datetime import datetime, timedelta
from typing import Any

import pytest
from grpc import StatusCode, aio

from fernando.telemetry.v1 import (
    AdminServiceStub,
    GetServerInfoRequest,
    MetricColumns,
    MetricSeries,
    MetricType,
    RecordDefaults,
    ReplayRejectedRecordsRequest,
)
from fernando_telemetry.app import Application
from fernando_telemetry.settings import Settings
from tests.conftest import Serving
from tests.integration.ingest.ingest_call import IngestCall, ingest, request
from tests.integration.ingest.judging import ALL_STORED
from tests.integration.ingest.locks import DEADLINE_SECONDS, a_writer_waits, held
from tests.integration.ingest.records import columns, event, field, kpi, now, sample, span, stamp
from tests.integration.ingest.rejects import KEPT, listed, replay, these_weeks
from tests.integration.transport.failures import failure_of
from tests.integration.transport.server_log import ServerLog

pytestmark = pytest.mark.usefixtures("each_path")


DEFAULTS = RecordDefaults(
    license_id="acme", source="web", service_name="shop", host_name="h1", instance_id="i1"
)


@pytest.fixture
def settings(settings: Settings) -> Settings:
    """Keeping is on, and nothing older than a day is taken."""
    short = {f"retention_{kind}_days": 1 for kind in ("events", "metrics", "business", "traces")}
    return settings.model_copy(update={"rejected_keep": True, **short})


@pytest.fixture
def patient(settings: Settings) -> Settings:
    """Thirty days are taken, and nothing is kept any more."""
    longer = {f"retention_{kind}_days": 30 for kind in ("events", "metrics", "business", "traces")}
    return settings.model_copy(update={"rejected_keep": False, **longer})


def old_records(at: datetime) -> list[Any]:
    """Give one record of each kind and time, three samples of columns."""
    return [
        event(event_timestamp=stamp(at), license_id="own"),
        sample(metric_timestamp=stamp(at), labels={"a": "b"}),
        sample("timed", metric_timestamp=stamp(at), percentile_50=2.0),
        kpi(period_start=stamp(at - timedelta(days=1)), period_end=stamp(at)),
        span(start_time=stamp(at), duration_ms=1.5, tags={"k": "v"}),
        columns(1.5, 2.5, 3.5, at=at),
    ]


async def keep(channel: aio.Channel, *items: Any) -> int:
    """Send records that are all rejected; gives how many."""
    async with IngestCall(channel) as stream:
        await stream.welcome("keeper", defaults=DEFAULTS)
        committed = await stream.commit(1, *items)
        assert committed.accepted_count == 0
        await stream.end()
    return committed.rejected_count


async def make_partition(channel: aio.Channel, connection: Any, at: Any) -> None:
    """Have the server make what a day needs, so that a held table stops the flush only."""
    await ingest(channel, request(event(event_timestamp=at)))
    await connection.execute("DELETE FROM telemetry_events")


async def test_a_longer_retention_takes_them(
    server: Application,
    channel: aio.Channel,
    patient: Settings,
    serving: Serving,
    connection: Any,
) -> None:
    at = now().replace(microsecond=123_456) - timedelta(days=3)
    assert await keep(channel, *old_records(at)) == 8
    assert await replay(channel, dry_run=True) == (0, 8)
    assert await replay(channel) == (0, 8)
    async with (
        serving(patient) as other,
        aio.insecure_channel(other.address) as second,
    ):
        assert await replay(second, dry_run=True) == (8, 0)
        assert (await connection.fetchval(KEPT), await connection.fetchval(ALL_STORED)) == (8, 0)
        assert await replay(second) == (8, 0)
        assert await connection.fetchval(KEPT) == 0
        assert await replay(second) == (0, 0)
    assert await connection.fetchval(ALL_STORED) == 8
    stored = await connection.fetchrow("SELECT * FROM telemetry_events")
    assert (stored["event_timestamp"], stored["license_id"], stored["source"]) == (at, "own", "web")
    assert await connection.fetchval("SELECT start_time FROM traces") == at
    samples = await connection.fetch(
        "SELECT s.time, s.value, i.metric_name, i.labels::text, i.service_name, i.license_id "
        "FROM metric_samples s JOIN metric_series i USING (series_id) ORDER BY s.time, s.value"
    )
    micro = timedelta(microseconds=1)
    assert [tuple(row) for row in samples] == [
        (at, 1.0, "good", '{"a": "b"}', "shop", "acme"),
        (at, 1.5, "good", "{}", "shop", "acme"),
        (at + micro, 2.5, "good", "{}", "shop", "acme"),
        (at + 2 * micro, 3.5, "good", "{}", "shop", "acme"),
    ]
    shards = await connection.fetch(
        "SELECT DISTINCT shard FROM telemetry_events UNION SELECT shard FROM traces"
        " UNION SELECT shard FROM batch_marks"
    )
    assert len(shards) == 1


async def test_a_record_without_a_time_gets_that_of_its_rejection(
    channel: aio.Channel, connection: Any
) -> None:
    await connection.execute(
        "ALTER TABLE telemetry_events ADD CONSTRAINT refuses CHECK (event_name <> 'refused')"
    )
    await keep(channel, event("refused"))
    assert await replay(channel, dry_run=True) == (1, 0)  # PostgreSQL is not asked
    assert await replay(channel) == (0, 1)
    assert [one.verdict.reason for one in await listed(channel)] == [20]
    day = timedelta(days=1)
    await connection.execute(
        "UPDATE rejected_records SET rejected_at = rejected_at - $1::interval", day
    )
    await connection.execute("ALTER TABLE telemetry_events DROP CONSTRAINT refuses")
    rejected_at = await connection.fetchval("SELECT rejected_at FROM rejected_records")
    assert await replay(channel) == (1, 0)
    stored = await connection.fetchrow("SELECT event_timestamp, ingested_at FROM telemetry_events")
    assert stored["event_timestamp"] == rejected_at
    assert stored["ingested_at"] - rejected_at > timedelta(hours=23)


async def test_what_is_rejected_again_stays_as_it_was(
    channel: aio.Channel, connection: Any, server_log: ServerLog
) -> None:
    bad_series = MetricColumns(
        series=[MetricSeries(metric_type=MetricType.METRIC_TYPE_GAUGE)],
        series_index=[0, 1],
        time_unix_micros=[int(now().timestamp() * 1e6)] * 2,
        value=[1.0, 1.0],
    )
    bad = [
        event(""),
        event(event_type=99),
        event("x" * 257),
        event(event_data="{"),
        sample(metric_value=math.nan),
        sample(labels={"": "x"}),
        kpi(metric_value="x"),
        kpi(currency="ZZZ"),
        span(trace_id="no"),
        span(span_id=""),
        bad_series,
        field(1, field(3, b"\xff")),
        field(2, field(2, b"\xff")),
        field(1, event(event_data='"' + "x" * 600_000).SerializeToString()),
    ]
    assert await keep(channel, *bad) == len(bad) + 1
    rows = "SELECT * FROM rejected_records ORDER BY rejected_id"
    before = await connection.fetch(rows)
    for dry_run in (True, False):
        assert await replay(channel, dry_run=dry_run) == (0, len(bad) + 1)
        told = [dict(row) | {"detail": ""} for row in await connection.fetch(rows)]
        wanted = [dict(row) | {"detail": ""} for row in before]
        for row, first in zip(told, wanted, strict=True):
            # The sample's series is alone now, whatever its place was.
            assert row == first
    assert await connection.fetchval(ALL_STORED) == 0
    ends = server_log.named("rejected_records_replayed")
    assert [(entry["complete"], entry["still_rejected"]) for entry in ends] == [
        (True, len(bad) + 1)
    ] * 2


async def test_a_new_verdict_is_noted(channel: aio.Channel, connection: Any) -> None:
    await keep(channel, event("", event_timestamp=stamp(now() - timedelta(days=2))))
    assert [one.verdict.field_path for one in await listed(channel)] == ["event_timestamp"]
    await connection.execute("UPDATE rejected_records SET reason = 'invalid_id', index = 5")
    assert await replay(channel) == (0, 1)
    (record,) = await listed(channel)
    assert (record.verdict.reason, record.verdict.index) == (8, 5)


async def test_only_those_asked_for(channel: aio.Channel, connection: Any) -> None:
    at = now() - timedelta(days=2)
    await keep(channel, *old_records(at))
    await connection.execute("UPDATE rejected_records SET reason = 'x' WHERE kind = 'span'")
    assert await replay(channel, "kind = metric_columns", dry_run=True) == (0, 3)
    assert await replay(channel, "license_id = own") == (0, 1)
    stub: Any = AdminServiceStub(channel)
    empty = these_weeks()
    empty.end_time.FromDatetime(at)
    answer = await stub.ReplayRejectedRecords(ReplayRejectedRecordsRequest(time_range=empty))
    assert answer.still_rejected_count == 0
    for refused, reason in (
        (ReplayRejectedRecordsRequest(), "INVALID_TIME_RANGE"),
        (ReplayRejectedRecordsRequest(time_range=empty, filter="x = 1"), "INVALID_FILTER"),
    ):
        with pytest.raises(aio.AioRpcError) as caught:
            await stub.ReplayRejectedRecords(refused)
        failure = failure_of(caught.value)
        assert (failure.code, failure.reason) == (StatusCode.INVALID_ARGUMENT, reason)


async def test_replays_at_the_same_time_store_each_record_once(
    channel: aio.Channel, patient: Settings, serving: Serving, connection: Any
) -> None:
    """Two servers, two replays on each, and a fifth that waits for its turn."""
    count = 1_200
    at = stamp(now() - timedelta(days=2))
    await keep(channel, *(event(f"e{n}", event_timestamp=at) for n in range(count)))
    async with (
        serving(patient) as one,
        serving(patient) as two,
        aio.insecure_channel(one.address) as first,
        aio.insecure_channel(two.address) as second,
    ):
        counts = await asyncio.gather(*(replay(to) for to in (first, second, first, second, first)))
        repeats = [server._ingest.counters.repeated for server in (one, two) if server._ingest]
    assert sum(stored for stored, _ in counts) == count
    assert sum(repeats) > 0, f"they did not meet: {counts}"
    assert sum(still for _, still in counts) == 0
    assert await connection.fetchval(KEPT) == 0
    rows = await connection.fetchrow(
        "SELECT count(*) AS rows, count(DISTINCT event_name) AS names FROM telemetry_events"
    )
    assert tuple(rows) == (count, count)


async def test_a_replay_broken_off_in_mid_flush(
    channel: aio.Channel, patient: Settings, serving: Serving, connection: Any
) -> None:
    count = 600
    at = stamp(now() - timedelta(days=2))
    await keep(channel, *(event(f"e{n}", event_timestamp=at) for n in range(count)))
    async with serving(patient) as other, aio.insecure_channel(other.address) as second:
        stub: Any = AdminServiceStub(second)
        await make_partition(second, connection, at)
        async with held(connection):
            call = stub.ReplayRejectedRecords(
                ReplayRejectedRecordsRequest(time_range=these_weeks())
            )
            await a_writer_waits(connection)
            call.cancel()
            with pytest.raises(asyncio.CancelledError):
                await call
        # What the writers had taken is stored or not, but never in both places.
        stored, _ = await replay(second)
        assert 0 < stored <= count
    assert await connection.fetchval(ALL_STORED) == count
    assert await connection.fetchval(KEPT) == 0


async def test_a_replay_ends_with_the_server(
    channel: aio.Channel, patient: Settings, serving: Serving, connection: Any
) -> None:
    """A stop lets the step under way commit, and the replay then says that it is not through."""
    count = 1_000
    at = stamp(now() - timedelta(days=2))
    await keep(channel, *(event(f"e{n}", event_timestamp=at) for n in range(count)))
    async with serving(patient) as other, aio.insecure_channel(other.address) as second:
        await make_partition(second, connection, at)
        async with held(connection):
            running = asyncio.ensure_future(replay(second))
            await a_writer_waits(connection)
            stopping = asyncio.create_task(other.stop())
            async with asyncio.timeout(DEADLINE_SECONDS):
                while not other._ingest._draining:  # type: ignore[union-attr]  # noqa: ASYNC110
                    await asyncio.sleep(0.01)
        with pytest.raises(aio.AioRpcError) as caught:
            await running
        assert failure_of(caught.value).reason == "DRAINING"
        await stopping
    stored = await connection.fetchval(ALL_STORED)
    assert 0 < stored < count
    assert await connection.fetchval(KEPT) == count - stored


async def test_a_replay_waits_for_a_lost_session(
    channel: aio.Channel, patient: Settings, serving: Serving, connection: Any
) -> None:
    at = stamp(now() - timedelta(days=2))
    await keep(channel, *(event(f"e{n}", event_timestamp=at) for n in range(300)))
    async with serving(patient) as other, aio.insecure_channel(other.address) as second:
        await make_partition(second, connection, at)
        async with held(connection):
            running = asyncio.ensure_future(replay(second))
            await a_writer_waits(connection)
            assert await connection.fetchval(
                "SELECT count(pg_terminate_backend(pid)) FROM pg_stat_activity "
                "WHERE application_name = 'fernando-telemetry writer' "
                "AND datname = current_database()"
            )
        assert await running == (300, 0)
    assert await connection.fetchval(ALL_STORED) == 300
    assert await connection.fetchval(KEPT) == 0


async def test_new_records_flow_beside_a_replay(
    channel: aio.Channel, patient: Settings, serving: Serving, connection: Any
) -> None:
    at = stamp(now() - timedelta(days=2))
    await keep(channel, *(event(f"e{n}", event_timestamp=at) for n in range(500)))
    async with serving(patient) as other, aio.insecure_channel(other.address) as second:
        running = asyncio.ensure_future(replay(second))
        for _ in range(20):
            assert (await ingest(second, request(event("new")))).result.accepted_count == 1
        assert await running == (500, 0)
    assert await connection.fetchval(ALL_STORED) == 520


async def test_a_full_disk_stops_a_replay(
    channel: aio.Channel, patient: Settings, serving: Serving, connection: Any
) -> None:
    await keep(channel, event("late", event_timestamp=stamp(now() - timedelta(days=2))))
    full = patient.model_copy(update={"disk_budget_bytes": 1})
    async with serving(full) as other, aio.insecure_channel(other.address) as second:
        await _until_refused(second)
        assert await replay(second, dry_run=True) == (1, 0)
        with pytest.raises(aio.AioRpcError) as caught:
            await replay(second)
    failure = failure_of(caught.value)
    assert (failure.code, failure.reason) == (StatusCode.RESOURCE_EXHAUSTED, "OVERLOADED")
    assert await connection.fetchval(KEPT) == 1
    assert await connection.fetchval(ALL_STORED) == 0


async def _until_refused(channel: aio.Channel) -> None:
    stub: Any = AdminServiceStub(channel)
    async with asyncio.timeout(DEADLINE_SECONDS):
        last_problem = ""
        while "refused" not in last_problem:
            last_problem = (await stub.GetServerInfo(GetServerInfoRequest())).last_problem
            await asyncio.sleep(0.01)
