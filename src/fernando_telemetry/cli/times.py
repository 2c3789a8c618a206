"""Times and durations as people write them on the command line."""

from __future__ import annotations

import re
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import Final

_UNITS: Final = {
    "ms": timedelta(milliseconds=1),
    "s": timedelta(seconds=1),
    "m": timedelta(minutes=1),
    "h": timedelta(hours=1),
    "d": timedelta(days=1),
    "w": timedelta(weeks=1),
}
_PART: Final = r"(\d{1,12}(?:\.\d{1,6})?)(ms|s|m|h|d|w)"
_DURATION: Final = re.compile(rf"(?:{_PART})+")
_RELATIVE: Final = re.compile(r"(?:now)?([+-])(.+)")
# datetime.fromisoformat also takes weeks and basic forms, which RFC 3339 does not have.
_RFC3339: Final = re.compile(
    r"\d{4}-\d\d-\d\d(?:[T ]\d\d:\d\d(?::\d\d(?:\.\d{1,9})?)?(?:Z|[+-]\d\d:\d\d)?)?"
)


@dataclass(frozen=True, slots=True)
class Moment:
    """A time that was read.

    Args:
        time: Aware, in UTC, to the microsecond (finer digits are cut).
        assumed_utc: It was written without an offset and taken as UTC.
    """

    time: datetime
    assumed_utc: bool = False


def parse_duration(text: str) -> timedelta:
    """Read `5m`, `1.5h` or `1h30m`; units are ms, s, m, h, d and w.

    Raises:
        ValueError: With a sentence; it is no duration, or too long for a calendar.
    """
    if not _DURATION.fullmatch(text):
        raise ValueError(f"{text!r} is no duration: write it as 30s, 5m, 1h30m, 7d or 2w")
    try:
        parts = (float(number) * _UNITS[unit] for number, unit in re.findall(_PART, text))
        return sum(parts, timedelta())
    except OverflowError:
        raise ValueError(f"{text!r} is too long") from None


def parse_time(text: str, now: datetime) -> Moment:
    """Read an RFC 3339 time, `now`, or a distance from now such as `-5m`.

    A time without offset, or a date alone (its first moment), is taken as UTC, as naive times are
    everywhere else in this product; the result says so.

    Args:
        text: As typed.
        now: What `now` means; aware.

    Raises:
        ValueError: With a sentence.
    """
    if text == "now":
        return Moment(now.astimezone(UTC))
    try:
        if relative := _RELATIVE.fullmatch(text):
            sign, distance = relative.groups()
            duration = parse_duration(distance)
            return Moment(now.astimezone(UTC) + (duration if sign == "+" else -duration))
        upper = text.upper()
        if _RFC3339.fullmatch(upper):
            time = datetime.fromisoformat(upper)
            if time.tzinfo is None:
                return Moment(time.replace(tzinfo=UTC), assumed_utc=True)
            return Moment(time.astimezone(UTC))
    except OverflowError:
        raise ValueError(f"{text!r} lies outside the years 1 to 9999") from None
    except ValueError as error:
        raise ValueError(f"{text!r} is no time: {error}") from None
    raise ValueError(
        f"{text!r} is no time: write 2026-05-17T09:30:00Z, 2026-05-17T11:30:00+02:00, now or -5m"
    )
