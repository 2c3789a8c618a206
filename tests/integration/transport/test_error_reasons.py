"""One test for each ErrorReason this version sends, as a client reads it."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from datetime import timedelta
from typing import Any

import asyncpg
from grpc import StatusCode, aio

from fernando.telemetry.v1 import (
    Aggregation,
    AlertServiceStub,
    Event,
    EventServiceStub,
    EventType,
    GetAlertRequest,
    GetTraceRequest,
    IngestServiceStub,
    IngestTelemetryRequest,
    ListEventsRequest,
    MetricServiceStub,
    MetricType,
    QuerySystemMetricsRequest,
    StreamHello,
    StreamTelemetryRequest,
    SystemMetric,
    TelemetryBatch,
    TelemetryRecords,
    TraceServiceStub,
)
from fernando_telemetry.settings import Settings
from fernando_telemetry.transport.status import INTERNAL_TEXT, status_of
from tests.conftest import Serving
from tests.integration.transport.failures import Failure, expected, failure, summary

INVALID = StatusCode.INVALID_ARGUMENT
PATIENCE_SECONDS = 20.0


def records() -> TelemetryRecords:
    """Give one good event."""
    event = Event(event_type=EventType.EVENT_TYPE_USER_ACTION, event_name="x")
    return TelemetryRecords(events=[event])


async def stream_failure(channel: aio.Channel, *requests: StreamTelemetryRequest) -> Failure:
    """Send a stream's messages and give how it ends."""

    async def sent() -> AsyncIterator[StreamTelemetryRequest]:
        for request in requests:
            yield request

    async def run() -> None:
        async for _ in IngestServiceStub(channel).StreamTelemetry(sent()):
            pass

    return await failure(run())


def hello() -> StreamTelemetryRequest:
    return StreamTelemetryRequest(hello=StreamHello(producer_id="errors"))


def batch(sequence: int) -> StreamTelemetryRequest:
    return StreamTelemetryRequest(batch=TelemetryBatch(sequence=sequence, records=records()))


def listing(**arguments: Any) -> ListEventsRequest:
    """Give a list request of the years 2020 to 2030."""
    request = ListEventsRequest(**arguments)
    request.time_range.start_time.FromJsonString("2020-01-01T00:00:00Z")
    request.time_range.end_time.FromJsonString("2030-01-01T00:00:00Z")
    return request


async def _lock_events(connection: Any) -> Any:
    """Hold up every flush of events until the transaction given ends."""
    lock = connection.transaction()
    await lock.start()
    await connection.execute("LOCK TABLE telemetry_events IN EXCLUSIVE MODE")
    return lock


async def _flush_waits(connection: Any) -> None:
    """Wait until a COPY waits for the lock (partitions are made under another mode)."""
    waiting = "SELECT count(*) FROM pg_locks WHERE NOT granted AND mode = 'RowExclusiveLock'"
    async with asyncio.timeout(PATIENCE_SECONDS):
        while not await connection.fetchval(waiting):  # noqa: ASYNC110
            await asyncio.sleep(0.01)


async def test_error_invalid_field(channel: aio.Channel) -> None:
    found = await failure(EventServiceStub(channel).ListEvents(listing(page_size=-1)))
    assert summary(found) == expected(
        INVALID, "INVALID_FIELD", {"field": "page_size"}, ("page_size",)
    )


async def test_error_commit_token_not_reached(settings: Settings, serving: Serving) -> None:
    impatient = settings.model_copy(update={"commit_token_wait_seconds": 0})
    async with serving(impatient) as app, aio.insecure_channel(app.address) as channel:
        request = listing(min_commit_token="0000990000000001")
        found = await failure(EventServiceStub(channel).ListEvents(request))
    assert summary(found) == expected(StatusCode.UNAVAILABLE, "COMMIT_TOKEN_NOT_REACHED")
    assert found.retry_after_seconds


async def test_error_invalid_filter(channel: aio.Channel) -> None:
    found = await failure(EventServiceStub(channel).ListEvents(listing(filter='nonsense = "x"')))
    assert summary(found) == expected(INVALID, "INVALID_FILTER", {"position": "0"}, ("filter",))


async def test_error_invalid_page_token(channel: aio.Channel) -> None:
    found = await failure(EventServiceStub(channel).ListEvents(listing(page_token="AAAA")))
    assert summary(found) == expected(INVALID, "INVALID_PAGE_TOKEN")


async def test_error_invalid_time_range(channel: aio.Channel) -> None:
    found = await failure(EventServiceStub(channel).ListEvents(ListEventsRequest()))
    assert (found.code, found.reason) == (INVALID, "INVALID_TIME_RANGE")


async def test_error_not_found(channel: aio.Channel) -> None:
    call = TraceServiceStub(channel).GetTrace(GetTraceRequest(trace_id="ab" * 16))
    assert summary(await failure(call)) == expected(StatusCode.NOT_FOUND, "NOT_FOUND")


async def test_error_not_implemented(channel: aio.Channel) -> None:
    found = await failure(AlertServiceStub(channel).GetAlert(GetAlertRequest()))
    assert summary(found) == expected(StatusCode.UNIMPLEMENTED, "NOT_IMPLEMENTED")


async def test_error_hello_required(channel: aio.Channel) -> None:
    wanted = expected(StatusCode.FAILED_PRECONDITION, "HELLO_REQUIRED")
    assert summary(await stream_failure(channel, batch(1))) == wanted
    assert summary(await stream_failure(channel, hello(), hello())) == wanted
    assert summary(await stream_failure(channel)) == wanted


async def test_error_sequence_gap(channel: aio.Channel) -> None:
    found = await stream_failure(channel, hello(), batch(1), batch(3))
    assert summary(found) == expected(
        StatusCode.FAILED_PRECONDITION, "SEQUENCE_GAP", {"expected": "2", "got": "3"}
    )


async def test_error_undecodable(channel: aio.Channel) -> None:
    raw: Any = channel
    for method in ("EventService/ListEvents", "IngestService/IngestTelemetry"):
        call = raw.unary_unary(f"/fernando.telemetry.v1.{method}")(b"\xff\xff")
        assert summary(await failure(call)) == expected(INVALID, "UNDECODABLE")


async def test_error_batch_refused(channel: aio.Channel) -> None:
    given = records()
    given.record_count = 5
    call = IngestServiceStub(channel).IngestTelemetry(IngestTelemetryRequest(records=given))
    assert summary(await failure(call)) == expected(
        INVALID, "BATCH_REFUSED", {"refusal": "record_count_mismatch"}
    )


async def test_error_draining(settings: Settings, serving: Serving, connection: Any) -> None:
    """A batch held by a lock keeps the drain open; a new call meets it."""
    async with serving(settings) as app, aio.insecure_channel(app.address) as channel:
        stub = IngestServiceStub(channel)
        await stub.IngestTelemetry(IngestTelemetryRequest(records=records()))
        lock = await _lock_events(connection)
        held = asyncio.ensure_future(
            stub.IngestTelemetry(IngestTelemetryRequest(records=records()), timeout=30)
        )
        await _flush_waits(connection)
        stopping = asyncio.create_task(app.stop())
        reason = ""
        async with asyncio.timeout(PATIENCE_SECONDS):
            while reason != "DRAINING":
                call = stub.IngestTelemetry(IngestTelemetryRequest(records=records()), timeout=1)
                found = await failure(call)
                reason = found.reason
        assert (found.code, found.domain) == (StatusCode.UNAVAILABLE, "telemetry.fernando")
        assert found.retry_after_seconds == 1.0
        await lock.rollback()
        assert (await held).result.accepted_count == 1
        await stopping


async def test_error_aggregation_not_applicable(channel: aio.Channel) -> None:
    metric = SystemMetric(
        metric_name="requests", metric_type=MetricType.METRIC_TYPE_COUNTER, metric_value=1
    )
    stored = IngestTelemetryRequest(records=TelemetryRecords(system_metrics=[metric]))
    await IngestServiceStub(channel).IngestTelemetry(stored)
    request = QuerySystemMetricsRequest(
        time_range=listing().time_range,
        metric_name="requests",
        align=Aggregation.AGGREGATION_P95,
    )
    request.alignment_period.FromTimedelta(timedelta(days=1))
    found = await failure(MetricServiceStub(channel).QuerySystemMetrics(request))
    wanted = {"aggregation": "p95", "metric_type": "counter"}
    assert summary(found) == expected(INVALID, "AGGREGATION_NOT_APPLICABLE", wanted)


async def test_error_query_too_expensive(settings: Settings, serving: Serving) -> None:
    hasty = settings.model_copy(update={"query_timeout_seconds": 2.0, "lock_timeout_seconds": 20})
    async with serving(hasty) as app, aio.insecure_channel(app.address) as channel:
        blocker = await asyncpg.connect(settings.dsn)
        await blocker.execute("BEGIN; LOCK TABLE telemetry_events IN ACCESS EXCLUSIVE MODE")
        found = await failure(EventServiceStub(channel).ListEvents(listing()))
        # The lock is gone with the answer, not when the session's end is noticed.
        await blocker.execute("ROLLBACK")
        await blocker.close()
        wanted = expected(StatusCode.RESOURCE_EXHAUSTED, "QUERY_TOO_EXPENSIVE")
        assert summary(found) == wanted
        assert not (await EventServiceStub(channel).ListEvents(listing())).events


def test_error_internal() -> None:
    """What no table row knows is INTERNAL with a constant text: its own may tell too much."""
    code, text, _ = status_of(RuntimeError("a password"))
    assert (code, text) == (StatusCode.INTERNAL, INTERNAL_TEXT)


async def test_error_overloaded(settings: Settings, serving: Serving, connection: Any) -> None:
    """A held flush keeps all of a small budget; the next call finds no room within its wait."""
    small = settings.model_copy(update={"admitted_bytes": 64, "unary_wait_seconds": 0.3})
    large = TelemetryRecords(
        events=[Event(event_type=EventType.EVENT_TYPE_USER_ACTION, event_name="x" * 200)]
    )
    async with serving(small) as app, aio.insecure_channel(app.address) as channel:
        stub = IngestServiceStub(channel)
        lock = await _lock_events(connection)
        # A stream's batch is patient: it keeps the budget while the call behind it gives up.
        answered = asyncio.Event()

        async def sent() -> AsyncIterator[StreamTelemetryRequest]:
            yield hello()
            yield StreamTelemetryRequest(batch=TelemetryBatch(sequence=1, records=large))
            await answered.wait()

        async def stream() -> int:
            answers = [answer async for answer in stub.StreamTelemetry(sent())]
            return answers[-1].ack.committed.accepted_count

        held = asyncio.create_task(stream())
        await _flush_waits(connection)
        found = await failure(stub.IngestTelemetry(IngestTelemetryRequest(records=large)))
        assert summary(found) == expected(StatusCode.RESOURCE_EXHAUSTED, "OVERLOADED")
        assert found.retry_after_seconds is not None
        assert found.retry_after_seconds <= 2.0
        await lock.rollback()
        answered.set()
        assert await held == 1


async def test_error_database_unavailable(
    settings: Settings, serving: Serving, connection: Any
) -> None:
    """Nothing can be committed for a unary call's wait: it is told so, and when to retry."""
    hasty = settings.model_copy(update={"unary_wait_seconds": 0.3})
    async with serving(hasty) as app, aio.insecure_channel(app.address) as channel:
        lock = await _lock_events(connection)
        call = IngestServiceStub(channel).IngestTelemetry(IngestTelemetryRequest(records=records()))
        found = await failure(call)
        assert summary(found) == expected(StatusCode.UNAVAILABLE, "DATABASE_UNAVAILABLE")
        assert found.retry_after_seconds is not None
        assert found.retry_after_seconds <= 2.0
        await lock.rollback()
