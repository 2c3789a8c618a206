"""What is known of the times of recent flushes, for whoever reads each of them as it comes."""

from __future__ import annotations

from collections import deque
from collections.abc import Iterable
from datetime import datetime
from typing import Final

MOST_FLUSHES: Final = 2_000


class RecentFlushes:
    """Bounds how many rows of a table have their time in a range, without asking for it.

    What has a time later than the first look came, but for clocks that run ahead, with the
    flushes that were seen since.
    """

    def __init__(self) -> None:
        self._since: datetime | None = None
        self._seen: deque[tuple[datetime, datetime, int]] = deque()

    def note(self, began_at: datetime, flushes: Iterable[tuple[datetime, datetime, int]]) -> None:
        """Take note of flushes.

        Args:
            began_at: When the snapshot that shows them began.
            flushes: Of each the first and the last time, and its rows.
        """
        if self._since is None:
            self._since = began_at
        self._seen.extend(flushes)
        while len(self._seen) > MOST_FLUSHES:
            _, last, _ = self._seen.popleft()
            # What is forgotten may have rows up to here; those of a clock ahead are let go.
            self._since = max(self._since, min(last, began_at))

    def rows_within(self, start: datetime, end: datetime) -> int | None:
        """Give at least the rows that have their time in a range; None: not known."""
        if self._since is None or start < self._since:
            return None
        return sum(count for first, last, count in self._seen if first < end and last >= start)
