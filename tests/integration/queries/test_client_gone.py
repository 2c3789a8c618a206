"""A client that goes in mid-query: PostgreSQL is told to stop, and the session is free again."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from typing import Any

import asyncpg
import pytest
from grpc import aio

from fernando.telemetry import v1
from fernando_telemetry.settings import Settings
from tests.conftest import Serving

# Far less than any time-out that would end the query without the client's going.
PATIENCE_SECONDS = 30.0
TIMEOUT_SECONDS = 300.0

_RUNNING = """SELECT query FROM pg_stat_activity
WHERE datname = current_database() AND application_name = 'fernando-telemetry reader'
    AND state = 'active' AND wait_event_type = 'Lock'"""
_READERS = """SELECT count(*) FROM pg_stat_activity
WHERE datname = current_database() AND application_name = 'fernando-telemetry reader'
    AND state <> 'idle'"""


def _range(request: Any) -> Any:
    request.time_range.start_time.FromJsonString("2026-01-01T00:00:00Z")
    request.time_range.end_time.FromJsonString("2026-01-02T00:00:00Z")
    return request


CALLS: dict[str, Callable[[aio.Channel], Awaitable[Any]]] = {
    "ListEvents": lambda channel: v1.EventServiceStub(channel).ListEvents(
        _range(v1.ListEventsRequest())
    ),
    "SummarizeEvents": lambda channel: v1.EventServiceStub(channel).SummarizeEvents(
        _range(v1.SummarizeEventsRequest(exact_unique_counts=True))
    ),
    "ListSystemMetrics": lambda channel: v1.MetricServiceStub(channel).ListSystemMetrics(
        _range(v1.ListSystemMetricsRequest())
    ),
    "ListBusinessMetrics": lambda channel: v1.MetricServiceStub(channel).ListBusinessMetrics(
        _range(v1.ListBusinessMetricsRequest())
    ),
    "ListSpans": lambda channel: v1.TraceServiceStub(channel).ListSpans(
        _range(v1.ListSpansRequest())
    ),
    "SearchTraces": lambda channel: v1.TraceServiceStub(channel).SearchTraces(
        _range(v1.SearchTracesRequest())
    ),
    "GetServiceGraph": lambda channel: v1.TraceServiceStub(channel).GetServiceGraph(
        _range(v1.GetServiceGraphRequest())
    ),
    "GetTrace": lambda channel: v1.TraceServiceStub(channel).GetTrace(
        v1.GetTraceRequest(trace_id="0" * 31 + "1")
    ),
}
TABLES = "telemetry_events, metric_samples, business_metric_versions, traces"


@pytest.mark.parametrize("method", CALLS)
@pytest.mark.parametrize("goes", ["cancels", "closes"])
async def test_the_query_ends_with_its_client(
    settings: Settings, serving: Serving, connection: Any, database: str, method: str, goes: str
) -> None:
    patient = settings.model_copy(
        update={
            "query_timeout_seconds": TIMEOUT_SECONDS,
            "lock_timeout_seconds": TIMEOUT_SECONDS,
            "reader_connections": 1,
        }
    )
    watching = await asyncpg.connect(database)
    async with serving(patient) as app, asyncio.timeout(PATIENCE_SECONDS):
        lock = connection.transaction()
        await lock.start()
        await connection.execute(f"LOCK TABLE {TABLES} IN ACCESS EXCLUSIVE MODE")
        channel = aio.insecure_channel(app.address)
        call: Any = asyncio.ensure_future(CALLS[method](channel))
        while not await watching.fetch(_RUNNING):
            assert not call.done(), call
        if goes == "cancels":
            call.cancel()
        else:
            await channel.close()
        # The table is still locked: nothing but the client's going ends it.
        while await watching.fetchval(_READERS):
            pass
        with pytest.raises(asyncio.CancelledError):
            await call
        await lock.rollback()
        # The only session answers again.
        async with aio.insecure_channel(app.address) as again:
            await v1.EventServiceStub(again).ListEvents(_range(v1.ListEventsRequest()))
        await channel.close()
    await watching.close()
