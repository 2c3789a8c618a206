"""How many rows have their time in a range, by what is known of recent flushes."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta

from fernando_telemetry.storage.recent_flushes import MOST_FLUSHES, RecentFlushes

NOW = datetime(2026, 5, 17, 12, tzinfo=UTC)
SECOND = timedelta(seconds=1)


def test_nothing_is_known_of_what_came_before_the_first_look() -> None:
    recent = RecentFlushes()
    assert recent.rows_within(NOW, NOW + SECOND) is None
    recent.note(NOW, [])
    assert recent.rows_within(NOW - SECOND, NOW + SECOND) is None
    assert recent.rows_within(NOW, NOW + SECOND) == 0


def test_flushes_that_meet_the_range_count_whole() -> None:
    recent = RecentFlushes()
    recent.note(NOW, [(NOW, NOW + 2 * SECOND, 10), (NOW - 60 * SECOND, NOW + SECOND, 7)])
    recent.note(NOW + SECOND, [(NOW + 5 * SECOND, NOW + 6 * SECOND, 100)])
    assert recent.rows_within(NOW, NOW + SECOND) == 17
    assert recent.rows_within(NOW + 2 * SECOND, NOW + 3 * SECOND) == 10
    assert recent.rows_within(NOW + 3 * SECOND, NOW + 5 * SECOND) == 0
    assert recent.rows_within(NOW + SECOND, NOW + 9 * SECOND) == 117


def test_what_was_forgotten_is_no_longer_known() -> None:
    recent = RecentFlushes()
    times = [NOW + number * SECOND for number in range(MOST_FLUSHES + 3)]
    recent.note(times[-1], [(time, time, 1) for time in times])
    assert recent.rows_within(times[-3], times[-1]) is None, "the first look is what counts"
    recent = RecentFlushes()
    recent.note(NOW, [])
    recent.note(times[-1], [(time, time, 1) for time in times])
    assert recent.rows_within(times[1], times[1] + SECOND) is None
    assert recent.rows_within(times[5], times[7]) == 2


def test_a_clock_ahead_does_not_spoil_what_is_known() -> None:
    recent = RecentFlushes()
    ahead = NOW + 86_400 * SECOND
    recent.note(NOW, [(NOW, ahead, 5)])
    recent.note(NOW + SECOND, [(NOW, NOW, 1)] * MOST_FLUSHES)
    assert recent.rows_within(NOW + SECOND, NOW + 2 * SECOND) == 0
