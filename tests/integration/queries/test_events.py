"""ListEvents: what comes out, in which order, under which filter."""

from __future__ import annotations

import json
from datetime import datetime, timedelta
from typing import Any
from uuid import uuid4

import pytest

from fernando.telemetry.v1 import Event, EventType, ListEventsRequest
from fernando_telemetry.domain.filter_columns import EVENT_COLUMNS, ColumnType
from fernando_telemetry.transport.event_servicer import EventService
from tests.integration.queries.rows import copy, day, event, range_of, walk

SECOND = timedelta(seconds=1)


async def names(events: EventService, today: datetime, text: str, **arguments: Any) -> list[str]:
    request = ListEventsRequest(time_range=day(today), filter=text, **arguments)
    return [found.event_name for found in await walk(events.ListEvents, request, "events")]


async def test_a_full_event_comes_back(
    events: EventService, connection: Any, today: datetime
) -> None:
    time = today + timedelta(hours=3, microseconds=123_456)
    row = event(
        time,
        event_type="performance_event",
        event_name="render",
        event_category="web",
        user_id="u1",
        license_id="l1",
        session_id="s1",
        event_data='{"b": [1, 2.50, "é"], "a": null}',
        tags=["x", "y"],
        duration_ms=12.5,
        source="app",
        source_ip="2001:db8::1",
        source_version="1.2",
        user_agent="curl",
        trace_id="0" * 31 + "a",
        span_id="0" * 15 + "b",
        ingested_at=time + SECOND,
    )
    await copy(connection, "telemetry_events", [row])
    response = await events.ListEvents(ListEventsRequest(time_range=day(today)), None)
    assert response.next_page_token == ""
    (found,) = response.events
    assert (
        found.event_timestamp.ToMicroseconds() == int(today.timestamp() + 10_800) * 10**6 + 123_456
    )
    assert found.ingested_at.ToMicroseconds() - found.event_timestamp.ToMicroseconds() == 10**6
    assert found.event_type == EventType.EVENT_TYPE_PERFORMANCE_EVENT
    assert found.event_id == str(row["event_id"])
    assert json.loads(found.event_data) == {"a": None, "b": [1, 2.5, "é"]}
    assert "2.50" in found.event_data  # jsonb keeps the digits
    assert list(found.tags) == ["x", "y"]
    assert found.source_ip == "2001:db8::1"
    assert found.duration_ms == 12.5
    for column in EVENT_COLUMNS.values():
        if column.type is ColumnType.TEXT:
            assert getattr(found, column.name) == row[column.name]
    assert (found.trace_id, found.span_id) == (row["trace_id"], row["span_id"])


async def test_null_is_empty_or_unset(
    events: EventService, connection: Any, today: datetime
) -> None:
    row = event(today)
    await copy(connection, "telemetry_events", [row])
    response = await events.ListEvents(ListEventsRequest(time_range=day(today)), None)
    expected = Event(
        event_type=EventType.EVENT_TYPE_USER_ACTION,
        event_name="login",
        event_id=str(row["event_id"]),
        event_timestamp=response.events[0].event_timestamp,
        ingested_at=response.events[0].ingested_at,
    )
    assert response.events[0] == expected
    assert not response.events[0].HasField("duration_ms")


async def test_order_and_half_open_range(
    events: EventService, connection: Any, today: datetime
) -> None:
    times = [today + SECOND * second for second in range(5)]
    await copy(
        connection,
        "telemetry_events",
        [event(time, event_name=str(place)) for place, time in enumerate(times)],
    )
    wanted = range_of(times[1], times[4])
    for order_by, expected in (
        ("", ["3", "2", "1"]),
        ("event_timestamp desc", ["3", "2", "1"]),
        ("event_timestamp", ["1", "2", "3"]),
    ):
        request = ListEventsRequest(time_range=wanted, order_by=order_by, page_size=2)
        found = await walk(events.ListEvents, request, "events")
        assert [one.event_name for one in found] == expected


@pytest.fixture
async def variety(connection: Any, today: datetime) -> None:
    rows = [
        event(today, event_name="anna", user_id="anna", duration_ms=1.0, source_ip="10.0.0.1"),
        event(
            today + SECOND,
            event_name="bob",
            user_id="bob",
            duration_ms=2.0,
            event_type="error_event",
            trace_id="0" * 31 + "a",
        ),
        event(today + 2 * SECOND, event_name="Carl", user_id="Carl", duration_ms=-0.5),
        event(today + 3 * SECOND, event_name="nobody"),
    ]
    optional = {"user_id": None, "duration_ms": None, "source_ip": None, "trace_id": None}
    await copy(connection, "telemetry_events", [optional | row for row in rows])


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("user_id = anna", ["anna"]),
        ("user_id != anna", ["nobody", "Carl", "bob"]),
        ('user_id = ""', ["nobody"]),
        ('user_id != ""', ["Carl", "bob", "anna"]),
        # Bytes decide, not a language: upper case comes before lower case.
        ("user_id < anna", ["Carl"]),
        ("user_id >= anna", ["bob", "anna"]),
        ("duration_ms > 0 AND duration_ms <= 2", ["bob", "anna"]),
        ("duration_ms != 1", ["nobody", "Carl", "bob"]),
        ("event_type = error_event", ["bob"]),
        ("event_type != error_event", ["nobody", "Carl", "anna"]),
        ("source_ip = 10.0.0.1", ["anna"]),
        ("source_ip != 10.0.0.1", ["nobody", "Carl", "bob"]),
        ("trace_id = 000000000000000A", ["bob"]),
        ("event_name = anna AND user_id = bob", []),
        ("event_name = 'ann_' AND user_id = '%'", []),
    ],
)
@pytest.mark.usefixtures("variety")
async def test_filters(
    events: EventService, today: datetime, text: str, expected: list[str]
) -> None:
    assert await names(events, today, text, page_size=1) == expected


@pytest.mark.usefixtures("variety")
async def test_time_filters_cut_the_range(events: EventService, today: datetime) -> None:
    border = (today + SECOND).isoformat()
    assert await names(events, today, f'event_timestamp > "{border}"') == ["nobody", "Carl"]
    assert await names(events, today, f"event_timestamp <= {border}") == ["bob", "anna"]


@pytest.mark.usefixtures("variety")
async def test_one_event_by_its_id(events: EventService, connection: Any, today: datetime) -> None:
    row = event(today + SECOND, event_name="wanted")
    await copy(connection, "telemetry_events", [row])
    assert await names(events, today, f'event_id = "{row["event_id"]}"') == ["wanted"]
    assert await names(events, today, f'event_id = "{uuid4()}"') == []


HOSTILE = (
    "1=1 OR 1=1",
    "' OR ''='",
    "x'; DROP TABLE telemetry_events; --",
    "$1",
    "%s",
    "/* */",
    "\\x00",
    "a\\'b",
    '"',
    "\u202e",
    "\U0001f600",
    "{}",
    "NULL",
    "pg_sleep(10)",
)


@pytest.mark.parametrize("value", HOSTILE)
async def test_what_looks_like_sql_is_a_value(
    events: EventService, connection: Any, today: datetime, value: str
) -> None:
    rows = [event(today, event_name="hit", user_id=value), event(today, user_id="other")]
    await copy(connection, "telemetry_events", rows)
    quoted = '"' + value.replace("\\", "\\\\").replace('"', '\\"') + '"'
    assert await names(events, today, f"user_id = {quoted}") == ["hit"]
    assert await names(events, today, f"user_id != {quoted}") == ["login"]
    assert await connection.fetchval("SELECT count(*) FROM telemetry_events") == 2
