"""CleanUpTelemetry, and pages and cursors that point at what it took."""

from __future__ import annotations

import asyncio
from datetime import UTC, datetime, timedelta
from typing import Any

import asyncpg
import pytest
from grpc import StatusCode, aio

from fernando.telemetry import v1
from fernando_telemetry.settings import Settings
from fernando_telemetry.storage import clean_up
from fernando_telemetry.storage.sessions import ControlPool
from tests.integration.ingest.locks import becomes
from tests.integration.ingest.test_retention_terms import set_days
from tests.integration.storage.retained_rows import ROWS, add_rows, ago, left
from tests.integration.transport.failures import failure

EVENTS = "telemetry_events"
EVENT = v1.RecordKind.RECORD_KIND_EVENT
SAMPLE = v1.RecordKind.RECORD_KIND_SYSTEM_METRIC
WAITS = """
SELECT count(*) > 0 FROM pg_stat_activity
WHERE application_name = 'fernando-telemetry clean-up' AND datname = current_database()
"""
DRY = v1.CleanUpTelemetryRequest(dry_run=True)
REAL = v1.CleanUpTelemetryRequest()


@pytest.fixture
def settings(settings: Settings) -> Settings:
    """Nothing goes by itself."""
    return settings.model_copy(update={"retention_interval_seconds": 0})


@pytest.fixture
def admin(channel: aio.Channel) -> Any:
    return v1.AdminServiceStub(channel)


async def test_a_dry_run_tells_what_then_goes(
    admin: Any, channel: aio.Channel, control: ControlPool, connection: Any
) -> None:
    await add_rows(control, connection, EVENTS, ["", "acme", "ever"], [1, 20, 100])
    await set_days(channel, EVENT, 90)
    await set_days(channel, EVENT, 10, "acme")
    await set_days(channel, SAMPLE, 0, "ever")
    would = (await admin.CleanUpTelemetry(DRY)).results
    assert len(await left(connection, EVENTS)) == 9
    of_events = [
        (one.license_id, one.partitions, one.rows, one.older_than.ToDatetime(tzinfo=UTC))
        for one in would
        if one.kind == EVENT
    ]
    assert of_events == [("", 1, 0, ago(90)), ("acme", 0, ROWS, ago(10))]
    assert would[0].partition_bytes > 0
    # What is for ever has no entry.
    assert [(one.kind, one.license_id) for one in would[2:]] == [(2, ""), (3, ""), (4, "")]
    assert (await admin.CleanUpTelemetry(REAL)).results == would
    assert await left(connection, EVENTS) == {
        *(("", 1), ("", 20), ("acme", 1), ("ever", 1), ("ever", 20)),
    }
    again = (await admin.CleanUpTelemetry(REAL)).results
    assert not any(one.partitions or one.rows for one in again)


async def test_what_is_being_read_is_said(
    admin: Any,
    control: ControlPool,
    connection: Any,
    database: str,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(clean_up, "DROP_ATTEMPTS", 1)
    await add_rows(control, connection, EVENTS, [""], [1, 100])
    reading = await asyncpg.connect(database)
    await reading.execute(f"BEGIN; SELECT count(*) FROM {EVENTS}")
    found = await failure(admin.CleanUpTelemetry(REAL))
    assert (found.code, found.reason) == (StatusCode.UNAVAILABLE, "DATABASE_UNAVAILABLE")
    assert found.retry_after_seconds is not None
    await reading.close()
    results = (await admin.CleanUpTelemetry(REAL)).results
    assert sum(one.partitions for one in results) == 1


async def test_a_call_that_is_broken_off_lets_the_next_one_in(
    admin: Any, control: ControlPool, connection: Any, database: str
) -> None:
    await add_rows(control, connection, EVENTS, [""], [100])
    holding = await asyncpg.connect(database)
    assert await holding.fetchval(clean_up.sql.try_lock)
    waiting = admin.CleanUpTelemetry(REAL)
    await becomes(connection, WAITS, value=True)
    waiting.cancel()
    with pytest.raises(asyncio.CancelledError):
        await waiting
    await holding.close()
    assert (await admin.CleanUpTelemetry(REAL)).results[0].partitions == 1


@pytest.mark.parametrize("order", ["event_timestamp desc", "event_timestamp"])
async def test_a_page_token_into_what_went_goes_on_with_what_is_left(
    admin: Any, channel: aio.Channel, control: ControlPool, connection: Any, order: str
) -> None:
    await add_rows(control, connection, EVENTS, [""], [1, 50, 80, 85])
    events: Any = v1.EventServiceStub(channel)
    end = datetime.now(UTC)
    request = v1.ListEventsRequest(page_size=2 * ROWS + 2, order_by=order)
    request.time_range.start_time.FromDatetime(end - timedelta(days=89))
    request.time_range.end_time.FromDatetime(end)
    first = await events.ListEvents(request)
    assert len(first.events) == 2 * ROWS + 2
    # The page ended within the day of 80, or of 50, days ago, which goes.
    await set_days(channel, EVENT, 30)
    await admin.CleanUpTelemetry(REAL)
    request.page_token = first.next_page_token
    rest = await events.ListEvents(request)
    days = {one.event_timestamp.ToDatetime(tzinfo=UTC).date() for one in rest.events}
    assert days == ({ago(1).date()} if order == "event_timestamp" else set())
    assert len(rest.events) == (ROWS if days else 0)
    assert rest.next_page_token == ""
