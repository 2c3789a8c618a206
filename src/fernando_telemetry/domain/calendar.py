"""Spans of the calendar that partitions are cut along, all in UTC."""

from __future__ import annotations

import re
from datetime import UTC, datetime, timedelta
from typing import Final, Literal

# Seconds, at most a day. Spans are counted from midnight; where a length does not divide the day,
# the last span of each day is the shorter one.
PartitionLength = Literal["month"] | int

# Where Unix time begins.
EPOCH: Final = datetime(1970, 1, 1, tzinfo=UTC)
# The step of all times that are stored.
MICROSECOND: Final = timedelta(microseconds=1)
DAY: Final = 86_400
HOUR: Final = 3_600
TEN_MINUTES: Final = 600
SHORTEST_SECONDS: Final = 10

_WORDS: Final = {"day": DAY, "hour": HOUR, "ten minutes": TEN_MINUTES, "ten_minutes": TEN_MINUTES}


def parse_length(text: str) -> int:
    """Read a length as settings spell it: day, hour, ten minutes, or a number of seconds.

    Raises:
        ValueError: It is none of these, or outside 10 seconds to a day.
    """
    word = text.strip().lower()
    if word in _WORDS:
        return _WORDS[word]
    found = re.fullmatch(r"(\d{1,5}) ?(s|seconds?)", word)
    if found is None or not SHORTEST_SECONDS <= int(found[1]) <= DAY:
        raise ValueError("day, hour, ten minutes, or 10 to 86400 seconds such as '30 seconds'")
    return int(found[1])


def span_start(time: datetime, length: PartitionLength) -> datetime:
    """Give the start of the span that holds `time` (aware, UTC)."""
    midnight = time.replace(hour=0, minute=0, second=0, microsecond=0)
    if length == "month":
        return midnight.replace(day=1)
    seconds = (time - midnight).seconds
    return midnight + timedelta(seconds=seconds // length * length)


def span_end(start: datetime, length: PartitionLength) -> datetime:
    """Give the end, exclusive, of the span that starts at `start`."""
    if length == "month":
        return (start + timedelta(days=32)).replace(day=1)
    tomorrow = span_start(start, DAY) + timedelta(days=1)
    return min(start + timedelta(seconds=length), tomorrow)


def midnight(time: datetime) -> datetime:
    """Give 00:00 UTC of the day of `time`."""
    return span_start(time.astimezone(UTC), DAY)
