"""A span of time as queries take it: [start, end), both given."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Final

from fernando_telemetry.domain.errors import InvalidTimeRange


@dataclass(frozen=True, slots=True)
class TimeRange:
    """[start, end), aware and in UTC, to the microsecond.

    Raises:
        InvalidTimeRange: The end is not after the start.
    """

    start: datetime
    end: datetime

    def __post_init__(self) -> None:
        if self.end <= self.start:
            raise InvalidTimeRange(
                f"time_range.end_time {self.end.isoformat()} is not after time_range.start_time "
                f"{self.start.isoformat()}; the range is [start_time, end_time)."
            )


ALL_TIME: Final = TimeRange(datetime.min.replace(tzinfo=UTC), datetime.max.replace(tzinfo=UTC))
