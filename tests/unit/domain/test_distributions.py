"""Percentiles of merged distributions."""

from __future__ import annotations

import random
from bisect import bisect_left

import pytest

from fernando_telemetry.domain.distributions import Merged, percentile


def counted(values: list[float], bounds: list[float]) -> Merged:
    counts = [0.0] * (len(bounds) + 1)
    for value in values:
        counts[bisect_left(bounds, value)] += 1
    return Merged(bounds, counts, min(values), max(values))


@pytest.mark.parametrize("share", [0.5, 0.9, 0.95, 0.99])
def test_a_percentile_lies_in_the_bucket_of_its_rank(share: float) -> None:
    chance = random.Random(7)
    for _ in range(50):
        values = [chance.gauss(50, 20) for _ in range(chance.randrange(1, 400))]
        bounds = [float(bound) for bound in range(-100, 200, 5)]
        found = percentile([counted(values, bounds)], share)
        wanted = sorted(values)[max(0, -int(-share * len(values) // 1)) - 1]
        assert found is not None
        assert abs(found - wanted) <= 5


def test_distributions_of_different_bounds_merge() -> None:
    chance = random.Random(8)
    first = [chance.uniform(0, 100) for _ in range(5_000)]
    second = [chance.uniform(50, 150) for _ in range(5_000)]
    parts = [
        counted(first, [float(bound) for bound in range(10, 100, 10)]),
        counted(second, [float(bound) for bound in range(7, 150, 7)]),
    ]
    wanted = sorted(first + second)
    for share in (0.5, 0.95):
        assert percentile(parts, share) == pytest.approx(wanted[int(share * 10_000)], abs=2)


@pytest.mark.parametrize(
    ("part", "wanted"),
    [
        (Merged([], [4.0], 3.0, 7.0), 5.0),
        (Merged([10.0, 20.0], [0.0, 100.0, 0.0], 12.0, 18.0), 15.0),
        # Who does not know the smallest and largest value leaves both at 0.
        (Merged([10.0, 20.0], [50.0, 50.0, 0.0], 0.0, 0.0), 10.0),
        (Merged([10.0, 20.0], [0.0, 0.0, 5.0], 30.0, 30.0), 30.0),
        (Merged([10.0, 20.0], [0.0, 0.0, 5.0], None, None), 20.0),
        (Merged([-20.0, -10.0], [4.0, 0.0, 0.0], None, None), -20.0),
    ],
)
def test_edges(part: Merged, wanted: float) -> None:
    assert percentile([part], 0.5) == wanted


def test_no_values() -> None:
    assert percentile([], 0.5) is None
    assert percentile([Merged([1.0], [0.0, 0.0], None, None)], 0.5) is None
