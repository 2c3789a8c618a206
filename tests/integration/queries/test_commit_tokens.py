"""Reads that ask for a commit, on a primary and on a physical replica that stands still."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Awaitable
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
from google.protobuf.duration_pb2 import Duration
from grpc import StatusCode, aio

from fernando.telemetry import v1
from fernando_telemetry.app import Application
from fernando_telemetry.domain.flush_ids import LAST_LANE, commit_token, flush_id_of
from fernando_telemetry.embedded import EmbeddedPostgres
from fernando_telemetry.settings import Settings
from fernando_telemetry.storage.sessions import ReaderPool
from fernando_telemetry.storage.snapshots import Snapshots
from tests.conftest import Serving, session_settings
from tests.faults.server_process import until
from tests.integration.queries.exports import EVENT, answers, asked, export
from tests.integration.queries.rows import range_of
from tests.integration.transport.failures import expected, failure, failure_of, summary
from tests.replica import Replica, replica_of

NOT_REACHED = expected(StatusCode.UNAVAILABLE, "COMMIT_TOKEN_NOT_REACHED")
WAIT_SECONDS = 0.3
PATIENCE_SECONDS = 20.0
TRACE = "0af7651916cd43dd8448eb211c80319c"
# What takes a min_commit_token and answers once.
READS = (
    "ListEvents",
    "SummarizeEvents",
    "ListSystemMetrics",
    "QuerySystemMetrics",
    "ListMetricSeries",
    "ListBusinessMetrics",
    "SummarizeBusinessMetrics",
    "ListSpans",
    "SearchTraces",
    "GetTrace",
    "GetServiceGraph",
)


@pytest.fixture(scope="module")
async def replica(
    postgres: EmbeddedPostgres, tmp_path_factory: pytest.TempPathFactory
) -> AsyncIterator[Replica]:
    async with replica_of(postgres, tmp_path_factory.mktemp("replica")) as running:
        yield running


@pytest.fixture
async def reading_replica(
    settings: Settings, database: str, replica: Replica, serving: Serving
) -> AsyncIterator[aio.Channel]:
    """A server that writes to the primary and reads the replica, which has caught up."""
    changed = {
        "read_dsn": replica.dsn_of(database),
        "commit_token_wait_seconds": WAIT_SECONDS,
        "reader_connections": 2,
    }
    async with serving(settings.model_copy(update=changed)) as app:
        await replica.catch_up()
        async with aio.insecure_channel(app.address) as channel:
            yield channel
        await replica.resume()


def _records(name: str) -> v1.TelemetryRecords:
    """Give one record of each kind, all of them with the name."""
    records = v1.TelemetryRecords(record_count=4)
    records.events.add(event_type=v1.EventType.EVENT_TYPE_USER_ACTION, event_name=name)
    records.system_metrics.add(
        metric_name="load",
        metric_type=v1.MetricType.METRIC_TYPE_GAUGE,
        metric_value=1,
        service_name=name,
    )
    now = datetime.now(UTC)
    kpi = records.business_metrics.add(metric_name=name, metric_value="1")
    kpi.period_start.FromDatetime(now - timedelta(hours=1))
    kpi.period_end.FromDatetime(now)
    records.spans.add(trace_id=TRACE, span_id="00f067aa0ba902b7", service_name=name)
    return records


async def _store(channel: aio.Channel, name: str) -> str:
    """Store the records and give the token of their commit."""
    request = v1.IngestTelemetryRequest(records=_records(name))
    answer = await v1.IngestServiceStub(channel).IngestTelemetry(request)
    assert answer.result.accepted_count == 4
    token: str = answer.result.commit_token
    return token


def _reads(channel: aio.Channel, token: str) -> dict[str, Awaitable[Any]]:
    now = datetime.now(UTC)
    asked: dict[str, Any] = {
        "time_range": range_of(now - timedelta(days=1), now + timedelta(days=1)),
        "min_commit_token": token,
    }
    events, metrics = v1.EventServiceStub(channel), v1.MetricServiceStub(channel)
    traces = v1.TraceServiceStub(channel)
    return {
        "ListEvents": events.ListEvents(v1.ListEventsRequest(**asked)),
        "SummarizeEvents": events.SummarizeEvents(
            v1.SummarizeEventsRequest(group_by=["event_name"], **asked)
        ),
        "ListSystemMetrics": metrics.ListSystemMetrics(v1.ListSystemMetricsRequest(**asked)),
        "QuerySystemMetrics": metrics.QuerySystemMetrics(
            v1.QuerySystemMetricsRequest(
                metric_name="load", alignment_period=Duration(seconds=86_400), **asked
            )
        ),
        "ListMetricSeries": metrics.ListMetricSeries(
            v1.ListMetricSeriesRequest(min_commit_token=token)
        ),
        "ListBusinessMetrics": metrics.ListBusinessMetrics(v1.ListBusinessMetricsRequest(**asked)),
        "SummarizeBusinessMetrics": metrics.SummarizeBusinessMetrics(
            v1.SummarizeBusinessMetricsRequest(**asked)
        ),
        "ListSpans": traces.ListSpans(v1.ListSpansRequest(**asked)),
        "SearchTraces": traces.SearchTraces(v1.SearchTracesRequest(**asked)),
        "GetTrace": traces.GetTrace(v1.GetTraceRequest(trace_id=TRACE, **asked)),
        "GetServiceGraph": traces.GetServiceGraph(v1.GetServiceGraphRequest(**asked)),
    }


def _names(method: str, page: Any) -> list[str]:
    match method:
        case "ListEvents":
            return [one.event_name for one in page.events]
        case "SummarizeEvents":
            return [one.group["event_name"] for one in page.summaries]
        case "ListSystemMetrics":
            return [one.service_name for one in page.system_metrics]
        case "QuerySystemMetrics":
            return [one.series.service_name for one in page.time_series]
        case "ListMetricSeries":
            return [one.service_name for one in page.series]
        case "ListBusinessMetrics":
            return [one.metric_name for one in page.business_metrics]
        case "SummarizeBusinessMetrics":
            return [one.metric_name for one in page.summaries]
        case "ListSpans":
            return [one.service_name for one in page.spans]
        case "SearchTraces":
            return [name for one in page.traces for name in one.spans_by_service]
        case "GetTrace":
            return [one.span.service_name for one in page.spans]
        case "GetServiceGraph":
            return [one.service_name for one in page.nodes]
    raise AssertionError(method)


async def _listed(channel: aio.Channel, token: str = "") -> dict[str, list[str]]:
    """Call every read there is; gives the names that each one shows."""
    reads = _reads(channel, token)
    pages = dict(zip(reads, await asyncio.gather(*reads.values()), strict=True))
    return {method: sorted(_names(method, page)) for method, page in pages.items()}


def _all_show(names: list[str]) -> dict[str, list[str]]:
    return dict.fromkeys(READS, names)


async def test_a_token_is_reached_at_once_on_the_primary(channel: aio.Channel) -> None:
    token = await _store(channel, "here")
    assert await _listed(channel, token) == _all_show(["here"])


async def test_a_token_waits_for_a_replica(reading_replica: aio.Channel, replica: Replica) -> None:
    first = await _store(reading_replica, "old")
    assert await _listed(reading_replica, first) == _all_show(["old"])
    await replica.pause()
    second = await _store(reading_replica, "young")
    # Without the token, and with an older one: what the replica has.
    assert await _listed(reading_replica) == _all_show(["old"])
    assert await _listed(reading_replica, first) == _all_show(["old"])
    for method, call in _reads(reading_replica, second).items():
        found = await failure(call)
        assert summary(found) == NOT_REACHED, method
        assert found.retry_after_seconds, method
    await replica.resume()
    await replica.catch_up()
    assert await _listed(reading_replica, second) == _all_show(["old", "young"])


async def test_a_read_that_waits_goes_on_when_the_replica_does(
    settings: Settings, database: str, replica: Replica, serving: Serving
) -> None:
    patient = {"read_dsn": replica.dsn_of(database), "commit_token_wait_seconds": 30}
    async with serving(settings.model_copy(update=patient)) as app:
        await replica.catch_up()
        async with aio.insecure_channel(app.address) as channel:
            await replica.pause()
            token = await _store(channel, "late")
            waiting = asyncio.create_task(_listed(channel, token))
            done, _ = await asyncio.wait([waiting], timeout=0.3)
            assert not done
            await replica.resume()
            async with asyncio.timeout(PATIENCE_SECONDS):
                assert await waiting == _all_show(["late"])


async def test_waiting_reads_leave_the_readers_to_others(
    settings: Settings, database: str, replica: Replica, serving: Serving
) -> None:
    """110 calls wait at a pool of two sessions, and a read that waits for nothing is answered."""
    patient = {
        "read_dsn": replica.dsn_of(database),
        "commit_token_wait_seconds": 60,
        "reader_connections": 2,
    }
    async with serving(settings.model_copy(update=patient)) as app:
        await replica.catch_up()
        async with aio.insecure_channel(app.address) as channel:
            first = await _store(channel, "old")
            await _listed(channel, first)
            await replica.pause()
            token = await _store(channel, "young")
            waiting = [asyncio.create_task(_listed(channel, token)) for _ in range(10)]
            try:
                for _ in range(20):
                    async with asyncio.timeout(PATIENCE_SECONDS):
                        assert await _listed(channel) == _all_show(["old"])
                assert not any(task.done() for task in waiting)
            finally:
                await replica.resume()
            async with asyncio.timeout(PATIENCE_SECONDS):
                for found in await asyncio.gather(*waiting):
                    assert found == _all_show(["old", "young"])


@pytest.mark.parametrize(
    ("lane", "number"), [(1, 999), (77, 1), (LAST_LANE, 1)], ids=["number", "lane", "last_lane"]
)
async def test_a_token_that_was_never_given_is_not_reached(
    settings: Settings, serving: Serving, lane: int, number: int
) -> None:
    impatient = settings.model_copy(update={"commit_token_wait_seconds": 0.05})
    async with serving(impatient) as app, aio.insecure_channel(app.address) as channel:
        await _store(channel, "here")
        for call in _reads(channel, commit_token(flush_id_of(lane, number))).values():
            assert summary(await failure(call)) == NOT_REACHED


async def test_a_pruned_flush_is_reached(channel: aio.Channel, connection: Any) -> None:
    token = await _store(channel, "here")
    await connection.execute("UPDATE lanes SET pruned_through = $1", int(token, 16) & 0xFFFFFFFFFF)
    await connection.execute("TRUNCATE flushes")
    assert await _listed(channel, token) == _all_show(["here"])


async def test_looking_ends_with_the_last_waiter(database: str) -> None:
    """A waiter that is cancelled leaves nothing behind: no session, no loop."""
    pool = ReaderPool(session_settings(database), 1)
    snapshots = Snapshots(pool, 60)

    async def read() -> None:
        async with snapshots.opened(flush_id_of(5, 5)):
            raise AssertionError("it never was")

    def looking() -> int:
        return sum(task.get_name() == "commit-look" for task in asyncio.all_tasks())

    waiting = asyncio.create_task(read())
    await until(lambda: looking() == 1)
    waiting.cancel()
    await asyncio.gather(waiting, return_exceptions=True)
    await until(lambda: looking() == 0)
    async with asyncio.timeout(PATIENCE_SECONDS):
        async with snapshots.opened() as lent:
            assert await lent.fetchval("SELECT 1") == 1
    await pool.close()


async def test_a_page_may_ask_for_another_commit(channel: aio.Channel) -> None:
    first, second = await _store(channel, "a"), await _store(channel, "b")
    now = datetime.now(UTC)
    request = v1.ListEventsRequest(
        time_range=range_of(now - timedelta(days=1), now + timedelta(days=1)),
        page_size=1,
        min_commit_token=first,
    )
    stub = v1.EventServiceStub(channel)
    page = await stub.ListEvents(request)
    request.page_token, request.min_commit_token = page.next_page_token, second
    assert [one.event_name for one in (await stub.ListEvents(request)).events] == ["a"]


async def test_an_export_reads_where_its_commits_show(
    server: Application, channel: aio.Channel, reading_replica: aio.Channel, replica: Replica
) -> None:
    await _store(channel, "before")
    await replica.catch_up()
    await replica.pause()
    token = await _store(channel, "after")
    # By time on the primary; what goes on with its tokens elsewhere needs the same commits.
    whole = await export(channel, EVENT)
    assert [row["event_name"] for row in whole.rows()] == ["before", "after"]
    within = whole.chunks[0].next_token
    for request in (asked(EVENT, min_commit_token=token), asked(EVENT, after_token=within)):
        with pytest.raises(aio.AioRpcError) as raised:
            async for _ in answers(reading_replica, request):
                pass
        assert summary(failure_of(raised.value)) == NOT_REACHED
    # A cursor is not waited for: what it has not consumed simply does not show yet.
    assert (await export(reading_replica, EVENT, after_token=whole.token)).rows() == []
    await replica.resume()
    await replica.catch_up()
    assert (await export(reading_replica, EVENT, after_token=within)).rows() == []
    found = await export(reading_replica, EVENT, min_commit_token=token)
    assert [row["event_name"] for row in found.rows()] == ["before", "after"]
