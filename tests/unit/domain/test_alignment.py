"""Buckets, and what stands in those without a value."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta

import pytest
from hypothesis import given
from hypothesis import strategies as st

from fernando_telemetry.domain.alignment import buckets_of, filled
from fernando_telemetry.domain.errors import QueryTooExpensive
from fernando_telemetry.domain.limits import QUERY_BUCKETS
from fernando_telemetry.domain.time_range import TimeRange

EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
START = datetime(2026, 5, 17, 9, 30, tzinfo=UTC)
MINUTE = timedelta(minutes=1)


def test_buckets_are_counted_from_1970() -> None:
    buckets = buckets_of(TimeRange(START + MINUTE, START + 12 * MINUTE), 7 * MINUTE)
    first = EPOCH + timedelta(microseconds=buckets.first_micros)
    assert (first - EPOCH) % (7 * MINUTE) == timedelta(0)
    assert first <= START + MINUTE < first + 7 * MINUTE
    last = first + (buckets.count - 1) * 7 * MINUTE
    assert last < START + 12 * MINUTE <= last + 7 * MINUTE


@given(st.integers(0, 10**15), st.integers(1, 10**15), st.integers(1, 10**9))
def test_the_period_that_is_named_fits(start: int, length: int, period: int) -> None:
    begin = EPOCH + timedelta(microseconds=start)
    time_range = TimeRange(begin, begin + timedelta(microseconds=length))
    try:
        buckets = buckets_of(time_range, timedelta(microseconds=period))
    except QueryTooExpensive as error:
        named = float(str(error).rpartition(" fits is ")[2].removesuffix(" s."))
        assert named > period / 1_000_000
        assert buckets_of(time_range, timedelta(seconds=named)).count <= QUERY_BUCKETS
    else:
        assert buckets.count <= QUERY_BUCKETS
        assert buckets.first_micros <= start < buckets.first_micros + period
        end = buckets.first_micros + buckets.count * period
        assert start + length <= end < start + length + period


@pytest.mark.parametrize(
    ("gap_fill", "values"),
    [("none", [1.0, 2.0]), ("previous", [1.0, 1.0, 2.0, 2.0]), ("zero", [0.0, 1.0, 0.0, 2.0, 0.0])],
)
def test_filled(gap_fill: str, values: list[float]) -> None:
    buckets = buckets_of(TimeRange(EPOCH, EPOCH + 5 * MINUTE), MINUTE)
    minute = 60_000_000
    micros, found, counts = filled(buckets, gap_fill, [minute, 3 * minute], [1.0, 2.0], [4, 5])  # type: ignore[arg-type]
    assert list(found) == values
    assert len(micros) == len(counts) == len(values)
    assert sum(counts) == 9
