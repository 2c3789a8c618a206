"""SearchTraces."""

from __future__ import annotations

import random
from datetime import datetime, timedelta
from typing import Any

import pytest

from fernando.telemetry.v1 import SearchTracesRequest, TraceSummary
from fernando_telemetry.domain.errors import (
    InvalidField,
    InvalidFilter,
    InvalidPageToken,
    InvalidTimeRange,
    QueryTooExpensive,
)
from fernando_telemetry.queries.traces import TraceQueries
from fernando_telemetry.storage.snapshots import Snapshots
from fernando_telemetry.storage.trace_search import MOST_SPANS_WALKED
from fernando_telemetry.transport.trace_servicer import TraceService
from tests.integration.queries.rows import copy, day, range_of, span, walk

SECOND = timedelta(seconds=1)
MILLISECOND = timedelta(milliseconds=1)
HOUR = timedelta(hours=1)
OPTIONAL: dict[str, Any] = dict.fromkeys(
    ("parent_span_id", "operation_name", "duration_ms", "status"), None
)


def number(summary: TraceSummary) -> int:
    return int(summary.trace_id, 16)


@pytest.fixture
async def stored(connection: Any, today: datetime) -> None:
    """Traces 1, 2 and 3 begin a second apart; 4 begins with 3; each has a slower later span."""
    rows = []
    for trace in (1, 2, 3, 4):
        start = today + min(trace, 3) * SECOND
        rows += [
            span(trace, 1, start, 2 * trace, operation_name="checkout", duration_ms=10.0),
            span(
                *(trace, 2, start + 20 * SECOND, 2 * trace + 1),
                parent_span_id="0" * 15 + "1",
                service_name="db" if trace != 2 else "cache",
                duration_ms=100.0 * trace,
                status="error" if trace == 3 else None,
            ),
        ]
    rows.append(span(3, 7, today + 4 * SECOND, 90, parent_span_id="f" * 16, service_name="db"))
    await copy(connection, "traces", [OPTIONAL | row for row in rows])


@pytest.mark.usefixtures("stored")
async def test_traces_come_by_their_earliest_span_then_by_id(
    traces: TraceService, today: datetime
) -> None:
    for page_size in (0, 1, 3):
        for order_by, wanted in (
            ("", [4, 3, 2, 1]),
            ("start_time desc", [4, 3, 2, 1]),
            ("start_time", [1, 2, 3, 4]),
        ):
            request = SearchTracesRequest(
                time_range=day(today), page_size=page_size, order_by=order_by
            )
            found = await walk(traces.SearchTraces, request, "traces")
            assert [number(one) for one in found] == wanted


@pytest.mark.usefixtures("stored")
async def test_a_trace_is_summed_up_with_spans_that_do_not_match(
    traces: TraceService, today: datetime
) -> None:
    request = SearchTracesRequest(time_range=day(today), filter="status = error")
    (found,) = (await traces.SearchTraces(request, None)).traces
    assert number(found) == 3
    assert (found.root_service_name, found.root_operation_name) == ("shop", "checkout")
    assert (found.span_count, found.error_count, found.orphan_count) == (3, 1, 1)
    assert dict(found.spans_by_service) == {"shop": 1, "db": 2}
    assert found.start_time.ToMicroseconds() == int(today.timestamp() + 3) * 10**6
    assert found.duration_ms == 20_300.0


@pytest.mark.usefixtures("stored")
@pytest.mark.parametrize(
    ("text", "wanted"),
    [
        ('service_name = "db"', [4, 3, 1]),
        ('service_name = "cache"', [2]),
        ("operation_name = checkout AND duration_ms < 50", [4, 3, 2, 1]),
        ("duration_ms >= 200 AND duration_ms < 400", [3, 2]),
        # One span has to match all of it: no span is both.
        ("operation_name = checkout AND status = error", []),
        ("service_name = \"x' OR '1'='1\"", []),
    ],
)
async def test_one_span_has_to_match_the_whole_filter(
    traces: TraceService, today: datetime, text: str, wanted: list[int]
) -> None:
    request = SearchTracesRequest(time_range=day(today), filter=text, page_size=1)
    found = await walk(traces.SearchTraces, request, "traces")
    assert [number(one) for one in found] == wanted


@pytest.mark.usefixtures("stored")
async def test_only_spans_that_start_in_the_range_count(
    traces: TraceService, today: datetime
) -> None:
    late = range_of(today + 10 * SECOND, today + 60 * SECOND)
    found = (await traces.SearchTraces(SearchTracesRequest(time_range=late), None)).traces
    assert [number(one) for one in found] == [4, 3, 2, 1]
    # The parent is outside of the range, so that it is not known here.
    assert {(one.span_count, one.orphan_count, one.root_service_name) for one in found} == {
        (1, 1, "")
    }


@pytest.mark.usefixtures("stored")
async def test_traces_stored_between_two_pages_shift_nothing(
    traces: TraceService, connection: Any, today: datetime
) -> None:
    added = iter(range(100, 200))

    async def store() -> None:
        one = next(added)
        newer = today + 600 * SECOND
        await copy(connection, "traces", [span(one, 1, newer, one, flush_id=2 << 40)])

    request = SearchTracesRequest(time_range=day(today), page_size=1)
    found = await walk(traces.SearchTraces, request, "traces", store)
    assert [number(one) for one in found] == [4, 3, 2, 1]


async def test_pages_are_the_traces_in_order_whatever_their_spans(
    traces: TraceService, connection: Any, today: datetime
) -> None:
    chance = random.Random(20_260_517)
    rows: list[dict[str, Any]] = []
    for trace in range(1, 301):
        start = chance.randrange(3_000)
        # Up to an hour between spans, and many at the same moment.
        rows += [
            span(
                *(trace, one, today + (start + chance.choice((0, 1, 60, 3600)) * one) * SECOND),
                len(rows) + one,
                service_name=chance.choice(("shop", "shop", "db")),
            )
            for one in range(chance.randrange(1, 9))
        ]
    await copy(connection, "traces", rows)
    for text in ("", 'service_name = "db"'):
        matching = {row["trace_id"] for row in rows if not text or row["service_name"] == "db"}
        wanted = sorted(
            (min(row["start_time"] for row in rows if row["trace_id"] == one), one)
            for one in matching
        )
        for order_by, ordered in (("start_time desc", wanted[::-1]), ("start_time", wanted)):
            request = SearchTracesRequest(
                time_range=day(today), filter=text, page_size=23, order_by=order_by
            )
            found = await walk(traces.SearchTraces, request, "traces")
            assert [one.trace_id for one in found] == [one for _, one in ordered]


async def test_a_trace_of_many_spans_does_not_hide_those_before_it(
    traces: TraceService, connection: Any, today: datetime
) -> None:
    many = MOST_SPANS_WALKED + 10
    rows = [span(9, one, today + HOUR + one * MILLISECOND, one) for one in range(many)]
    rows += [span(one, 1, today + one * SECOND, many + one) for one in (1, 2, 3)]
    # Its earliest span matches nothing, and lies before all others.
    rows.append(span(9, many, today, many + 4, service_name="other"))
    await copy(connection, "traces", rows)
    for page_size in (1, 100):
        request = SearchTracesRequest(
            time_range=day(today), filter="service_name = shop", page_size=page_size
        )
        found = await walk(traces.SearchTraces, request, "traces")
        assert [number(one) for one in found] == [3, 2, 1, 9]


@pytest.mark.usefixtures("stored")
async def test_more_spans_than_the_budget_are_refused(
    snapshots: Snapshots, today: datetime
) -> None:
    for budget, allowed in ((8, False), (9, True)):
        service = TraceService(TraceQueries(snapshots, budget))
        # The newest are found without reading all.
        request = SearchTracesRequest(time_range=day(today))
        assert len((await service.SearchTraces(request, None)).traces) == 4
        request.order_by = "start_time"
        if allowed:
            assert len((await service.SearchTraces(request, None)).traces) == 4
        else:
            with pytest.raises(QueryTooExpensive, match="More than 8 spans match"):
                await service.SearchTraces(request, None)
        # What the filter leaves is what counts.
        request.filter = 'service_name = "cache"'
        assert len((await service.SearchTraces(request, None)).traces) == 1


@pytest.mark.usefixtures("stored")
async def test_search_refusals(traces: TraceService, today: datetime) -> None:
    good: dict[str, Any] = {"time_range": day(today)}
    token = (
        await traces.SearchTraces(SearchTracesRequest(**good, page_size=1), None)
    ).next_page_token
    for request, error in (
        (SearchTracesRequest(), InvalidTimeRange),
        (SearchTracesRequest(**good, filter="colour = red"), InvalidFilter),
        (SearchTracesRequest(**good, order_by="duration_ms"), InvalidField),
        (SearchTracesRequest(**good, page_size=-1), InvalidField),
        (SearchTracesRequest(**good, min_commit_token="1=1"), InvalidField),
        (SearchTracesRequest(**good, page_token="x" + token[1:]), InvalidPageToken),
        (
            SearchTracesRequest(**good, page_token=token, filter='service_name = "db"'),
            InvalidPageToken,
        ),
    ):
        with pytest.raises(error):
            await traces.SearchTraces(request, None)
