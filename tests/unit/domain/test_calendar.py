from __future__ import annotations

from datetime import UTC, datetime, timedelta, timezone
from typing import get_args

import pytest
from hypothesis import given
from hypothesis import strategies as st

from fernando_telemetry.domain.calendar import PartitionLength, midnight, span_end, span_start

LENGTHS: tuple[PartitionLength, ...] = get_args(PartitionLength)
MOMENTS = st.datetimes(datetime(1, 1, 1), datetime(9998, 12, 31), timezones=st.just(UTC))  # noqa: DTZ001 - hypothesis wants naive bounds


def at(*parts: int) -> datetime:
    return datetime(*parts, tzinfo=UTC)  # type: ignore[misc, arg-type]


@given(moment=MOMENTS, length=st.sampled_from(LENGTHS))
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
        ("day", at(2024, 2, 29), at(2024, 3, 1)),
        ("hour", at(2024, 2, 29, 23), at(2024, 3, 1)),
        ("ten_minutes", at(2024, 2, 29, 23, 50), at(2024, 3, 1)),
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
