"""GetServiceGraph."""

from __future__ import annotations

import json
import random
from collections import Counter
from datetime import datetime, timedelta
from typing import Any

import pytest

from fernando.telemetry.v1 import GetServiceGraphRequest, GetServiceGraphResponse, TimeRange
from fernando_telemetry.domain.errors import InvalidField, InvalidTimeRange, QueryTooExpensive
from fernando_telemetry.domain.time_range import ALL_TIME
from fernando_telemetry.domain.trace_times import NO_PARENT
from fernando_telemetry.domain.trace_tree import TraceSpan, TraceTree
from fernando_telemetry.queries.traces import TraceQueries
from fernando_telemetry.storage.snapshots import Snapshots
from fernando_telemetry.transport.trace_servicer import TraceService
from tests.integration.queries.rows import copy, day, range_of, span

SECOND = timedelta(seconds=1)
MILLISECOND = timedelta(milliseconds=1)
Calls = dict[tuple[str, str], int]


class Spans:
    """Collects rows of spans, each a millisecond after the one before."""

    def __init__(self, today: datetime) -> None:
        self.rows: list[dict[str, Any]] = []
        self._today = today

    def add(
        self, number: int, service: str, parent: int | None = None, trace: int = 1, **columns: Any
    ) -> None:
        place = len(self.rows)
        given: dict[str, Any] = {
            "service_name": service,
            "parent_span_id": None if parent is None else f"{parent:016x}",
            "kind": None,
            "status": None,
            "duration_ms": None,
            "links": None,
            "license_id": None,
        }
        time = columns.pop("time", self._today + place * MILLISECOND)
        self.rows.append(span(trace, number, time, place, **(given | columns)))

    async def store(self, connection: Any) -> None:
        await copy(connection, "traces", self.rows)


@pytest.fixture
def spans(today: datetime) -> Spans:
    return Spans(today)


def links(*linked: tuple[int, int]) -> str:
    """Give links as a span's row holds them, each to (trace, span)."""
    found = [{"trace_id": f"{trace:032x}", "span_id": f"{number:016x}"} for trace, number in linked]
    return json.dumps(found)


async def graph(
    traces: TraceService, time_range: TimeRange, **arguments: Any
) -> GetServiceGraphResponse:
    request = GetServiceGraphRequest(time_range=time_range, **arguments)
    return await traces.GetServiceGraph(request, None)


def calls(found: GetServiceGraphResponse) -> Calls:
    return {
        (edge.client_service_name, edge.server_service_name): edge.call_count
        for edge in found.edges
    }


async def test_a_parent_of_another_service_calls(
    traces: TraceService, connection: Any, today: datetime, spans: Spans
) -> None:
    spans.add(1, "web")
    spans.add(2, "web", 1)
    spans.add(3, "shop", 2)
    spans.add(4, "shop", 2)
    spans.add(5, "db", 3)
    # The same span ids, but of another trace; a parent that is not there; one of its own.
    spans.add(3, "lonely", 2, trace=2)
    spans.add(6, "lonely", 6, trace=2)
    await spans.store(connection)
    found = await graph(traces, day(today))
    assert calls(found) == {("shop", "db"): 1, ("web", "shop"): 2}
    assert [(node.service_name, node.span_count) for node in found.nodes] == [
        ("db", 1),
        ("lonely", 2),
        ("shop", 2),
        ("web", 2),
    ]


async def test_two_sides_of_one_id_are_one_call(
    traces: TraceService, connection: Any, today: datetime, spans: Spans
) -> None:
    spans.add(1, "web")
    spans.add(2, "web", 1, kind="client")
    spans.add(2, "shop", 1, kind="server")
    # Each is a child of the side of its own service; a stranger of the calling side.
    spans.add(3, "shop", 2)
    spans.add(4, "web", 2)
    spans.add(5, "cache", 2)
    await spans.store(connection)
    assert calls(await graph(traces, day(today))) == {("web", "cache"): 1, ("web", "shop"): 1}


async def test_a_consumer_is_called_by_the_producers_it_links_to(
    traces: TraceService, connection: Any, today: datetime, spans: Spans
) -> None:
    spans.add(1, "orders", kind="producer")
    spans.add(2, "billing", 1, kind="consumer", links=links((1, 1)))
    spans.add(1, "orders", trace=2, kind="producer")
    spans.add(1, "returns", trace=3, kind="producer")
    spans.add(9, "returns", trace=3)
    # Two messages at once, one of them named twice; a link to no producer; one to nothing.
    linked = links((2, 1), (3, 1), (2, 1), (3, 9), (7, 7))
    spans.add(1, "billing", trace=4, kind="consumer", links=linked)
    spans.add(2, "audit", trace=4, links=links((2, 1)))
    await spans.store(connection)
    assert calls(await graph(traces, day(today))) == {
        ("orders", "billing"): 2,
        ("returns", "billing"): 1,
    }


async def test_errors_and_durations(
    traces: TraceService, connection: Any, today: datetime, spans: Spans
) -> None:
    for number in range(1, 101):
        failed_there = "error" if number <= 10 else None
        failed_here = "error" if 5 < number <= 25 else None
        spans.add(number, "web", trace=number, kind="client", status=failed_here)
        spans.add(
            *(1000, "shop", number, number),
            kind="server",
            status=failed_there,
            duration_ms=float(number),
        )
    # That a parent failed says nothing of what it asked others to do, unless it is the call.
    spans.add(1, "batch", trace=200, status="error")
    spans.add(2, "shop", 1, trace=200, duration_ms=0.0)
    await spans.store(connection)
    found = await graph(traces, day(today))
    batch, web = found.edges
    assert (batch.call_count, batch.error_count, batch.p95_duration_ms) == (1, 0, 0.0)
    assert (web.call_count, web.error_count) == (100, 25)
    assert web.p50_duration_ms == pytest.approx(50, rel=0.02)
    assert web.p95_duration_ms == pytest.approx(95, rel=0.02)
    by_name = {node.service_name: node for node in found.nodes}
    assert (by_name["shop"].span_count, by_name["shop"].error_count) == (101, 10)
    assert by_name["shop"].p50_duration_ms == pytest.approx(50, rel=0.02)
    assert (by_name["web"].error_count, by_name["web"].p50_duration_ms) == (20, 0.0)


async def test_the_whole_calendar_is_a_range(
    traces: TraceService, connection: Any, today: datetime, spans: Spans
) -> None:
    spans.add(1, "web")
    spans.add(2, "shop", 1)
    await spans.store(connection)
    found = await graph(traces, range_of(ALL_TIME.start, ALL_TIME.end))
    assert calls(found) == {("web", "shop"): 1}
    first = range_of(ALL_TIME.start, ALL_TIME.start + SECOND)
    assert await graph(traces, first) == GetServiceGraphResponse()


async def test_only_the_range_and_the_licence_count(
    traces: TraceService, connection: Any, today: datetime, spans: Spans
) -> None:
    spans.add(1, "web", license_id="a")
    spans.add(2, "shop", 1, license_id="a")
    spans.add(3, "db", 2, license_id="b")
    spans.add(4, "late", 2, license_id="a", time=today + 60 * SECOND)
    await spans.store(connection)
    assert len((await graph(traces, day(today))).edges) == 3
    found = await graph(traces, day(today), license_id="a")
    assert calls(found) == {("shop", "late"): 1, ("web", "shop"): 1}
    soon = await graph(traces, range_of(today, today + 60 * SECOND))
    assert calls(soon) == {("shop", "db"): 1, ("web", "shop"): 1}
    # A call is of the time of the called span, whoever called it before.
    late = await graph(traces, range_of(today + 60 * SECOND, today + 61 * SECOND))
    assert [node.service_name for node in late.nodes] == ["late"]
    assert calls(late) == {("shop", "late"): 1}
    assert await graph(traces, day(today), license_id="' OR '1'='1") == GetServiceGraphResponse()


async def test_callers_are_looked_for_in_the_minutes_around(
    traces: TraceService, connection: Any, today: datetime, spans: Spans
) -> None:
    """From ten minutes before the minute of the called span to the one after it."""
    noon = today + timedelta(hours=12)
    minute = timedelta(minutes=1)
    called = noon + 30 * SECOND
    for trace, (start, seen) in enumerate(
        [
            (noon - 10 * minute - MILLISECOND, "too_early"),
            (noon - 10 * minute, "first"),
            (noon + 2 * minute - MILLISECOND, "last"),
            (noon + 2 * minute, "too_late"),
        ],
        start=1,
    ):
        spans.add(1, seen, trace=trace, time=start, kind="producer")
        spans.add(2, "shop", 1, trace=trace, time=called)
        spans.add(
            3, "mail", trace=trace + 10, kind="consumer", links=links((trace, 1)), time=called
        )
        # Of two sides of one id only those count that lie near enough.
        spans.add(4, seen, trace=trace, time=start, kind="client")
        spans.add(4, "other", trace=trace, time=called)
        spans.add(5, "shop", 4, trace=trace, time=called)
    await spans.store(connection)
    wanted = {("first", "mail"): 1, ("last", "mail"): 1, ("other", "shop"): 2}
    wanted |= {("first", "shop"): 2, ("last", "shop"): 2}
    for end in (called + MILLISECOND, noon + minute, today + timedelta(days=1)):
        found = calls(await graph(traces, range_of(called, end)))
        assert found == wanted


@pytest.mark.parametrize("seed", range(5))
async def test_calls_are_those_of_the_trees(
    traces: TraceService, connection: Any, today: datetime, spans: Spans, seed: int
) -> None:
    """Parents are chosen in SQL and in Python; random traces hold the two together."""
    chance = random.Random(seed)
    kinds = (None, "internal", "client", "server", "producer", "consumer")
    for trace in range(1, 31):
        for number in range(1, chance.randrange(2, 12)):
            for _ in range(chance.choice((1, 1, 2, 3))):
                parent = chance.choice((None, number, *range(number), *range(number), 99))
                service = chance.choice("abcd")
                spans.add(number, service, parent, trace=trace, kind=chance.choice(kinds))
    await spans.store(connection)
    wanted: Counter[tuple[str, str]] = Counter()
    for trace in {row["trace_id"] for row in spans.rows}:
        tree = TraceTree(
            TraceSpan(
                span_id=row["span_id"],
                parent_span_id=row["parent_span_id"] or "",
                service_name=row["service_name"],
                operation_name="",
                host_name="",
                kind=row["kind"],
                is_error=False,
                start=row["ordinal"],
                duration=None,
                flush_id=row["flush_id"],
                ordinal=row["ordinal"],
            )
            for row in spans.rows
            if row["trace_id"] == trace
        )
        for child, parent in zip(tree.spans, tree.parents, strict=True):
            if parent != NO_PARENT and tree.spans[parent].service_name != child.service_name:
                wanted[tree.spans[parent].service_name, child.service_name] += 1
    assert len(wanted) > 8
    assert calls(await graph(traces, day(today))) == wanted


async def test_spans_that_call_each_other_in_a_circle(
    traces: TraceService, connection: Any, today: datetime, spans: Spans
) -> None:
    spans.add(1, "a", 3)
    spans.add(2, "b", 1)
    spans.add(3, "c", 2)
    spans.add(4, "a", 4)
    await spans.store(connection)
    assert calls(await graph(traces, day(today))) == {("a", "b"): 1, ("b", "c"): 1, ("c", "a"): 1}


@pytest.mark.parametrize("parent", ["n - 1", "1"], ids=["chain", "star"])
async def test_a_trace_of_a_hundred_thousand_spans(
    traces: TraceService, connection: Any, today: datetime, parent: str
) -> None:
    await connection.execute(
        f"""INSERT INTO traces (trace_id, span_id, parent_span_id, service_name, start_time, tags,
            ingested_at, ordinal, shard, flush_id)
        SELECT lpad('1', 32, '0'), lpad(to_hex(n), 16, '0'),
            CASE WHEN n > 1 THEN lpad(to_hex({parent}), 16, '0') END, 's' || n % 2,
            $1::timestamptz + n * interval '1 ms', '{{}}', $1, n, 0, 1::int8 << 40
        FROM generate_series(1, 100000) AS n""",
        today,
    )
    wanted = {("s0", "s1"): 49_999, ("s1", "s0"): 50_000}
    if parent == "1":
        wanted = {("s1", "s0"): 50_000}
    assert calls(await graph(traces, day(today))) == wanted


async def test_more_spans_or_parts_than_allowed_are_refused(
    snapshots: Snapshots, connection: Any, today: datetime, spans: Spans
) -> None:
    spans.add(1, "web")
    spans.add(2, "shop", 1)
    spans.add(3, "shop", 2, license_id="a")
    await spans.store(connection)
    for allowed in (TraceQueries(snapshots, 3), TraceQueries(snapshots, graph_limit=3)):
        assert len((await graph(TraceService(allowed), day(today))).nodes) == 2
    few_rows = TraceService(TraceQueries(snapshots, 2))
    with pytest.raises(QueryTooExpensive, match="More than 2 spans"):
        await graph(few_rows, day(today))
    assert len((await graph(few_rows, day(today), license_id="a")).nodes) == 1
    few_parts = TraceService(TraceQueries(snapshots, graph_limit=2))
    with pytest.raises(QueryTooExpensive, match="more than 2 services and edges"):
        await graph(few_parts, day(today))


async def test_refusals(traces: TraceService, today: datetime) -> None:
    for time_range in (TimeRange(), range_of(today, today)):
        with pytest.raises(InvalidTimeRange):
            await graph(traces, time_range)
    for field, value in (("license_id", "a\0"), ("min_commit_token", "t")):
        with pytest.raises(InvalidField) as caught:
            await graph(traces, day(today), **{field: value})
        assert caught.value.field == field
    assert await graph(traces, day(today)) == GetServiceGraphResponse()
