from __future__ import annotations

from datetime import UTC, datetime, timedelta, timezone

import pytest
from hypothesis import given
from hypothesis import strategies as st

from fernando_telemetry.domain.calendar import (
    DAY,
    HOUR,
    TEN_MINUTES,
    PartitionLength,
    midnight,
    parse_length,
    span_end,
    span_start,
)

LENGTHS = st.sampled_from(["month", DAY, HOUR, TEN_MINUTES]) | st.integers(10, DAY)
MOMENTS = st.datetimes(datetime(1, 1, 1), datetime(9998, 12, 31), timezones=st.just(UTC))  # noqa: DTZ001 - hypothesis wants naive bounds


def at(*parts: int) -> datetime:
    return datetime(*parts, tzinfo=UTC)  # type: ignore[misc, arg-type]


@given(moment=MOMENTS, length=LENGTHS)
def test_spans_hold_their_moments_and_tile_the_calendar(
    moment: datetime, length: PartitionLength
) -> None:
    start = span_start(moment, length)
    end = span_end(start, length)
    assert start <= moment < end
    assert span_start(start, length) == start
    assert span_start(end, length) == end
    assert span_start(end - timedelta(microseconds=1), length) == start


@pytest.mark.parametrize(
    ("length", "start", "end"),
    [
        ("month", at(2024, 2, 1), at(2024, 3, 1)),
        (DAY, at(2024, 2, 29), at(2024, 3, 1)),
        (HOUR, at(2024, 2, 29, 23), at(2024, 3, 1)),
        (TEN_MINUTES, at(2024, 2, 29, 23, 50), at(2024, 3, 1)),
        (10, at(2024, 2, 29, 23, 59, 50), at(2024, 3, 1)),
        # 7,001 s do not divide the day: its last span ends with it.
        (7_001, at(2024, 2, 29, 23, 20, 12), at(2024, 3, 1)),
    ],
)
def test_the_last_minute_of_a_leap_february(
    length: PartitionLength, start: datetime, end: datetime
) -> None:
    moment = at(2024, 2, 29, 23, 59, 59, 999_999)
    assert (span_start(moment, length), span_end(start, length)) == (start, end)


def test_december_ends_with_the_year() -> None:
    assert span_end(at(2025, 12, 1), "month") == at(2026, 1, 1)


def test_midnight_is_that_of_utc() -> None:
    lisbon_summer = timezone(timedelta(hours=1))
    assert midnight(datetime(2026, 7, 2, 0, 30, tzinfo=lisbon_summer)) == at(2026, 7, 1)


@pytest.mark.parametrize(
    ("text", "seconds"),
    [
        ("day", 86_400),
        ("Hour", 3_600),
        ("ten minutes", 600),
        ("ten_minutes", 600),
        ("10 seconds", 10),
        ("90s", 90),
        (" 86400 seconds ", 86_400),
    ],
)
def test_lengths_are_read_as_settings_spell_them(text: str, seconds: int) -> None:
    assert parse_length(text) == seconds


@pytest.mark.parametrize(
    "text", ["", "month", "9 seconds", "86401 seconds", "10", "-10 s", "1 day"]
)
def test_other_lengths_are_refused(text: str) -> None:
    with pytest.raises(ValueError, match="ten minutes"):
        parse_length(text)
