"""The identity of a metric series, and what the series dictionary says of it."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Final
from uuid import UUID

from fernando_telemetry.domain.identifiers import identity_hash

# Stands for all labels where more than one was replaced; no limit keeps a label from this name,
# whose verdict then says `labels` too.
EVERY_LABEL: Final = "*"


@dataclass(frozen=True, slots=True)
class SeriesIdentity:
    """All fields that make a series; "" and None stand for absent.

    Two samples belong to one series exactly when all of these are equal. Labels are sorted by
    key, so that the order a map travels in does not matter.
    """

    metric_name: str
    metric_type: str
    metric_unit: str
    service_name: str
    host_name: str
    instance_id: str
    labels: tuple[tuple[str, str], ...]
    license_id: str
    temporality: str
    _hash: int = field(init=False, repr=False, compare=False)

    def __post_init__(self) -> None:
        """Compute the hash once: a series is looked up for every one of its samples."""
        object.__setattr__(
            self,
            "_hash",
            hash(
                (
                    self.metric_name,
                    self.service_name,
                    self.host_name,
                    self.instance_id,
                    self.labels,
                    self.license_id,
                )
            ),
        )

    def __hash__(self) -> int:
        return self._hash

    def digest(self) -> UUID:
        """Give the 128-bit hash that is the series' id on the wire."""
        parts = [
            self.metric_name,
            self.metric_type,
            self.metric_unit,
            self.service_name,
            self.host_name,
            self.instance_id,
            self.license_id,
            self.temporality,
        ]
        for key, value in self.labels:
            parts += (key, value)
        return identity_hash(parts)


@dataclass(frozen=True, slots=True)
class ResolvedSeries:
    """Where the samples of an identity go.

    Attributes:
        series_id: Id in `metric_series`.
        overflowed_label: Key of the label whose value was replaced because the metric has
            reached its limit; EVERY_LABEL where all were, and more; "" for none.
    """

    series_id: int
    overflowed_label: str = ""

    @property
    def field_path(self) -> str:
        """The replaced field in the contract's words, for a verdict."""
        if self.overflowed_label == EVERY_LABEL:
            return "labels"
        return f"labels.{self.overflowed_label}"
