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
from fernando_telemetry.bench.query_rows import Stretch, Week
from fernando_telemetry.bench.tables import continued
from fernando_telemetry.storage.statements import load

lists, trace_lists, own = load("lists"), load("list_trace"), load("bench_queries")

TIMEOUT_SECONDS: Final = 60.0
PAGE_ROWS: Final = 100
# A list reads one row more than its page, which tells whether it is the last one.
_READ_ROWS: Final = PAGE_ROWS + 1
SPANS_ORDER: Final = 'start_time, span_id COLLATE "C", flush_id, ordinal'


@dataclass(frozen=True, slots=True)
class Asking:
    """One question with its values.

    Attributes:
        statement: The SQL that the service runs for it.
        arguments: Its parameters.
        call: Asks the service, and gives how many rows came; None: there is no such call.
    """

    statement: str
    arguments: tuple[Any, ...]
    call: Callable[[aio.Channel], Awaitable[int]] | None = None


@dataclass(frozen=True, slots=True)
class Question:
    """A figure.

    Attributes:
        key: Its name in the JSON line.
        target_ms: Greatest p95 of the service, or of SQL where there is no call.
        draw: Gives the question with values of the week.
    """

    key: str
    target_ms: float
    draw: Callable[[Week, random.Random], Asking]


def _range(start: datetime, end: datetime) -> v1.TimeRange:
    made = v1.TimeRange()
    made.start_time.FromDatetime(start)
    made.end_time.FromDatetime(end)
    return made


def _newest_events(column: str, value: str) -> Callable[[Week, random.Random], Asking]:
    """Newest 100 events with a value, of seven days."""
    order = "event_timestamp DESC, event_id DESC"
    statement = continued(lists.events, f"{column} = $3::text", order, _READ_ROWS)

    def draw(week: Week, _chance: random.Random) -> Asking:
        start, end = week.hot.end - timedelta(days=7), week.hot.end
        request = v1.ListEventsRequest(
            time_range=_range(start, end),
            filter=f"{column} = {json.dumps(value)}",
            page_size=PAGE_ROWS,
        )

        async def call(channel: aio.Channel) -> int:
            stub: Any = v1.EventServiceStub(channel)
            return len((await stub.ListEvents(request, timeout=TIMEOUT_SECONDS)).events)

        return Asking(statement, (start, end, value), call)

    return draw


def _trace(of: Callable[[Week], Stretch]) -> Callable[[Week, random.Random], Asking]:
    """A trace by its id, with the day it is of as the range."""
    statement = continued(trace_lists.trace_spans, "true", SPANS_ORDER, _READ_ROWS)

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


def trace_id_of(row: int) -> str:
    """Give the id of a trace beside the row with a number, as bench_rows.sql makes it."""
    trace = row // 4000 * 500 + row % 500
    return hashlib.md5(f"t{trace}".encode(), usedforsecurity=False).hexdigest()


def _payload(part: Callable[[int], object]) -> Callable[[Week, random.Random], Asking]:
    """Newest 100 events of the largest sealed day whose payload contains something."""

    def draw(week: Week, chance: random.Random) -> Asking:
        day = week.sealed
        wanted = part(day.first + chance.randrange(day.count))
        return Asking(own.events_of_payload, (day.day, day.end, json.dumps(wanted)))

    return draw


QUESTIONS: Final = (
    Question("user_common", 30, _newest_events("user_id", "user-0")),
    Question("user_rare", 30, _newest_events("user_id", "user-rare")),
    Question("user_unknown", 30, _newest_events("user_id", "user-none")),
    Question("license_common", 30, _newest_events("license_id", "licence-0")),
    Question("license_rare", 30, _newest_events("license_id", "licence-rare")),
    Question("license_unknown", 30, _newest_events("license_id", "licence-none")),
    Question("trace_hot", 30, _trace(lambda week: week.hot)),
    Question("trace_sealed", 5, _trace(lambda week: week.sealed)),
    Question("payload_common", 100, _payload(lambda _row: {"status_code": 500})),
    Question("payload_rare", 100, _payload(lambda row: {"document_id": f"doc-{row // 3}"})),
)
