"""What collectors give: plain samples, turned into the contract's records in collection.py."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Literal, Protocol

Unit = Literal["percentage", "bytes", "count", "seconds"]


@dataclass(frozen=True, slots=True)
class Sample:
    """One value.

    Attributes:
        metric_unit: `percentage` runs from 0 to 100; `count` is also the unit of load averages
            and of cores.
        metric_type: A counter is cumulative since some start; a fall is a reset.
    """

    metric_name: str
    metric_value: float
    metric_unit: Unit
    labels: Mapping[str, str] = field(default_factory=dict)
    metric_type: Literal["gauge", "counter"] = "gauge"


class Collector(Protocol):
    """Reads one part of the machine.

    `collect` blocks and is called from changing threads, never from two at once. Values that
    are differences are left out of the first reading. What it raises costs its own samples only.
    """

    name: str

    def collect(self) -> list[Sample]:
        """Read now."""


def counter(
    metric_name: str, metric_value: float, metric_unit: Unit, labels: Mapping[str, str]
) -> Sample:
    """Give a cumulative sample."""
    return Sample(metric_name, metric_value, metric_unit, labels, "counter")
