"""Numbers out of measurements, and the line that a benchmark ends with."""

from __future__ import annotations

import json
import math
import os
import statistics
from collections.abc import Callable, Sequence
from typing import Any

Figures = dict[str, Any]
# Takes lines about the progress.
Report = Callable[[str], None]


def median(values: Sequence[float]) -> float:
    """Give the median; 0 where there are none."""
    return statistics.median(values) if values else 0.0


def percentile(values: Sequence[float], percent: float) -> float:
    """Give the smallest value that so many percent do not exceed; 0 where there are none."""
    ordered = sorted(values)
    if not ordered:
        return 0.0
    return ordered[max(0, math.ceil(percent / 100 * len(ordered)) - 1)]


def quotient(value: float, other: float) -> float:
    """Give a ratio with three decimals; 0 where there is nothing to compare with."""
    return round(value / other, 3) if other else 0.0


def load_average() -> float:
    """Give the machine's load average over one minute."""
    return round(os.getloadavg()[0], 2)


def as_line(figures: Figures) -> str:
    """Give the JSON line."""
    return json.dumps(figures)
