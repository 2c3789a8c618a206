"""ListSpans and GetTrace."""

from __future__ import annotations

import json
from datetime import datetime, timedelta
from typing import Any

import pytest

from fernando.telemetry.v1 import (
    GetTraceRequest,
    ListSpansRequest,
    Span,
    SpanEvent,
    SpanFlag,
    SpanKind,
    SpanLink,
    SpanStatus,
    TimeRange,
    TraceSpan,
)
from fernando_telemetry.domain.errors import (
    CommitTokenNotReached,
    InvalidField,
    InvalidPageToken,
    InvalidTimeRange,
    NotFound,
    QueryTooExpensive,
)
from fernando_telemetry.domain.filter_columns import SPAN_COLUMNS, ColumnType
from fernando_telemetry.queries.traces import SMALL_TRACE_SPANS, TraceQueries
from fernando_telemetry.storage.snapshots import Snapshots
from fernando_telemetry.transport.trace_servicer import TraceService
from tests.integration.queries.rows import FLUSH, copy, day, range_of, span, walk

SECOND = timedelta(seconds=1)
OPTIONAL: dict[str, Any] = dict.fromkeys(
    ("parent_span_id", "operation_name", "duration_ms", "status"), None
)


async def test_a_full_span_comes_back(
    traces: TraceService, connection: Any, today: datetime
) -> None:
    moment = today + timedelta(microseconds=5)
    row = span(
        10,
        11,
        today,
        0,
        parent_span_id="0" * 15 + "9",
        operation_name="GET /",
        kind="server",
        duration_ms=1.25,
        status="error",
        error_message="boom",
        http_method="GET",
        http_url="https://example.org/",
        http_status_code=0,
        user_id="u1",
        license_id="l1",
        session_id="s1",
        host_name="h1",
        instance_id="i1",
        service_version="1",
        trace_state="a=b",
        tags='{"k": "v"}',
        events=json.dumps(
            [
                {"name": "started", "time": moment.isoformat(), "attributes": {"x": "y"}},
                {"name": "untimed"},
            ]
        ),
        links=json.dumps([{"trace_id": "0" * 31 + "c", "span_id": "0" * 15 + "d"}]),
    )
    await copy(connection, "traces", [row])
    (found,) = (await traces.ListSpans(ListSpansRequest(time_range=day(today)), None)).spans
    expected = Span(
        trace_id="0" * 31 + "a",
        span_id="0" * 15 + "b",
        service_name="shop",
        kind=SpanKind.SPAN_KIND_SERVER,
        status=SpanStatus.SPAN_STATUS_ERROR,
        http_status_code=0,
        tags={"k": "v"},
        events=[SpanEvent(name="started", attributes={"x": "y"}), SpanEvent(name="untimed")],
        links=[SpanLink(trace_id="0" * 31 + "c", span_id="0" * 15 + "d")],
        **{
            column.name: row[column.name]
            for column in SPAN_COLUMNS.values()
            if column.type is ColumnType.TEXT and column.name != "service_name"
        },
        parent_span_id="0" * 15 + "9",
        duration_ms=1.25,
    )
    expected.start_time.FromDatetime(today)
    expected.ingested_at.FromDatetime(today)
    expected.events[0].time.FromDatetime(moment)
    assert found == expected


async def test_spans_that_share_an_id_are_all_given(
    traces: TraceService, connection: Any, today: datetime
) -> None:
    rows = [span(1, 1, today, ordinal, service_name=f"s{ordinal}") for ordinal in range(5)]
    rows += [span(1, 1, today, 0, service_name="later flush", flush_id=2 << 40)]
    await copy(connection, "traces", rows)
    for order_by in ("", "start_time"):
        request = ListSpansRequest(time_range=day(today), page_size=2, order_by=order_by)
        found = await walk(traces.ListSpans, request, "spans")
        assert len(found) == 6
        assert {one.service_name for one in found} == {row["service_name"] for row in rows}


@pytest.fixture
async def trace(connection: Any, today: datetime) -> None:
    rows = [
        # An orphan begins first; the root is the earliest span without a parent.
        span(26, 5, today, 0, parent_span_id="f" * 16, service_name="queue"),
        span(26, 1, today + SECOND, 1, operation_name="checkout", duration_ms=2_500.25),
        span(26, 2, today + SECOND, 2, parent_span_id="0" * 15 + "1", status="error"),
        span(26, 9, today + 2 * SECOND, 3, operation_name="second root"),
        span(27, 1, today, 4),
    ]
    await copy(connection, "traces", [OPTIONAL | row for row in rows])


@pytest.mark.usefixtures("trace")
@pytest.mark.parametrize("given_id", ["0" * 30 + "1a", "0" * 30 + "1A", "000000000000001A"])
@pytest.mark.parametrize("hinted", [False, True])
async def test_get_trace(
    traces: TraceService, today: datetime, given_id: str, hinted: bool
) -> None:
    request = GetTraceRequest(
        trace_id=given_id, page_size=3, time_range=day(today) if hinted else None
    )
    first = await traces.GetTrace(request, None)
    summary = first.summary
    assert summary.trace_id == "0" * 30 + "1a"
    assert (summary.span_count, summary.error_count) == (4, 1)
    assert (summary.root_service_name, summary.root_operation_name) == ("shop", "checkout")
    assert summary.start_time.ToMicroseconds() == int(today.timestamp()) * 10**6
    assert summary.duration_ms == 3_500.25
    assert dict(summary.spans_by_service) == {"queue": 1, "shop": 3}
    request.page_token = first.next_page_token
    second = await traces.GetTrace(request, None)
    assert second.summary == summary
    assert second.next_page_token == ""
    spans: list[TraceSpan] = [*first.spans, *second.spans]
    assert [int(one.span.span_id, 16) for one in spans] == [5, 1, 2, 9]


@pytest.mark.usefixtures("trace")
async def test_get_trace_refusals(traces: TraceService, today: datetime) -> None:
    request = GetTraceRequest(trace_id="0" * 30 + "1a", page_size=1)
    token = (await traces.GetTrace(request, None)).next_page_token
    for other in (
        GetTraceRequest(trace_id="0" * 30 + "1b", page_token=token),
        GetTraceRequest(trace_id="0" * 30 + "1a", time_range=day(today), page_token=token),
    ):
        with pytest.raises(InvalidPageToken):
            await traces.GetTrace(other, None)
    with pytest.raises(NotFound):
        await traces.GetTrace(GetTraceRequest(trace_id="0" * 31 + "1"), None)
    outside = range_of(today + 3 * SECOND, today + 4 * SECOND)
    with pytest.raises(NotFound):
        await traces.GetTrace(GetTraceRequest(trace_id="0" * 30 + "1a", time_range=outside), None)
    for bad in ("", "1a", "x" * 32, "0" * 32, "'" * 16, "0" * 33, "1a" * 8 + "\0"):
        with pytest.raises(InvalidField) as caught:
            await traces.GetTrace(GetTraceRequest(trace_id=bad), None)
        assert caught.value.field == "trace_id"
    half = TimeRange(start_time=day(today).start_time)
    with pytest.raises(InvalidTimeRange):
        await traces.GetTrace(GetTraceRequest(trace_id="0" * 30 + "1a", time_range=half), None)


async def test_get_trace_gives_the_tree_in_its_order(
    traces: TraceService, connection: Any, today: datetime
) -> None:
    today += timedelta(minutes=5)
    rows = [
        span(26, 4, today, 0, parent_span_id="e" * 16, service_name="queue"),
        span(26, 1, today + SECOND, 1, kind="client", duration_ms=1_000.0, host_name="h1"),
        span(
            *(26, 1, today - 60 * SECOND, 2),
            kind="server",
            service_name="db",
            duration_ms=400.0,
            host_name="h2",
        ),
        span(26, 3, today + 2 * SECOND, 3, parent_span_id="0" * 15 + "3"),
    ]
    optional: dict[str, Any] = dict.fromkeys(("parent_span_id", "kind", "duration_ms", "host_name"))
    await copy(connection, "traces", [optional | row for row in rows])
    found = (await traces.GetTrace(GetTraceRequest(trace_id=rows[0]["trace_id"]), None)).spans
    assert [
        (
            one.span.service_name,
            one.depth,
            [SpanFlag.Name(flag).removeprefix("SPAN_FLAG_") for flag in one.flags],
            one.self_time_ms,
            one.clock_skew_ms if one.HasField("clock_skew_ms") else None,
        )
        for one in found
    ] == [
        ("queue", 0, ["ORPHAN"], 0.0, None),
        ("shop", 0, ["SHARED_ID", "CRITICAL_PATH"], 600.0, None),
        ("db", 1, ["SHARED_ID", "CLOCK_SKEW", "CRITICAL_PATH"], 400.0, -61_300.0),
        ("shop", 0, ["PARENT_CYCLE"], 0.0, None),
    ]
    # The times are those that were sent.
    assert {one.span.start_time.ToMicroseconds() for one in found} == {
        round(row["start_time"].timestamp() * 10**6) for row in rows
    }


async def test_later_pages_show_the_trace_as_the_first_one_saw_it(
    traces: TraceService, connection: Any, today: datetime
) -> None:
    rows = [span(26, n, today + n * SECOND, n, duration_ms=1.0) for n in range(1, 7)]
    await copy(connection, "traces", rows)
    later = iter(range(10, 100))

    async def store() -> None:
        number = next(later)
        # Before all others, of a later flush of the same lane and of a lane that is new.
        added = [
            span(26, number, today, number, flush_id=FLUSH + number),
            span(26, number, today, number, flush_id=number << 40, parent_span_id=f"{1:016x}"),
        ]
        for row in added:
            await copy(connection, "traces", [row])

    request = GetTraceRequest(trace_id=rows[0]["trace_id"], page_size=2)
    found = await walk(traces.GetTrace, request, "spans", store)
    assert [int(one.span.span_id, 16) for one in found] == [1, 2, 3, 4, 5, 6]
    summary = (await traces.GetTrace(request, None)).summary
    assert (summary.span_count, summary.duration_ms) == (6, 5_001.0)
    # A first page sees all there is by now.
    request.page_token = ""
    assert (await traces.GetTrace(request, None)).summary.span_count == 10


async def test_spans_missing_from_a_later_page_are_told_of(
    traces: TraceService, connection: Any, today: datetime
) -> None:
    await copy(connection, "traces", [span(26, n, today, n) for n in range(1, 4)])
    request = GetTraceRequest(trace_id=f"{26:032x}", page_size=1)
    request.page_token = (await traces.GetTrace(request, None)).next_page_token
    await connection.execute("DELETE FROM traces WHERE ordinal = 3")
    # Nothing here says that the flush has shown: as on a replica that is behind.
    with pytest.raises(CommitTokenNotReached):
        await traces.GetTrace(request, None)
    await connection.execute(
        "INSERT INTO lanes (lane, last_number, pruned_through) VALUES (1, 0, 0)"
    )
    with pytest.raises(InvalidPageToken, match="dropped meanwhile"):
        await traces.GetTrace(request, None)


async def test_pages_of_a_large_trace_are_the_same_from_any_server(
    snapshots: Snapshots, connection: Any, today: datetime
) -> None:
    # Kept from page to page by the server that is asked, put together anew by the other one.
    count = 2 * SMALL_TRACE_SPANS
    await copy(connection, "traces", [span(26, n, today + n * SECOND, n) for n in range(count)])
    servers = [TraceService(TraceQueries(snapshots)) for _ in range(2)]
    request = GetTraceRequest(trace_id=f"{26:032x}", page_size=50)
    found: list[str] = []
    for page in range(count // 50):
        answers = [await server.GetTrace(request, None) for server in servers[: 1 + page % 2]]
        assert all(answer == answers[0] for answer in answers)
        assert answers[0].summary.span_count == count
        found += [one.span.span_id for one in answers[0].spans]
        request.page_token = answers[0].next_page_token
        new = span(26, count + page, today, count + page, flush_id=FLUSH + 1 + page)
        await copy(connection, "traces", [new])
    assert found == [f"{n:016x}" for n in range(count)]
    assert not request.page_token


async def test_spans_missing_from_a_page_of_a_kept_trace_are_told_of(
    traces: TraceService, connection: Any, today: datetime
) -> None:
    count = 2 * SMALL_TRACE_SPANS
    await copy(connection, "traces", [span(26, n, today + n * SECOND, n) for n in range(count)])
    request = GetTraceRequest(trace_id=f"{26:032x}", page_size=50)
    request.page_token = (await traces.GetTrace(request, None)).next_page_token
    # What is on no page that is still to come is not missed.
    await connection.execute("DELETE FROM traces WHERE ordinal = 3 OR ordinal = 120")
    second = await traces.GetTrace(request, None)
    assert [one.span.span_id for one in second.spans] == [f"{n:016x}" for n in range(50, 100)]
    request.page_token = second.next_page_token
    with pytest.raises(CommitTokenNotReached):
        await traces.GetTrace(request, None)
    await connection.execute(
        "INSERT INTO lanes (lane, last_number, pruned_through) VALUES (1, 0, 0)"
    )
    with pytest.raises(InvalidPageToken, match="dropped meanwhile"):
        await traces.GetTrace(request, None)


async def test_a_trace_of_more_spans_than_the_limit_is_refused(
    snapshots: Snapshots, connection: Any, today: datetime
) -> None:
    await copy(connection, "traces", [span(26, n, today, n) for n in range(1, 4)])
    request = GetTraceRequest(trace_id=f"{26:032x}")
    service = TraceService(TraceQueries(snapshots, span_limit=3))
    assert (await service.GetTrace(request, None)).summary.span_count == 3
    service = TraceService(TraceQueries(snapshots, span_limit=2))
    with pytest.raises(QueryTooExpensive, match="more than 2 spans"):
        await service.GetTrace(request, None)


async def test_a_trace_of_a_hundred_thousand_spans_is_read_in_pages(
    traces: TraceService, connection: Any, today: datetime
) -> None:
    count, step = 100_000, timedelta(milliseconds=1)
    root: dict[str, Any] = {"parent_span_id": None}
    rows = [
        root
        | span(26, n, today + n * step, n, **({"parent_span_id": f"{n - 1:016x}"} if n > 1 else {}))
        for n in range(1, count + 1)
    ]
    await copy(connection, "traces", rows)
    request = GetTraceRequest(trace_id=rows[0]["trace_id"], page_size=1_000)
    assert (await traces.GetTrace(request, None)).summary.span_count == count
    found = await walk(traces.GetTrace, request, "spans")
    assert [one.depth for one in found] == list(range(count))
