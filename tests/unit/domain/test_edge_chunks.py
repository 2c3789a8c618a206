"""Chunks of ten minutes: which spans touch which, and what they leave of a range."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta

import pytest

from fernando_telemetry.domain.edge_chunks import (
    CHUNK,
    chunks_touched,
    gaps_between,
    range_of_callers,
    range_of_chunks,
)
from fernando_telemetry.domain.time_range import ALL_TIME, TimeRange

NOON = datetime(2026, 3, 1, 12, tzinfo=UTC)
MINUTE = timedelta(minutes=1)


@pytest.mark.parametrize("minute", range(20))
def test_a_minute_touches_the_chunks_that_look_for_callers_in_it(minute: int) -> None:
    at = NOON + minute * MINUTE
    chunks = [NOON + place * CHUNK for place in range(-4, 5)]
    looking = {
        chunk
        for chunk in chunks
        if (near := range_of_callers(TimeRange(chunk, chunk + CHUNK))).start <= at < near.end
    }
    assert chunks_touched([at]) == looking
    assert len(looking) in {2, 3}


def test_callers_are_looked_for_by_whole_minutes() -> None:
    second = timedelta(seconds=1)
    assert range_of_callers(TimeRange(NOON + second, NOON + 2 * second)) == TimeRange(
        NOON - 10 * MINUTE, NOON + 2 * MINUTE
    )
    assert range_of_callers(TimeRange(NOON, NOON + MINUTE)) == TimeRange(
        NOON - 10 * MINUTE, NOON + 2 * MINUTE
    )
    assert range_of_callers(ALL_TIME) == ALL_TIME


def test_gaps_and_chunks_are_the_range() -> None:
    chunks = [NOON, NOON + CHUNK, NOON + 3 * CHUNK]
    ragged = TimeRange(NOON - MINUTE, NOON + 5 * CHUNK - MINUTE)
    assert gaps_between(ragged, chunks) == [
        TimeRange(NOON - MINUTE, NOON),
        TimeRange(NOON + 2 * CHUNK, NOON + 3 * CHUNK),
        TimeRange(NOON + 4 * CHUNK, NOON + 5 * CHUNK - MINUTE),
    ]
    assert gaps_between(ragged, []) == [ragged]
    assert gaps_between(range_of_chunks(chunks[:2]), chunks[:2]) == []
