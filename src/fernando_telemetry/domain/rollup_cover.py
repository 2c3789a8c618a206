"""Which parts of a time range roll-ups answer for, and which only raw rows."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Final

from fernando_telemetry.domain.calendar import EPOCH
from fernando_telemetry.domain.time_range import TimeRange

HOUR: Final = timedelta(hours=1)
MINUTE: Final = timedelta(minutes=1)


@dataclass(frozen=True, slots=True)
class Cover:
    """A time range in parts that do not overlap.

    Args:
        whole: The range.
        raw: Parts that raw rows answer for.
        minutes: Whole minutes.
        hours: Whole hours.
    """

    whole: TimeRange
    raw: tuple[TimeRange, ...]
    minutes: tuple[TimeRange, ...] = ()
    hours: tuple[TimeRange, ...] = ()


def by_raw_rows(time_range: TimeRange) -> Cover:
    """Cover a range by raw rows alone."""
    return Cover(time_range, (time_range,))


def cover_of(
    time_range: TimeRange, period: timedelta, oldest_minute: datetime, oldest_hour: datetime
) -> Cover:
    """Cover a range for buckets of some length: by hours, what is left by minutes, then by rows.

    Args:
        time_range: Of the request.
        period: Length of its buckets, counted from 1970-01-01 UTC.
        oldest_minute: Minutes before it are not kept.
        oldest_hour: Hours before it are not kept.
    """
    hours = _whole([time_range], HOUR, oldest_hour) if not period % HOUR else ()
    left = _left([time_range], hours)
    minutes = _whole(left, MINUTE, oldest_minute) if not period % MINUTE else ()
    return Cover(time_range, _left(left, minutes), minutes, hours)


def whole_units(time_range: TimeRange, unit: timedelta, oldest: datetime) -> TimeRange | None:
    """Give the whole units of a range; None: there are none.

    Args:
        time_range: The range.
        unit: Their length, counted from 1970-01-01 UTC.
        oldest: Units before it are not kept.
    """
    begin = max(time_range.start, oldest)
    start = begin + (-(begin - EPOCH)) % unit
    end = time_range.end - (time_range.end - EPOCH) % unit
    return TimeRange(start, end) if start < end else None


def _whole(ranges: Iterable[TimeRange], unit: timedelta, oldest: datetime) -> tuple[TimeRange, ...]:
    found = (whole_units(one, unit, oldest) for one in ranges)
    return tuple(one for one in found if one is not None)


def _left(ranges: Iterable[TimeRange], taken: Iterable[TimeRange]) -> tuple[TimeRange, ...]:
    """Give what is left of ranges where parts of them are taken."""
    parts = list(ranges)
    for one in taken:
        parts = [left for part in parts for left in _without(part, one)]
    return tuple(parts)


def _without(part: TimeRange, taken: TimeRange) -> Iterable[TimeRange]:
    if taken.end <= part.start or part.end <= taken.start:
        yield part
        return
    if part.start < taken.start:
        yield TimeRange(part.start, taken.start)
    if taken.end < part.end:
        yield TimeRange(taken.end, part.end)
