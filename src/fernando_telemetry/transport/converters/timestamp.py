"""google.protobuf.Timestamp to datetime and back, and Duration; by integers only."""

from __future__ import annotations

from datetime import datetime, timedelta
from typing import Final

from google.protobuf.duration_pb2 import Duration
from google.protobuf.timestamp_pb2 import Timestamp

from fernando_telemetry.domain.calendar import EPOCH
from fernando_telemetry.domain.errors import InvalidField

_FIRST_SECOND: Final = -62_135_596_800
_LAST_SECOND: Final = 253_402_300_799
_SECONDS_PER_DAY: Final = 86_400
# As google.protobuf.Duration has it: 10,000 years either way.
_LONGEST_SECONDS: Final = 315_576_000_000


def timestamp_of(time: datetime) -> Timestamp:
    """Give an aware time as a message."""
    since = time - EPOCH
    return Timestamp(
        seconds=since.days * _SECONDS_PER_DAY + since.seconds, nanos=since.microseconds * 1_000
    )


def datetime_of(stamp: Timestamp, path: str) -> datetime:
    """Give a message as a time in UTC; nanoseconds below the microsecond are cut off.

    Raises:
        InvalidField: It lies outside the years 1 to 9999, or its nanos are no fraction.
    """
    if not _FIRST_SECOND <= stamp.seconds <= _LAST_SECOND:
        raise InvalidField(path, "a time of the years 1 to 9999 is needed.")
    if not 0 <= stamp.nanos < 1_000_000_000:
        raise InvalidField(f"{path}.nanos", "0 to 999,999,999 are allowed.")
    return EPOCH + timedelta(seconds=stamp.seconds, microseconds=stamp.nanos // 1_000)


def timedelta_of(duration: Duration, path: str) -> timedelta:
    """Give a message as a length of time; nanoseconds below the microsecond are cut off.

    Raises:
        InvalidField: It is longer than 10,000 years, or its nanos are no fraction.
    """
    if abs(duration.seconds) > _LONGEST_SECONDS or abs(duration.nanos) >= 1_000_000_000:
        raise InvalidField(path, "at most 10,000 years, with a fraction below a second.")
    return timedelta(seconds=duration.seconds, microseconds=duration.nanos // 1_000)
