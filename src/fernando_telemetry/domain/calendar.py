"""Spans of the calendar that partitions are cut along, all in UTC."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from typing import Literal, assert_never

PartitionLength = Literal["month", "day", "hour", "ten_minutes"]


def span_start(time: datetime, length: PartitionLength) -> datetime:
    """Give the start of the span that holds `time` (aware, UTC)."""
    midnight = time.replace(hour=0, minute=0, second=0, microsecond=0)
    match length:
        case "month":
            return midnight.replace(day=1)
        case "day":
            return midnight
        case "hour":
            return time.replace(minute=0, second=0, microsecond=0)
        case "ten_minutes":
            return time.replace(minute=time.minute // 10 * 10, second=0, microsecond=0)
        case _:
            assert_never(length)


def span_end(start: datetime, length: PartitionLength) -> datetime:
    """Give the end, exclusive, of the span that starts at `start`."""
    match length:
        case "month":
            return (start + timedelta(days=32)).replace(day=1)
        case "day":
            return start + timedelta(days=1)
        case "hour":
            return start + timedelta(hours=1)
        case "ten_minutes":
            return start + timedelta(minutes=10)
        case _:
            assert_never(length)


def midnight(time: datetime) -> datetime:
    """Give 00:00 UTC of the day of `time`."""
    return span_start(time.astimezone(UTC), "day")
