"""A page ends at 2 MiB, and one record always fits."""

from __future__ import annotations

from datetime import datetime, timedelta
from typing import Any

import pytest

from fernando.telemetry.v1 import GetTraceRequest, ListEventsRequest, ListSpansRequest
from fernando_telemetry.domain.limits import PAGE_BYTES
from fernando_telemetry.transport.event_servicer import EventService
from fernando_telemetry.transport.trace_servicer import TraceService
from tests.integration.queries.rows import copy, day, event, span

SECOND = timedelta(seconds=1)


@pytest.mark.parametrize(
    ("kilobytes", "count", "pages"), [(250, 20, 3), (2, 1500, 2), (10, 410, 3)]
)
async def test_pages_end_by_bytes(
    events: EventService, connection: Any, today: datetime, kilobytes: int, count: int, pages: int
) -> None:
    payload = '{"p": "' + "x" * (kilobytes * 1024 - 10) + '"}'
    rows = [event(today + SECOND * place, event_data=payload) for place in range(count)]
    await copy(connection, "telemetry_events", rows)
    request = ListEventsRequest(time_range=day(today), page_size=1000)
    found, sizes = [], []
    while True:
        response = await events.ListEvents(request, None)
        sizes.append(response.ByteSize())
        found += [one.event_id for one in response.events]
        request.page_token = response.next_page_token
        if not request.page_token:
            break
    assert found == [str(row["event_id"]) for row in reversed(rows)]
    assert max(sizes) <= PAGE_BYTES
    assert len(sizes) == pages
    # Pages are filled: only the last may be small.
    assert all(size > PAGE_BYTES - (kilobytes + 16) * 1024 for size in sizes[:-1])


async def test_a_great_record_is_a_page(
    traces: TraceService, connection: Any, today: datetime
) -> None:
    """Rows put in by SQL may be larger than a page; they come alone instead of never."""
    tags = '{"k": "' + "x" * (PAGE_BYTES + 1) + '"}'
    await copy(connection, "traces", [span(1, n, today, n, tags=tags) for n in (1, 2)])
    listed = await traces.ListSpans(ListSpansRequest(time_range=day(today)), None)
    traced = await traces.GetTrace(GetTraceRequest(trace_id="0" * 31 + "1"), None)
    assert len(listed.spans) == len(traced.spans) == 1
    assert listed.next_page_token
    assert traced.next_page_token
