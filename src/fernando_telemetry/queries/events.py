"""Queries on events."""

from __future__ import annotations

from typing import Final

from fernando_telemetry.domain.filter_columns import EVENT_COLUMNS
from fernando_telemetry.queries.pages import Listing, ListRequest, Take
from fernando_telemetry.storage.lists import EVENTS, Row, listed
from fernando_telemetry.storage.snapshots import Snapshots

_EVENTS: Final = Listing("ListEvents", "event_timestamp", EVENT_COLUMNS, EVENTS.key_types)


class EventQueries:
    """Answers questions about events.

    Args:
        snapshots: Of the read database.
    """

    def __init__(self, snapshots: Snapshots) -> None:
        self._snapshots = snapshots

    async def list_events(self, request: ListRequest, take: Take[Row]) -> str:
        """Give a page of events, by (event_timestamp, event_id).

        Returns:
            The next page's token, "" on the last page.

        Raises:
            InvalidInput: An argument is not allowed; nothing was read.
            QueryTooExpensive: It ran past its time-out.
            DatabaseUnavailable: The database does not answer.
            CommitTokenNotReached: min_commit_token does not show in time.
        """
        page = _EVENTS.page(request)
        async with self._snapshots.opened(page.min_flush_id) as connection:
            return await page.read(listed(connection, EVENTS, page.selection), take)
