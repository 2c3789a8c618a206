"""The questions of `bench query`: each as a call of the service, and as SQL of its own.

A further figure is a further entry of `QUESTIONS`.
"""

from __future__ import annotations

import hashlib
import json
import random
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Any, Final

from grpc import aio

from fernando.telemetry import v1
from fernando_telemetry.bench.query_rows import SERIES, Stretch, Week
from fernando_telemetry.bench.tables import continued
from fernando_telemetry.domain.edge_chunks import CHUNK
from fernando_telemetry.domain.limits import GRAPH_PARTS
from fernando_telemetry.storage.statements import load

lists = load("lists")
lookups = load("bench_lookups")
graphs = load("service_graph")

TIMEOUT_SECONDS: Final = 60.0
PAGE_ROWS: Final = 100
# A list reads one row more than its page, which tells whether it is the last one.
_READ_ROWS: Final = PAGE_ROWS + 1
EVENTS_ORDER: Final = "event_timestamp DESC, event_id DESC"
SPANS_ORDER: Final = 'start_time, span_id COLLATE "C", flush_id, ordinal'


@dataclass(frozen=True, slots=True)
class Asking:
    """One question with its values.

    Attributes:
        statement: The SQL that asks the same, as the service's lists do it.
        arguments: Its parameters.
        call: Asks the service, and gives how many rows came.
        most_rows: How many of the statement's rows the answer has at most.
    """

    statement: str
    arguments: tuple[Any, ...]
    call: Callable[[aio.Channel], Awaitable[int]]
    most_rows: int = PAGE_ROWS


# Gives the question with values of the week.
Draw = Callable[[Week, random.Random], Asking]


@dataclass(frozen=True, slots=True)
class Question:
    """A figure.

    Attributes:
        key: Its name in the JSON line.
        target_ms: Greatest p95 of the service.
        draw: Makes it.
    """

    key: str
    target_ms: float
    draw: Draw


def _range(start: datetime, end: datetime) -> v1.TimeRange:
    made = v1.TimeRange()
    made.start_time.FromDatetime(start)
    made.end_time.FromDatetime(end)
    return made


def _newest_events(
    condition: str,
    wanted: str,
    value: Callable[[int], str],
    days: Callable[[Week], tuple[datetime, datetime]],
    rows: Callable[[Week], Stretch],
) -> Draw:
    """Newest 100 events of a time range.

    Args:
        condition: SQL, `$3` being the value.
        wanted: The same as a filter, `{}` being the value as a text.
        value: Gives it for the number of a row.
        days: The time range.
        rows: Whose numbers are drawn.
    """
    statement = continued(lists.events, condition, EVENTS_ORDER, _READ_ROWS)

    def draw(week: Week, chance: random.Random) -> Asking:
        start, end = days(week)
        drawn = value(rows(week).first + chance.randrange(rows(week).count))
        parameter = json.dumps(drawn)
        request = v1.ListEventsRequest(
            time_range=_range(start, end), filter=wanted.format(parameter), page_size=PAGE_ROWS
        )

        async def call(channel: aio.Channel) -> int:
            stub: Any = v1.EventServiceStub(channel)
            return len((await stub.ListEvents(request, timeout=TIMEOUT_SECONDS)).events)

        return Asking(statement, (start, end, drawn), call)

    return draw


def _of_seven_days(column: str, value: str) -> Draw:
    """Events of the last seven days with a value."""
    return _newest_events(
        f"{column} = $3::text",
        f"{column} = {{}}",
        lambda _row: value,
        lambda week: (week.hot.end - timedelta(days=7), week.hot.end),
        lambda week: week.hot,
    )


def _of_payload(key: str, value: Callable[[int], str]) -> Draw:
    """Events of the largest sealed day whose payload has a text under a key."""
    return _newest_events(
        f"event_data @> jsonb_build_object('{key}', $3::text)",
        f"event_data.{key} = {{}}",
        value,
        lambda week: (week.sealed.day, week.sealed.end),
        lambda week: week.sealed,
    )


def _trace(of: Callable[[Week], Stretch]) -> Draw:
    """A trace by its id, with the day it is of as the range."""
    statement = continued(lists.spans, "trace_id = $3::text", SPANS_ORDER, _READ_ROWS)

    def draw(week: Week, chance: random.Random) -> Asking:
        day = of(week)
        trace_id = trace_id_of(day.first + chance.randrange(day.count))
        request = v1.GetTraceRequest(
            trace_id=trace_id, time_range=_range(day.day, day.end), page_size=PAGE_ROWS
        )

        async def call(channel: aio.Channel) -> int:
            stub: Any = v1.TraceServiceStub(channel)
            try:
                answer = await stub.GetTrace(request, timeout=TIMEOUT_SECONDS)
            except aio.AioRpcError as error:
                # A few of the numbers that a trace may have are of none.
                if error.code().name != "NOT_FOUND":
                    raise
                return 0
            return len(answer.spans)

        return Asking(statement, (day.day, day.end, trace_id), call)

    return draw


def _summary_of_24_hours(week: Week, _chance: random.Random) -> Asking:
    """Events of the largest sealed day by hour and type, as the guide's hourly summary has them."""
    start, end = week.sealed.day, week.sealed.end
    request = v1.SummarizeEventsRequest(
        time_range=_range(start, end), group_by=["event_type"], page_size=1_000
    )
    request.bucket.FromTimedelta(timedelta(hours=1))

    async def call(channel: aio.Channel) -> int:
        stub: Any = v1.EventServiceStub(channel)
        return len((await stub.SummarizeEvents(request, timeout=TIMEOUT_SECONDS)).summaries)

    return Asking(lookups.hourly_summary, (start, end), call, 1_000)


def _one_series_by_minute(week: Week, chance: random.Random) -> Asking:
    """Six hours of a series of the largest sealed day, a mean a minute."""
    start = week.sealed.day + timedelta(minutes=chance.randrange(180, 900))
    end = start + timedelta(hours=6)
    host = f"host-{chance.choice(SERIES)}"
    request = v1.QuerySystemMetricsRequest(
        time_range=_range(start, end), metric_name="made_up", filter=f'host_name = "{host}"'
    )
    request.alignment_period.FromTimedelta(timedelta(minutes=1))

    async def call(channel: aio.Channel) -> int:
        stub: Any = v1.MetricServiceStub(channel)
        found = (await stub.QuerySystemMetrics(request, timeout=TIMEOUT_SECONDS)).time_series
        return sum(len(one.values) for one in found)

    return Asking(lookups.one_series_by_minute, (host, start, end), call, 1_000)


def _graph_of_24_hours(week: Week, _chance: random.Random) -> Asking:
    """Which service called which in the largest sealed day."""
    start, end = week.sealed.day, week.sealed.end
    request = v1.GetServiceGraphRequest(time_range=_range(start, end))
    chunks = [start + place * CHUNK for place in range((end - start) // CHUNK)]

    async def call(channel: aio.Channel) -> int:
        stub: Any = v1.TraceServiceStub(channel)
        found = await stub.GetServiceGraph(request, timeout=TIMEOUT_SECONDS)
        return len(found.nodes) + len(found.edges)

    return Asking(graphs.rolled, (chunks, "", GRAPH_PARTS), call, GRAPH_PARTS)


def trace_id_of(row: int) -> str:
    """Give the id of a trace beside the row with a number, as bench_rows.sql makes it."""
    trace = row // 4000 * 500 + row % 500
    return hashlib.md5(f"t{trace}".encode(), usedforsecurity=False).hexdigest()


GRAPH: Final = Question("service_graph_24h", 500, _graph_of_24_hours)
SUMMARY: Final = Question("summary_24h", 30, _summary_of_24_hours)
QUESTIONS: Final = (
    Question("user_common", 30, _of_seven_days("user_id", "user-0")),
    Question("user_rare", 30, _of_seven_days("user_id", "user-rare")),
    Question("user_unknown", 30, _of_seven_days("user_id", "user-none")),
    Question("license_common", 30, _of_seven_days("license_id", "licence-0")),
    Question("license_rare", 30, _of_seven_days("license_id", "licence-rare")),
    Question("license_unknown", 30, _of_seven_days("license_id", "licence-none")),
    SUMMARY,
    Question("one_series_6h_1m", 10, _one_series_by_minute),
    GRAPH,
    Question("trace_hot", 30, _trace(lambda week: week.hot)),
    Question("trace_sealed", 5, _trace(lambda week: week.sealed)),
    Question("payload_common", 100, _of_payload("method", lambda _row: "email")),
    Question("payload_rare", 100, _of_payload("document_id", lambda row: f"doc-{row // 3}")),
)
