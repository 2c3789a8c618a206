"""Log-spaced histograms of durations: sparse, and merged by adding counts.

Bucket b holds (1.04^(b-1), 1.04^b], what is 0 has a bucket of its own. A percentile is given as
the middle of its bucket by ratio, so it is within 2 % of the value that has its rank.
"""

from __future__ import annotations

from typing import Final

BASE: Final = 1.04
# Below every bucket: a positive double lies above -19,000.
ZERO_BUCKET: Final = -32_768


def middle_of(bucket: int) -> float:
    """Give the value that stands for a bucket: its error is alike at both ends."""
    if bucket == ZERO_BUCKET:
        return 0.0
    return 2.0 * BASE**bucket / (BASE + 1.0)
