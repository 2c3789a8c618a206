"""Which parts of a range roll-ups answer for."""

from __future__ import annotations

from datetime import datetime, timedelta
from itertools import pairwise

from hypothesis import given
from hypothesis import strategies as st

from fernando_telemetry.domain.calendar import EPOCH
from fernando_telemetry.domain.rollup_cover import HOUR, MINUTE, by_raw_rows, cover_of
from fernando_telemetry.domain.time_range import TimeRange

SECOND = timedelta(seconds=1)
START = EPOCH + timedelta(days=20_000, hours=9, minutes=30, seconds=15)


def ranges(*pairs: tuple[datetime, datetime]) -> tuple[TimeRange, ...]:
    return tuple(TimeRange(*pair) for pair in pairs)


def test_hours_then_minutes_then_rows() -> None:
    end = START + 5 * HOUR
    cover = cover_of(TimeRange(START, end), 2 * HOUR, EPOCH, EPOCH)
    first_minute, first_hour = START + 45 * SECOND, START + 29 * MINUTE + 45 * SECOND
    last_minute, last_hour = end - 15 * SECOND, end - 30 * MINUTE - 15 * SECOND
    assert cover.hours == ranges((first_hour, last_hour))
    assert cover.minutes == ranges((first_minute, first_hour), (last_hour, last_minute))
    assert cover.raw == ranges((START, first_minute), (last_minute, end))


def test_buckets_that_are_no_whole_minutes_need_rows() -> None:
    whole = TimeRange(START, START + HOUR)
    assert cover_of(whole, 90 * SECOND, EPOCH, EPOCH) == by_raw_rows(whole)
    assert not cover_of(whole, 90 * MINUTE, EPOCH, EPOCH).hours


def test_what_is_no_longer_kept_is_not_asked_for() -> None:
    end = START + 10 * HOUR
    oldest = START + 3 * HOUR + 10 * SECOND
    cover = cover_of(TimeRange(START, end), MINUTE, oldest, EPOCH)
    assert cover.minutes == ranges((oldest + 35 * SECOND, end - 15 * SECOND))
    assert cover.raw[0] == TimeRange(START, oldest + 35 * SECOND)


@given(
    st.integers(0, 10**5),
    st.integers(1, 10**5),
    st.sampled_from([1, 60, 90, 3_600, 7_200, 86_400]),
    st.integers(0, 10**5),
    st.integers(0, 10**5),
)
def test_every_moment_is_covered_once(
    start: int, length: int, period: int, oldest_minute: int, oldest_hour: int
) -> None:
    begin = EPOCH + start * SECOND
    whole = TimeRange(begin, begin + length * SECOND)
    cover = cover_of(
        whole, period * SECOND, EPOCH + oldest_minute * SECOND, EPOCH + oldest_hour * SECOND
    )
    parts = sorted([*cover.raw, *cover.minutes, *cover.hours], key=lambda part: part.start)
    assert (parts[0].start, parts[-1].end) == (whole.start, whole.end)
    for before, behind in pairwise(parts):
        assert before.end == behind.start
    for unit, found in ((MINUTE, cover.minutes), (HOUR, cover.hours)):
        for part in found:
            assert not (part.start - EPOCH) % unit
            assert not (part.end - EPOCH) % unit
