"""Retention: how many days records live, by kind and licence; 0 means for ever.

A kind has a general term, and a licence may have one of its own, shorter or longer. A record goes
by its own time (a KPI by `period_end`): it is accepted until it is as old as its term, and gone
when midnight UTC so many days ago lies behind it, which is a day later at most.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from functools import cached_property
from typing import Final

from fernando_telemetry.domain.calendar import midnight
from fernando_telemetry.domain.limits import PARTITION_HORIZON_DAYS

# Packed samples are kept as system metrics are.
RETAINED_KINDS: Final = ("event", "system_metric", "business_metric", "span")


@dataclass(frozen=True, slots=True)
class RetentionPolicy:
    """The term of one kind.

    Attributes:
        kind: One of RETAINED_KINDS.
        license_id: The licence it is for; "": all that have none of their own.
        days: 0: for ever.
    """

    kind: str
    license_id: str
    days: int


@dataclass(frozen=True, slots=True)
class Term:
    """Records of one kind that share a term.

    Attributes:
        days: At least 1.
        license_ids: Whose they are; where `is_general`, whose they are not.
        is_general: They are those of all that have no term of their own.
    """

    days: int
    license_ids: tuple[str, ...]
    is_general: bool


@dataclass(frozen=True, slots=True)
class CleanedUp:
    """What a clean-up took, or would take, of one kind and licence.

    Attributes:
        kind: One of RETAINED_KINDS.
        license_id: The licence; "": all that have no term of their own.
        older_than: Records before it are gone.
        partitions: Dropped whole, with what other licences had in them.
        partition_bytes: Their size, with indexes.
        rows: Deleted one by one.
    """

    kind: str
    license_id: str
    older_than: datetime
    partitions: int = 0
    partition_bytes: int = 0
    rows: int = 0


@dataclass(frozen=True)
class KindRetention:
    """The terms of one kind.

    Attributes:
        general_days: Of records whose licence has no term of its own.
        license_days: By licence.
    """

    general_days: int
    license_days: Mapping[str, int] = field(default_factory=dict)

    def days_of(self, license_id: str) -> int:
        """Give the term of a licence's records; "" is none."""
        return self.license_days.get(license_id, self.general_days)

    @cached_property
    def shortest_days(self) -> int:
        """The shortest term; 0 where all are for ever."""
        return min(filter(None, (self.general_days, *self.license_days.values())), default=0)

    @cached_property
    def longest_days(self) -> int:
        """The longest term; 0 where one is for ever."""
        days = (self.general_days, *self.license_days.values())
        return max(days) if all(days) else 0

    def terms(self) -> list[Term]:
        """Group licences by their term; what is for ever has none."""
        by_days: dict[int, list[str]] = {}
        for license_id, days in sorted(self.license_days.items()):
            by_days.setdefault(days, []).append(license_id)
        found = [Term(days, tuple(ids), False) for days, ids in sorted(by_days.items()) if days]
        if self.general_days:
            found.append(Term(self.general_days, tuple(sorted(self.license_days)), True))
        return found


@dataclass(frozen=True)
class Retention:
    """The terms of all kinds."""

    events: KindRetention
    metrics: KindRetention
    business: KindRetention
    traces: KindRetention

    @classmethod
    def of_days(cls, events: int, metrics: int, business: int, traces: int) -> Retention:
        """Make it of general terms alone."""
        return cls(*map(KindRetention, (events, metrics, business, traces)))

    def of_kind(self, kind: str) -> KindRetention:
        """Give the terms of one of RETAINED_KINDS."""
        return self._by_kind[kind]

    def with_policies(self, policies: Iterable[RetentionPolicy]) -> Retention:
        """Give it with policies in place of its terms; what has none stays as it is."""
        by_kind = self._by_kind
        licenses = {kind: dict(terms.license_days) for kind, terms in by_kind.items()}
        general = {kind: terms.general_days for kind, terms in by_kind.items()}
        for policy in policies:
            if policy.license_id:
                licenses[policy.kind][policy.license_id] = policy.days
            else:
                general[policy.kind] = policy.days
        return Retention(*(KindRetention(general[kind], licenses[kind]) for kind in by_kind))

    def policies(self) -> list[RetentionPolicy]:
        """List what holds: of each kind the general term first, then licences by name."""
        return [
            RetentionPolicy(kind, license_id, days)
            for kind, terms in self._by_kind.items()
            for license_id, days in (("", terms.general_days), *sorted(terms.license_days.items()))
        ]

    @property
    def accepted_days(self) -> int:
        """Age of the oldest record that counts as accepted: 400 days where one has no limit."""
        days = [terms.longest_days for terms in self._by_kind.values()]
        return max(*days, 0 if all(days) else PARTITION_HORIZON_DAYS)

    @property
    def _by_kind(self) -> dict[str, KindRetention]:
        terms = (self.events, self.metrics, self.business, self.traces)
        return dict(zip(RETAINED_KINDS, terms, strict=True))


def kept_from(now: datetime, days: int) -> datetime:
    """Give the moment before which records of a term (at least 1 day) go."""
    return midnight(now) - timedelta(days=days)
