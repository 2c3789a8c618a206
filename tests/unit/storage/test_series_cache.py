"""The cache of series: bounded in bytes, right for one day."""

from __future__ import annotations

from datetime import date, timedelta

from fernando_telemetry.domain.series import ResolvedSeries
from fernando_telemetry.storage.series_cache import SeriesCache
from tests.unit.domain.test_series_overflow import identity

TODAY = date(2026, 5, 17)


def test_an_entry_holds_for_its_day() -> None:
    cache = SeriesCache(1_000_000)
    one = identity({"user": "u1"})
    cache.put(one, ResolvedSeries(7), TODAY)
    assert cache.get(one, TODAY) == ResolvedSeries(7)
    assert cache.get(one, TODAY + timedelta(days=1)) is None
    cache.put(one, ResolvedSeries(8), TODAY + timedelta(days=1))
    assert cache.get(one, TODAY + timedelta(days=1)) == ResolvedSeries(8)


def test_long_labels_take_the_room_of_many_short_ones() -> None:
    cache = SeriesCache(1_000_000)
    for number in range(2_000):
        cache.put(identity({"user": f"u{number}"}), ResolvedSeries(number), TODAY)
        assert cache.used_bytes <= 1_000_000
    short = len(cache)
    for number in range(2_000):
        labels = {f"key{place}": f"{number}-{place}".ljust(256, "x") for place in range(64)}
        cache.put(identity(labels), ResolvedSeries(number), TODAY)
        assert cache.used_bytes <= 1_000_000
    assert len(cache) < short / 10


def test_what_was_used_last_stays() -> None:
    cache = SeriesCache(100_000)
    kept = identity({"user": "kept"})
    cache.put(kept, ResolvedSeries(1), TODAY)
    for number in range(1_000):
        cache.put(identity({"user": f"u{number}"}), ResolvedSeries(number), TODAY)
        assert cache.get(kept, TODAY) == ResolvedSeries(1)


def test_putting_again_does_not_count_twice() -> None:
    cache = SeriesCache(100_000)
    one = identity({"user": "u1"})
    cache.put(one, ResolvedSeries(1), TODAY)
    used = cache.used_bytes
    cache.put(one, ResolvedSeries(1), TODAY + timedelta(days=1))
    assert (cache.used_bytes, len(cache)) == (used, 1)
