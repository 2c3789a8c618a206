"""Calls about kept rejected records."""

from __future__ import annotations

from datetime import timedelta
from typing import Any

from grpc import aio

from fernando.telemetry.v1 import (
    AdminServiceStub,
    ListRejectedRecordsRequest,
    RejectedRecord,
    ReplayRejectedRecordsRequest,
    TimeRange,
)
from tests.integration.ingest.records import now

KEPT = "SELECT count(*) FROM rejected_records"
TIMEOUT_SECONDS = 60.0


def these_weeks() -> TimeRange:
    """Give a range around the present."""
    made = TimeRange()
    made.start_time.FromDatetime(now() - timedelta(days=30))
    made.end_time.FromDatetime(now() + timedelta(days=1))
    return made


async def listed(channel: aio.Channel, text: str = "", page_size: int = 0) -> list[RejectedRecord]:
    """Read all pages of a list."""
    stub: Any = AdminServiceStub(channel)
    request = ListRejectedRecordsRequest(time_range=these_weeks(), filter=text, page_size=page_size)
    found: list[RejectedRecord] = []
    while True:
        page = await stub.ListRejectedRecords(request, timeout=TIMEOUT_SECONDS)
        found += page.rejected_records
        if not page.next_page_token:
            return found
        assert 0 < len(page.rejected_records) <= (page_size or 100)
        request.page_token = page.next_page_token


async def replay(channel: aio.Channel, text: str = "", *, dry_run: bool = False) -> tuple[int, int]:
    """Replay; gives how many were stored and how many rejected again."""
    stub: Any = AdminServiceStub(channel)
    answer = await stub.ReplayRejectedRecords(
        ReplayRejectedRecordsRequest(time_range=these_weeks(), filter=text, dry_run=dry_run),
        timeout=TIMEOUT_SECONDS,
    )
    return answer.replayed_count, answer.still_rejected_count
