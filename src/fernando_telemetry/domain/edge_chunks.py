"""Chunks: ten minutes of UTC, by which calls between services are kept once they are worked out.

A call is of the chunk that the called span starts in. Who called is looked for among the spans of
a few minutes around it, so a span that comes late may change the calls of other chunks, too.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from datetime import datetime, timedelta
from typing import Final

from fernando_telemetry.domain.calendar import EPOCH
from fernando_telemetry.domain.rollup_cover import MINUTE
from fernando_telemetry.domain.time_range import ALL_TIME, TimeRange

CHUNK: Final = timedelta(minutes=10)
# A caller starts so many minutes before the minute of what it calls, or after it by a clock that is
# ahead. As in migrations/idempotent/service_calls.sql.
CALLERS_BEFORE: Final = timedelta(minutes=10)
CALLERS_AFTER: Final = timedelta(minutes=1)
EARLIEST: Final = ALL_TIME.start + timedelta(days=1)
LATEST: Final = ALL_TIME.end - timedelta(days=1)


def range_of_chunks(chunks: Sequence[datetime]) -> TimeRange:
    """Give the range of chunks that lie side by side, in order; at least one."""
    return TimeRange(chunks[0], chunks[-1] + CHUNK)


def range_of_callers(called: TimeRange) -> TimeRange:
    """Give where the spans start that decide the calls of a range, itself included."""
    start, end = called.start, called.end
    # Nothing is stored near the ends of the calendar.
    if start > EARLIEST:
        start -= (start - EPOCH) % MINUTE + CALLERS_BEFORE
    if end < LATEST:
        end += (-(end - EPOCH)) % MINUTE + CALLERS_AFTER
    return TimeRange(start, end)


def chunks_touched(minutes: Iterable[datetime]) -> set[datetime]:
    """Give the chunks whose calls may be others because of spans of these minutes."""
    touched: set[datetime] = set()
    for minute in minutes:
        chunk = minute + CALLERS_BEFORE
        chunk -= (chunk - EPOCH) % CHUNK
        while minute < chunk + CHUNK + CALLERS_AFTER:
            touched.add(chunk)
            chunk -= CHUNK
    return touched


def gaps_between(time_range: TimeRange, chunks: Iterable[datetime]) -> list[TimeRange]:
    """Give what chunks leave of a range.

    Args:
        time_range: The range.
        chunks: Starts of whole chunks of it, in order.
    """
    gaps: list[TimeRange] = []
    start = time_range.start
    for chunk in chunks:
        if start < chunk:
            gaps.append(TimeRange(start, chunk))
        start = chunk + CHUNK
    if start < time_range.end:
        gaps.append(TimeRange(start, time_range.end))
    return gaps
