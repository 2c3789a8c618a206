"""Percentiles of merged distributions.

Values are taken to lie evenly in their bucket. Distributions with equal bounds merge by adding
counts; with others the shares of each are added, which is as exact as their buckets are narrow.
"""

from __future__ import annotations

from bisect import bisect_left
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from functools import partial


@dataclass(frozen=True, slots=True)
class Merged:
    """Distributions of equal bounds, added up.

    Args:
        upper_bounds: Inclusive, rising; of all buckets but the last.
        counts: One more than bounds.
        low: The smallest value; None where it is not known.
        high: The largest value; None where it is not known.
    """

    upper_bounds: Sequence[float]
    counts: Sequence[float]
    low: float | None
    high: float | None


@dataclass(frozen=True, slots=True)
class _Stretch:
    """Values spread evenly over (low, high]; equal: all are there."""

    low: float
    high: float
    count: float


def percentile(parts: Iterable[Merged], share: float) -> float | None:
    """Give the value that a share of all values does not exceed; None where there are none.

    Args:
        parts: One for each set of bounds.
        share: Above 0, below 1.
    """
    stretches = [one for part in parts for one in _stretches(part)]
    wanted = share * sum(one.count for one in stretches)
    if not wanted:
        return None
    edges = sorted({edge for one in stretches for edge in (one.low, one.high)})
    # What adding up lost may put it behind the last one.
    place = min(bisect_left(edges, wanted, key=partial(_reached, stretches)), len(edges) - 1)
    edge = edges[place]
    if place == 0:
        return edge
    # Up to an edge the count grows evenly; at the edge it may jump.
    before, low = _reached(stretches, edges[place - 1]), edges[place - 1]
    jump = sum(one.count for one in stretches if one.low == one.high == edge)
    grown = _reached(stretches, edge) - jump - before
    if grown <= 0 or before + grown < wanted:
        return edge
    return low + (edge - low) * ((wanted - before) / grown)


def _reached(stretches: Iterable[_Stretch], value: float) -> float:
    """Give how many values do not exceed one."""
    count = 0.0
    for one in stretches:
        if value >= one.high:
            count += one.count
        elif value > one.low:
            count += one.count * ((value - one.low) / (one.high - one.low))
    return count


def _stretches(part: Merged) -> Iterable[_Stretch]:
    bounds = list(part.upper_bounds)
    filled = [place for place, count in enumerate(part.counts) if count > 0]
    if not filled:
        return
    low = part.low if part.low is not None else (min(0.0, bounds[0]) if bounds else 0.0)
    high = part.high if part.high is not None else (bounds[-1] if bounds else low)
    # Senders that do not know them leave both at 0; then the bounds have to do.
    first, last = filled[0], filled[-1]
    if first < len(bounds) and low > bounds[first]:
        low = bounds[first - 1] if first else bounds[first]
    if last > 0 and high < bounds[last - 1]:
        high = bounds[last] if last < len(bounds) else bounds[-1]
    for place in filled:
        lower = bounds[place - 1] if place else min(low, bounds[0] if bounds else low)
        upper = bounds[place] if place < len(bounds) else max(high, lower)
        lower, upper = max(lower, min(low, upper)), min(upper, max(high, lower))
        yield _Stretch(lower, upper, part.counts[place])
