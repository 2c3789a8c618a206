"""A summary of events: what it may be grouped by, and which hours a roll-up can answer for."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Final

from fernando_telemetry.domain.errors import InvalidField, QueryTooExpensive
from fernando_telemetry.domain.limits import QUERY_BUCKETS
from fernando_telemetry.domain.rollup_cover import HOUR, whole_units
from fernando_telemetry.domain.time_range import TimeRange

GROUP_COLUMNS: Final = ("event_type", "event_category", "event_name", "license_id", "source")
# Sketches of users are kept for these only.
USER_COLUMNS: Final = ("event_type", "event_category", "license_id")
LONGEST_BUCKET: Final = timedelta(days=3_653)


@dataclass(frozen=True, slots=True)
class EventSummary:
    """Counts of one group in one bucket; `group` has "" where the column is not set."""

    bucket_start: datetime
    group: Mapping[str, str]
    event_count: int
    error_count: int
    unique_licenses: int
    unique_users: int | None
    avg_duration_ms: float | None
    p95_duration_ms: float | None


def check_bucket(bucket: timedelta | None, time_range: TimeRange) -> None:
    """Check the length of buckets.

    Raises:
        InvalidField: It is not positive, or longer than ten years.
        QueryTooExpensive: There would be too many buckets.
    """
    if bucket is None:
        return
    if not timedelta(0) < bucket <= LONGEST_BUCKET:
        raise InvalidField(
            "bucket", "a length above 0 and of at most 3,653 days; leave it out for one bucket."
        )
    # One more than fits where the range's sides lie within buckets.
    length = time_range.end - time_range.start
    if length // bucket + 2 > QUERY_BUCKETS:
        smallest = -(-length // (QUERY_BUCKETS - 2)).total_seconds()
        raise QueryTooExpensive(
            f"The range has more than {QUERY_BUCKETS:,} buckets of this length; the smallest that "
            f"fits is {smallest:g} s."
        )


def whole_hours(
    time_range: TimeRange, bucket: timedelta | None, oldest: datetime
) -> TimeRange | None:
    """Give the hours of a range that a roll-up by hour can answer for; None: there are none.

    Args:
        time_range: Of the request.
        bucket: Length of its buckets.
        oldest: Hours before it are not kept.
    """
    if bucket is not None and bucket % HOUR:
        return None
    return whole_units(time_range, HOUR, oldest)
