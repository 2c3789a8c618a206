"""What lists refuse, and with which error; nothing of it reaches PostgreSQL."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from datetime import datetime, timedelta
from typing import Any

import pytest
from google.protobuf.timestamp_pb2 import Timestamp

from fernando.telemetry.v1 import (
    ListBusinessMetricsRequest,
    ListEventsRequest,
    ListSpansRequest,
    ListSystemMetricsRequest,
    SearchTracesRequest,
    TimeRange,
)
from fernando_telemetry.domain.errors import (
    InvalidField,
    InvalidFilter,
    InvalidPageToken,
    InvalidTimeRange,
)
from fernando_telemetry.transport.event_servicer import EventService
from fernando_telemetry.transport.metric_servicer import MetricService
from fernando_telemetry.transport.trace_servicer import TraceService
from tests.integration.queries.rows import copy, day, event, range_of

Lists = dict[type[Any], Callable[[Any, Any], Awaitable[Any]]]
KINDS = (
    ListEventsRequest,
    ListSystemMetricsRequest,
    ListBusinessMetricsRequest,
    ListSpansRequest,
    SearchTracesRequest,
)
EVERY_LIST = pytest.mark.parametrize("kind", KINDS)


@pytest.fixture
def lists(events: EventService, metrics: MetricService, traces: TraceService) -> Lists:
    return {
        ListEventsRequest: events.ListEvents,
        ListSystemMetricsRequest: metrics.ListSystemMetrics,
        ListBusinessMetricsRequest: metrics.ListBusinessMetrics,
        ListSpansRequest: traces.ListSpans,
        SearchTracesRequest: traces.SearchTraces,
    }


@EVERY_LIST
async def test_invalid_time_range(lists: Lists, kind: type[Any], today: datetime) -> None:
    full = day(today)
    reversed_range = range_of(today, today)
    for given, field in (
        (None, "time_range"),
        (TimeRange(), "time_range"),
        (TimeRange(start_time=full.start_time), "time_range.end_time"),
        (TimeRange(end_time=full.end_time), "time_range.start_time"),
        (reversed_range, "time_range.end_time"),
        (range_of(today, today - timedelta(microseconds=1)), "time_range.end_time"),
    ):
        with pytest.raises(InvalidTimeRange, match=field):
            await lists[kind](kind(time_range=given), None)


@EVERY_LIST
@pytest.mark.parametrize(
    ("stamp", "field"),
    [
        (Timestamp(seconds=2**62), "time_range.start_time"),
        (Timestamp(seconds=-(2**62)), "time_range.start_time"),
        (Timestamp(seconds=-62_135_596_801), "time_range.start_time"),
        (Timestamp(seconds=253_402_300_800), "time_range.start_time"),
        (Timestamp(nanos=-1), "time_range.start_time.nanos"),
        (Timestamp(nanos=1_000_000_000), "time_range.start_time.nanos"),
    ],
)
async def test_time_beyond_the_calendar(
    lists: Lists, kind: type[Any], stamp: Timestamp, field: str
) -> None:
    given = TimeRange(start_time=stamp, end_time=Timestamp(seconds=253_402_300_799))
    with pytest.raises(InvalidField) as caught:
        await lists[kind](kind(time_range=given), None)
    assert caught.value.field == field


@EVERY_LIST
async def test_the_whole_calendar_is_a_range(lists: Lists, kind: type[Any]) -> None:
    whole = TimeRange(
        start_time=Timestamp(seconds=-62_135_596_800),
        end_time=Timestamp(seconds=253_402_300_799, nanos=999_999_999),
    )
    await lists[kind](kind(time_range=whole), None)


@EVERY_LIST
async def test_invalid_field(lists: Lists, kind: type[Any], today: datetime) -> None:
    for arguments, field in (
        ({"page_size": -1}, "page_size"),
        ({"order_by": "license_id"}, "order_by"),
        ({"order_by": "1; DROP TABLE telemetry_events"}, "order_by"),
    ):
        with pytest.raises(InvalidField) as caught:
            await lists[kind](kind(time_range=day(today), **arguments), None)
        assert caught.value.field == field


@EVERY_LIST
@pytest.mark.parametrize(
    "text",
    [
        "1=1 OR",
        "license_id = a OR 1=1",
        "license_id = 'a\0'",
        "'",
        "shard = 0",
        "x" * 9000,
    ],
)
async def test_invalid_filter(lists: Lists, kind: type[Any], today: datetime, text: str) -> None:
    with pytest.raises(InvalidFilter):
        await lists[kind](kind(time_range=day(today), filter=text), None)


@EVERY_LIST
@pytest.mark.parametrize("token", ["x", "AAAA", "é", "a" * 5000, "====", "AQ" + "A" * 60, "\x7f"])
async def test_invalid_page_token(
    lists: Lists, kind: type[Any], today: datetime, token: str
) -> None:
    with pytest.raises(InvalidPageToken):
        await lists[kind](kind(time_range=day(today), page_token=token), None)


async def test_page_token_of_other_arguments(
    lists: Lists, events: EventService, connection: Any, today: datetime
) -> None:
    await copy(connection, "telemetry_events", [event(today) for _ in range(3)])
    request = ListEventsRequest(time_range=day(today), page_size=1, filter="license_id = ''")
    token = (await events.ListEvents(request, None)).next_page_token
    same: dict[str, Any] = {
        "time_range": day(today),
        "filter": "license_id = ''",
        "page_token": token,
    }
    await events.ListEvents(ListEventsRequest(**same, page_size=7), None)
    await events.ListEvents(ListEventsRequest(**same, order_by="event_timestamp desc"), None)
    later = range_of(today, today + timedelta(hours=1))
    others: tuple[dict[str, Any], ...] = (
        {"filter": ""},
        {"order_by": "event_timestamp"},
        {"time_range": later},
    )
    for other in others:
        with pytest.raises(InvalidPageToken):
            await events.ListEvents(ListEventsRequest(**(same | other)), None)
    for kind in KINDS[1:]:
        with pytest.raises(InvalidPageToken):
            await lists[kind](kind(**same), None)


@EVERY_LIST
@pytest.mark.parametrize(
    "token", ["t", "1" * 17, "0" * 16, "-" + "1" * 15, "0000010000000000", "8" + "0" * 14 + "1"]
)
async def test_a_damaged_commit_token(
    lists: Lists, kind: type[Any], today: datetime, token: str
) -> None:
    with pytest.raises(InvalidField, match="min_commit_token") as caught:
        await lists[kind](kind(time_range=day(today), min_commit_token=token), None)
    assert caught.value.field == "min_commit_token"
