"""Pages while ingest runs: what was there when the first page was read comes exactly once."""

from __future__ import annotations

import asyncio
import itertools
import random
from collections import Counter
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from datetime import datetime, timedelta
from typing import Any

import asyncpg
import pytest

from fernando.telemetry.v1 import (
    ListBusinessMetricsRequest,
    ListEventsRequest,
    ListSpansRequest,
    ListSystemMetricsRequest,
)
from fernando_telemetry.transport.event_servicer import EventService
from fernando_telemetry.transport.metric_servicer import MetricService
from fernando_telemetry.transport.trace_servicer import TraceService
from tests.integration.queries.rows import (
    business_metric,
    copy,
    day,
    distribution,
    event,
    sample,
    series,
    span,
    walk,
)

SECOND = timedelta(seconds=1)
ROWS = 3_000
DIRECTIONS = pytest.mark.parametrize("direction", ["", " desc"])


class PacedWriter:
    """Commits a batch for every page read, while the next one is read.

    The pace is bounded, or a list in ascending order would never end.
    """

    def __init__(self) -> None:
        self._wanted = asyncio.Semaphore(0)
        self.committed = 0

    async def ask(self) -> None:
        """Let two more batches be committed."""
        self._wanted.release()
        self._wanted.release()

    async def write(
        self, connection: Any, table: str, batch: Callable[[int], list[dict[str, Any]]]
    ) -> None:
        """Write for ever, as asked."""
        for number in itertools.count(2):
            await self._wanted.acquire()
            await copy(connection, table, batch(number << 40))
            self.committed += 1


@asynccontextmanager
async def writing(
    database: str, table: str, batch: Callable[[int], list[dict[str, Any]]]
) -> AsyncIterator[Callable[[], Awaitable[None]]]:
    """Run a writer beside; gives what asks it for more, to be called after each page."""
    connection = await asyncpg.connect(database)
    writer = PacedWriter()
    task = asyncio.create_task(writer.write(connection, table, batch))
    try:
        yield writer.ask
        assert writer.committed > ROWS // 150
    finally:
        task.cancel()
        await asyncio.gather(task, return_exceptions=True)
        await connection.close()


@DIRECTIONS
async def test_events(
    events: EventService, connection: Any, database: str, today: datetime, direction: str
) -> None:
    # Nine in ten share one time, which new rows have as well.
    existing = [event(today + SECOND * max(0, number % 10 - 8)) for number in range(ROWS)]
    await copy(connection, "telemetry_events", existing)

    def batch(flush_id: int) -> list[dict[str, Any]]:
        return [event(today + SECOND * random.randint(0, 3), flush_id=flush_id) for _ in range(20)]

    async with writing(database, "telemetry_events", batch) as ask:
        found = await walk(
            events.ListEvents,
            ListEventsRequest(
                time_range=day(today), page_size=100, order_by="event_timestamp" + direction
            ),
            "events",
            ask,
        )
    counts = Counter(one.event_id for one in found)
    assert max(counts.values()) == 1
    assert {str(row["event_id"]) for row in existing} <= counts.keys()
    times = [one.event_timestamp.ToMicroseconds() for one in found]
    assert times == sorted(times, reverse=bool(direction))


@DIRECTIONS
async def test_samples(
    metrics: MetricService, connection: Any, database: str, today: datetime, direction: str
) -> None:
    numbers = [(await series(connection, metric_name=f"m{place}"))[0] for place in range(3)]
    existing = [
        sample(numbers[place % 3], today + SECOND * (place % 2), float(place % 5))
        for place in range(ROWS)
    ]
    await copy(connection, "metric_samples", existing)
    await copy(
        connection,
        "metric_distributions",
        [distribution(numbers[0], today, place, value=1.0) for place in range(500)],
    )

    def batch(flush_id: int) -> list[dict[str, Any]]:
        # New rows have values that the existing ones do not have, so that both can be counted.
        return [
            sample(random.choice(numbers), today + SECOND * (place % 3), 100.0, flush_id)
            for place in range(20)
        ]

    async with writing(database, "metric_samples", batch) as ask:
        found = await walk(
            metrics.ListSystemMetrics,
            ListSystemMetricsRequest(
                time_range=day(today), page_size=150, order_by="metric_timestamp" + direction
            ),
            "system_metrics",
            ask,
        )

    def key(name: str, time: datetime, value: float) -> tuple[str, int, float]:
        return name, int(time.timestamp()), value

    wanted = Counter(
        key(f"m{numbers.index(row['series_id'])}", row["time"], row["value"]) for row in existing
    )
    wanted[key("m0", today, 1.0)] += 500
    given = Counter(
        (one.metric_name, one.metric_timestamp.seconds, one.metric_value)
        for one in found
        if one.metric_value != 100.0
    )
    assert given == wanted


@DIRECTIONS
async def test_spans(
    traces: TraceService, connection: Any, database: str, today: datetime, direction: str
) -> None:
    existing = [
        span(place % 7 + 1, place % 11 + 1, today, place, operation_name=str(place))
        for place in range(ROWS)
    ]
    await copy(connection, "traces", existing)

    def batch(flush_id: int) -> list[dict[str, Any]]:
        return [
            span(
                random.randint(1, 7),
                random.randint(1, 11),
                today,
                place,
                operation_name=f"{flush_id}/{place}",
                flush_id=flush_id,
            )
            for place in range(20)
        ]

    async with writing(database, "traces", batch) as ask:
        found = await walk(
            traces.ListSpans,
            ListSpansRequest(
                time_range=day(today), page_size=150, order_by="start_time" + direction
            ),
            "spans",
            ask,
        )
    counts = Counter(one.operation_name for one in found)
    assert max(counts.values()) == 1
    assert {row["operation_name"] for row in existing} <= counts.keys()


@DIRECTIONS
async def test_business_metrics(
    metrics: MetricService, connection: Any, database: str, today: datetime, direction: str
) -> None:
    existing = [business_metric(today, identity) for identity in range(ROWS)]
    await copy(connection, "business_metric_versions", existing)
    fresh = itertools.count(ROWS)

    def batch(flush_id: int) -> list[dict[str, Any]]:
        return [business_metric(today, next(fresh), flush_id=flush_id) for _ in range(20)]

    async with writing(database, "business_metric_versions", batch) as ask:
        found = await walk(
            metrics.ListBusinessMetrics,
            ListBusinessMetricsRequest(
                time_range=day(today), page_size=150, order_by="period_start" + direction
            ),
            "business_metrics",
            ask,
        )
    counts = Counter(one.metric_id for one in found)
    assert max(counts.values()) == 1
    assert {str(row["metric_id"]) for row in existing} <= counts.keys()
