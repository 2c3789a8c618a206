"""What becomes of a new series of a metric that has reached its limit.

Its identity loses detail in steps, each coarser than the one before; the first step that is a
series already, or may still become one, takes the sample. So labels that explode cost their own
detail and no sample, and the number of series has a bound whatever a client sends.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from datetime import date, timedelta
from typing import Final, Literal

from fernando_telemetry.domain.series import EVERY_LABEL, SeriesIdentity

OVERFLOW: Final = "__overflow__"
WINDOW_DAYS: Final = 7


@dataclass(frozen=True, slots=True)
class OverflowStep:
    """One coarser identity.

    Attributes:
        identity: The series that takes the samples.
        label: Key of the label that was replaced; EVERY_LABEL: all were, and more.
        level: 1: one label; 2: all labels and the instance; 3: all that tells series apart but
            type and temporality.
    """

    identity: SeriesIdentity
    label: str
    level: Literal[1, 2, 3]


def window_start(today: date) -> date:
    """Give the last day that no longer counts: series seen after it count against the limit."""
    return today - timedelta(days=WINDOW_DAYS)


def most_varied_label(identity: SeriesIdentity, ranking: Sequence[str]) -> str:
    """Give the key to be replaced first; "" where no label is left to replace.

    Args:
        identity: The new series.
        ranking: Label keys of its metric, the one with most distinct values first.
    """
    keys = {key for key, value in identity.labels if value != OVERFLOW}
    return next((key for key in ranking if key in keys), min(keys, default=""))


def with_label_replaced(identity: SeriesIdentity, key: str) -> SeriesIdentity:
    """Give the identity with one label's value replaced."""
    labels = tuple((own, OVERFLOW if own == key else value) for own, value in identity.labels)
    return replace(identity, labels=labels)


def overflow_steps(identity: SeriesIdentity, ranking: Sequence[str]) -> list[OverflowStep]:
    """List what an identity may become, finest first; the last one is always allowed.

    Level 3 is at most one series for each type and temporality of a metric, which is what bounds
    the number of series.
    """
    steps: list[OverflowStep] = []
    key = most_varied_label(identity, ranking)
    if key:
        steps.append(OverflowStep(with_label_replaced(identity, key), key, 1))
    without_labels = replace(
        identity,
        labels=tuple((own, OVERFLOW) for own, _ in identity.labels),
        instance_id=OVERFLOW if identity.instance_id else "",
    )
    if without_labels not in (identity, *(step.identity for step in steps)):
        steps.append(OverflowStep(without_labels, EVERY_LABEL, 2))
    collapsed = replace(
        identity,
        labels=((OVERFLOW, OVERFLOW),),
        metric_unit="",
        service_name=OVERFLOW,
        host_name=OVERFLOW,
        instance_id=OVERFLOW,
    )
    steps.append(OverflowStep(collapsed, EVERY_LABEL, 3))
    return steps
