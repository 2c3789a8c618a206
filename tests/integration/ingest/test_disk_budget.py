"""The disk budget as clients and operators meet it; tests/faults fills a real disk."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest
from grpc import StatusCode, aio

from fernando.telemetry.v1 import AdminServiceStub, EventServiceStub, GetServerInfoRequest
from fernando.telemetry.v1 import ListEventsRequest as ListRequest
from fernando_telemetry.app import Application
from fernando_telemetry.domain.errors import StartupError
from fernando_telemetry.ingest import disk_budget
from fernando_telemetry.ingest.own_metrics import OwnMetrics
from fernando_telemetry.settings import Settings
from fernando_telemetry.storage.partitions import Partitions, raw_tables
from fernando_telemetry.storage.sessions import ControlPool
from tests.conftest import Serving, session_settings
from tests.integration.ingest.ingest_call import (
    IngestCall,
    batch,
    hello,
    ingest,
    ingest_failure,
    request,
)
from tests.integration.ingest.locks import DEADLINE_SECONDS
from tests.integration.ingest.records import event, now
from tests.integration.transport.failures import expected, summary
from tests.integration.transport.server_log import ServerLog

FULL = expected(StatusCode.RESOURCE_EXHAUSTED, "OVERLOADED", {"resource": "disk"})
SIZE = "SELECT pg_database_size(current_database())"
MIB = 1024 * 1024


@pytest.fixture(autouse=True)
def _quick(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(disk_budget, "SIZE_INTERVAL_SECONDS", 0)


@pytest.fixture
async def app(settings: Settings, serving: Serving, connection: Any) -> AsyncIterator[Application]:
    """A server whose database may grow by 4 MiB."""
    budget = await connection.fetchval(SIZE) + 4 * MIB
    quick = {"disk_budget_bytes": budget, "disk_check_interval_seconds": 0.02}
    async with serving(settings.model_copy(update=quick)) as running:
        yield running


@pytest.fixture
async def channel(app: Application) -> AsyncIterator[aio.Channel]:
    async with aio.insecure_channel(app.address) as opened:
        yield opened


async def _last_problem(channel: aio.Channel) -> str:
    info = await AdminServiceStub(channel).GetServerInfo(GetServerInfoRequest())
    return info.last_problem


async def _until_said(channel: aio.Channel, words: str) -> str:
    async with asyncio.timeout(DEADLINE_SECONDS):
        while words not in (said := await _last_problem(channel)):  # noqa: ASYNC110
            await asyncio.sleep(0.01)
    return said


async def test_ingest_is_refused_and_taken_again(
    channel: aio.Channel, connection: Any, server_log: ServerLog
) -> None:
    async with IngestCall(channel) as stream:
        await stream.welcome()
        await stream.commit(1, event())
        await connection.execute(
            "CREATE TABLE ballast AS SELECT repeat('x', 1000) FROM generate_series(1, 12000)"
        )
        said = await _until_said(channel, "Ingest is refused")
        assert "its budget is" in said
        # An idle stream lives on; its next batch ends it.
        await stream.send(batch(2, event()))
        failure = await stream.failure()
        assert summary(failure) == FULL
        assert failure.retry_after_seconds == 2.0
    async with IngestCall(channel) as refused:
        await refused.send(hello())
        assert summary(await refused.failure()) == FULL
    failure = await ingest_failure(channel, request(event()))
    assert summary(failure) == FULL
    assert failure.retry_after_seconds == 2.0
    wanted = ListRequest()
    wanted.time_range.start_time.FromDatetime(now() - timedelta(hours=1))
    wanted.time_range.end_time.FromDatetime(now() + timedelta(hours=1))
    assert len((await EventServiceStub(channel).ListEvents(wanted)).events) == 1
    await connection.execute("DROP TABLE ballast")
    await _until_said(channel, "Taken again since")
    async with IngestCall(channel) as stream:
        assert (await stream.welcome()).last_sequence == 1
        await stream.commit(2, event())
    assert await connection.fetchval("SELECT count(*) FROM telemetry_events") == 2
    for name in ("ingest_refused_for_room", "ingest_taken_again"):
        assert len(server_log.named(name)) == 1


async def test_the_oldest_partitions_go_first_where_that_is_wanted(
    settings: Settings, serving: Serving, database: str, connection: Any
) -> None:
    pool = ControlPool(session_settings(database), 1)
    partitions = Partitions(pool, raw_tables())
    days = [now() - timedelta(days=age) for age in (30, 20, 10)]
    await partitions.ensure({"telemetry_events": days})
    await pool.close()
    # Of each day 2 MiB.
    await connection.execute(
        "INSERT INTO telemetry_events (event_id, event_timestamp, event_type, event_name, "
        "ingested_at, shard, flush_id, user_agent) SELECT gen_random_uuid(), day, 'user_action', "
        "'old', now(), 0, 1, repeat('x', 1000) FROM unnest($1::timestamptz[]) AS day, "
        "generate_series(1, 1800)",
        days,
    )
    budget = int(await connection.fetchval(SIZE) - 1.5 * MIB)
    drop = {
        "disk_budget_bytes": budget,
        "disk_check_interval_seconds": 0.05,
        "disk_full_action": "drop_oldest",
    }
    left = "SELECT DISTINCT event_timestamp FROM telemetry_events WHERE event_name = 'old'"
    async with (
        serving(settings.model_copy(update=drop)) as app,
        aio.insecure_channel(app.address) as channel,
    ):
        async with asyncio.timeout(DEADLINE_SECONDS):
            while len(rows := await connection.fetch(left)) > 2:  # noqa: ASYNC110
                await asyncio.sleep(0.01)
            assert {row["event_timestamp"] for row in rows} <= set(days[1:])
            while await connection.fetchval(SIZE) > budget:  # noqa: ASYNC110
                await asyncio.sleep(0.01)
            # A late row of a day that is gone is stored all the same.
            late = event("late", event_timestamp=days[0])
            while (await _taken(channel, late)) is False:
                pass
        assert await connection.fetchval(
            "SELECT count(*) FROM telemetry_events WHERE event_name = 'late'"
        )


async def _taken(channel: aio.Channel, record: Any) -> bool:
    try:
        answer = await ingest(channel, request(record))
    except aio.AioRpcError as error:
        if error.code() is not StatusCode.RESOURCE_EXHAUSTED:
            raise
        return False
    return answer.result.accepted_count == 1


async def test_a_watched_folder_that_is_not_there_is_one_sentence(
    settings: Settings, tmp_path: Path
) -> None:
    with pytest.raises(StartupError, match="FERNANDO_DISK_PATH names"):
        await Application(settings.model_copy(update={"disk_path": tmp_path / "none"})).start()


async def test_the_servers_own_metrics_tell_all_of_it(
    settings: Settings, serving: Serving, tmp_path: Path
) -> None:
    watched = {"disk_path": tmp_path, "disk_check_interval_seconds": 0.02}
    async with (
        serving(settings.model_copy(update=watched)) as app,
        aio.insecure_channel(app.address) as channel,
    ):
        ingest_service = app._ingest
        assert ingest_service is not None
        request_id = "0b0d4d1c-6c3b-4f0e-9d5f-3a2f3f1d0c11"
        for _ in range(2):
            await ingest(channel, request(event(), event(), event(""), request_id=request_id))
        async with asyncio.timeout(DEADLINE_SECONDS):
            while ingest_service.counters.disk_free_bytes is None:  # noqa: ASYNC110
                await asyncio.sleep(0.01)

        async def size() -> int:
            return 12_345

        async def unsealed() -> int:
            return 3

        async def lag() -> float:
            return 0.25

        records = await OwnMetrics(
            ingest_service, size, unsealed, lag, {"fold_deltas": 2}, "host", 1
        ).collect()
        values = {metric.metric_name: metric.metric_value for metric in records.system_metrics}
        assert values.pop("disk_free_bytes") > 0
        latency = next(one for one in records.system_metrics if one.metric_name == "commit_latency")
        assert latency.metric_unit == "milliseconds"
        assert 0 < latency.percentile_50 <= latency.percentile_99
        assert values.pop("commit_latency") > 0
        assert values == {
            "duty_failures": 2,
            "fold_lag": 0.25,
            "records_accepted": 2,
            "records_rejected": 1,
            "records_repeated": 3,
            "batches_repeated": 1,
            "batches_refused": 0,
            "records_refused_by_database": 0,
            "rejected_records_not_kept": 0,
            "refused_for_room": 0,
            "queue_bytes": 0,
            "open_streams": 0,
            "samples_overflowed": 0,
            "database_bytes": 12_345,
            "unsealed_partitions": 3,
        }
