"""AdminService's methods on kept rejected records."""

from __future__ import annotations

from typing import Any

from fernando.telemetry.v1 import (
    ListRejectedRecordsRequest,
    ListRejectedRecordsResponse,
    ReplayRejectedRecordsRequest,
    ReplayRejectedRecordsResponse,
)
from fernando_telemetry.ingest.replay import Replays
from fernando_telemetry.queries.rejected import RejectedQueries
from fernando_telemetry.transport.converters.query import newest_first_request, time_range_of
from fernando_telemetry.transport.converters.rejected import rejected_message
from fernando_telemetry.transport.pages import PageOf


class RejectedMethods:
    """Lists and replays rejected records.

    Args:
        queries: The read path.
        replays: The way back into the write path.
    """

    def __init__(self, queries: RejectedQueries, replays: Replays) -> None:
        self._queries = queries
        self._replays = replays

    async def list_rejected_records(
        self,
        request: ListRejectedRecordsRequest,
        context: Any,  # noqa: ARG002 - what gRPC calls with
    ) -> ListRejectedRecordsResponse:
        """Give a page of rejected records."""
        page = PageOf(rejected_message)
        asked = newest_first_request(request)
        token = await self._queries.list_rejected_records(asked, page.take)
        return ListRejectedRecordsResponse(rejected_records=page.records, next_page_token=token)

    async def replay_rejected_records(
        self,
        request: ReplayRejectedRecordsRequest,
        context: Any,  # noqa: ARG002 - what gRPC calls with
    ) -> ReplayRejectedRecordsResponse:
        """Send kept records through ingest again."""
        replayed = await self._replays.replay(
            time_range_of(request.time_range), request.filter, dry_run=request.dry_run
        )
        return ReplayRejectedRecordsResponse(
            replayed_count=replayed.replayed, still_rejected_count=replayed.still_rejected
        )
