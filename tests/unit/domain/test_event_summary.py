"""Which summaries are refused, and which hours a roll-up answers for."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta

import pytest

from fernando_telemetry.domain.errors import InvalidField, QueryTooExpensive
from fernando_telemetry.domain.event_summary import (
    GROUP_COLUMNS,
    check_bucket,
    whole_hours,
)
from fernando_telemetry.domain.grouping import group_fields
from fernando_telemetry.domain.log_histogram import BASE, ZERO_BUCKET, middle_of
from fernando_telemetry.domain.time_range import TimeRange

NOON = datetime(2026, 5, 17, 12, tzinfo=UTC)
HOUR = timedelta(hours=1)
MINUTE = timedelta(minutes=1)
LONG_AGO = NOON - timedelta(days=400)


def test_a_middle_is_within_two_percent_of_both_ends() -> None:
    for bucket in (-200, -1, 0, 1, 150, 705):
        for end in (BASE ** (bucket - 1), BASE**bucket):
            assert middle_of(bucket) == pytest.approx(end, rel=0.02)
    assert middle_of(ZERO_BUCKET) == 0.0


def test_ragged_ends_are_left_out() -> None:
    found = whole_hours(TimeRange(NOON - MINUTE, NOON + 3 * HOUR + MINUTE), None, LONG_AGO)
    assert found == TimeRange(NOON, NOON + 3 * HOUR)
    assert whole_hours(found, 2 * HOUR, LONG_AGO) == found


@pytest.mark.parametrize(
    ("start", "end", "bucket"),
    [
        (NOON + MINUTE, NOON + HOUR + MINUTE, None),
        (NOON + MINUTE, NOON + 2 * MINUTE, None),
        (NOON, NOON + HOUR, MINUTE),
        (NOON, NOON + 3 * HOUR, 90 * MINUTE),
    ],
)
def test_without_whole_hours_the_roll_up_is_not_asked(
    start: datetime, end: datetime, bucket: timedelta | None
) -> None:
    assert whole_hours(TimeRange(start, end), bucket, LONG_AGO) is None


def test_hours_past_the_term_are_not_asked_for() -> None:
    found = whole_hours(TimeRange(NOON - 5 * HOUR, NOON), None, NOON - 2 * HOUR - MINUTE)
    assert found == TimeRange(NOON - 2 * HOUR, NOON)


def test_columns_to_group_by_are_known_and_come_once() -> None:
    found = group_fields(GROUP_COLUMNS, GROUP_COLUMNS)
    assert tuple(field.column for field in found) == GROUP_COLUMNS
    for unknown in ("user_id; DROP", "event_data.method", "", "."):
        with pytest.raises(InvalidField, match=r"group_by\[1\].*allowed are [a-z_, ]+\.$"):
            group_fields(["source", unknown], GROUP_COLUMNS)
    with pytest.raises(InvalidField, match=r"group_by\[1\].*twice"):
        group_fields(["source"] * 2, GROUP_COLUMNS)
    with pytest.raises(InvalidField, match="50 fields are given, at most 8"):
        group_fields(["source"] * 50, GROUP_COLUMNS)


def test_too_many_buckets_name_one_that_fits() -> None:
    year = TimeRange(NOON, NOON + timedelta(days=365))
    with pytest.raises(QueryTooExpensive, match=r"smallest that fits is 2867\.\d+ s") as caught:
        check_bucket(timedelta(milliseconds=1), year)
    fits = float(str(caught.value).split()[-2])
    check_bucket(timedelta(seconds=fits), year)
    for bucket in (timedelta(0), -HOUR, timedelta(days=4_000)):
        with pytest.raises(InvalidField, match="bucket"):
            check_bucket(bucket, year)
