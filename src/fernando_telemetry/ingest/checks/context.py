"""What a check needs to know besides the record."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime

from fernando_telemetry.domain.limits import FUTURE_SECONDS, PERIOD_END_FUTURE_DAYS
from fernando_telemetry.domain.retention import KindRetention, Retention

# PostgreSQL's timestamptz goes further; Python's datetime and RFC 3339 do not.
FIRST_SECOND = -62_135_596_800
# The driver takes the very first moment (Go's zero time) for -infinity.
OLDEST_STORED_SECOND = FIRST_SECOND + 1
LAST_SECOND = 253_402_300_799


@dataclass(frozen=True, slots=True)
class RecordDefaults:
    """Values for fields that a record leaves empty, given once per stream or request."""

    license_id: str = ""
    source: str = ""
    source_version: str = ""
    service_name: str = ""
    host_name: str = ""
    instance_id: str = ""


@dataclass(frozen=True, slots=True)
class Oldest:
    """First accepted moments of one kind, as Unix seconds.

    Attributes:
        seconds: The time that terms count back from.
        terms: How long records of the kind live.
    """

    seconds: int
    terms: KindRetention

    def of(self, license_id: str) -> int:
        """Give that of a licence's records; "" is none."""
        return self._before(self.terms.days_of(license_id))

    @property
    def of_all(self) -> int:
        """What is not older is accepted whatever its licence."""
        return self._before(self.terms.shortest_days)

    def _before(self, days: int) -> int:
        return self.seconds - days * 86_400 if days else OLDEST_STORED_SECOND


@dataclass(frozen=True, slots=True)
class CheckContext:
    """One batch's view: the receive time, accepted times as Unix seconds, the defaults."""

    received_at: datetime
    defaults: RecordDefaults
    oldest_event: Oldest
    oldest_metric: Oldest
    oldest_business: Oldest
    oldest_span: Oldest
    newest: int
    newest_period_end: int


def context_for(now: datetime, defaults: RecordDefaults, retention: Retention) -> CheckContext:
    """Make the context of a batch received at `now` (aware)."""
    seconds = int(now.timestamp())
    return CheckContext(
        received_at=now,
        defaults=defaults,
        oldest_event=Oldest(seconds, retention.events),
        oldest_metric=Oldest(seconds, retention.metrics),
        oldest_business=Oldest(seconds, retention.business),
        oldest_span=Oldest(seconds, retention.traces),
        newest=seconds + FUTURE_SECONDS,
        newest_period_end=seconds + PERIOD_END_FUTURE_DAYS * 86_400,
    )
