"""Which parts of a range gaps are looked for in."""

from __future__ import annotations

from datetime import datetime, timedelta

import pytest

from fernando_telemetry.domain.calendar import EPOCH
from fernando_telemetry.domain.time_range import TimeRange
from fernando_telemetry.storage.list_statement import Parameters
from fernando_telemetry.storage.rollup_gaps import MOST_PARTS, NO_GAPS, Gaps

HOUR = timedelta(hours=1)


def hour(number: float) -> datetime:
    return EPOCH + number * HOUR


def ranges(gaps: Gaps, *within: tuple[float, float]) -> list[tuple[float, float]]:
    """Give the ranges of the statements, in hours."""
    parameters = Parameters()
    whole = [TimeRange(hour(start), hour(end)) for start, end in within]
    statements = gaps.statements("SELECT FROM t WHERE true", "time", whole, parameters)
    times = [(one - EPOCH) / HOUR for one in parameters.values if isinstance(one, datetime)]
    found = list(zip(times[::2], times[1::2], strict=True))
    assert len(found) == len(statements)
    if statements:
        assert parameters.values[:3] == [gaps.hours, gaps.firsts, gaps.lasts]
    else:
        assert parameters.values == []
    return found


@pytest.mark.parametrize(
    ("hours", "within", "wanted"),
    [
        ([], [(0, 9)], []),
        ([3], [(0, 9)], [(3, 4)]),
        # Several lanes, and hours side by side.
        ([3, 3, 4, 6], [(0, 9)], [(3, 5), (6, 7)]),
        # Of minutes a part of an hour.
        ([3], [(3.5, 9)], [(3.5, 4)]),
        ([3], [(0, 3.25), (3.5, 3.75)], [(3, 3.25), (3.5, 3.75)]),
        ([3, 8], [(4, 8)], []),
        (range(0, 2 * MOST_PARTS, 2), [(0, 99)], [(n, n + 1) for n in range(0, 48, 2)]),
        (range(0, 2 * MOST_PARTS + 2, 2), [(0, 99)], [(0, 2 * MOST_PARTS + 1)]),
    ],
)
def test_ranges(
    hours: list[int], within: list[tuple[float, float]], wanted: list[tuple[float, float]]
) -> None:
    count = len(hours)
    gaps = Gaps(tuple(hour(one) for one in hours), (1,) * count, (2,) * count)
    assert bool(gaps) == bool(hours)
    assert ranges(gaps, *within) == wanted


def test_without_gaps_there_are_no_statements() -> None:
    assert not NO_GAPS
    assert ranges(NO_GAPS, (0, 9)) == []
