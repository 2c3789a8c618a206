"""What a check needs to know besides the record."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime, timedelta

from fernando_telemetry.domain.limits import (
    FUTURE_SECONDS,
    PARTITION_HORIZON_DAYS,
    PERIOD_END_FUTURE_DAYS,
)

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
class Retention:
    """Days that records of each kind live; 0: for ever."""

    events_days: int
    metrics_days: int
    business_days: int
    traces_days: int

    @property
    def accepted_days(self) -> int:
        """Age of the oldest record that counts as accepted: 400 days where one has no limit."""
        days = (self.events_days, self.metrics_days, self.business_days, self.traces_days)
        return max(*days, 0 if all(days) else PARTITION_HORIZON_DAYS)


@dataclass(frozen=True, slots=True)
class CheckContext:
    """One batch's view: the receive time, accepted times as Unix seconds, the defaults."""

    received_at: datetime
    defaults: RecordDefaults
    oldest_event: int
    oldest_metric: int
    oldest_business: int
    oldest_span: int
    newest: int
    newest_period_end: int


def context_for(now: datetime, defaults: RecordDefaults, retention: Retention) -> CheckContext:
    """Make the context of a batch received at `now` (aware)."""

    def oldest(days: int) -> int:
        return int((now - timedelta(days=days)).timestamp()) if days else OLDEST_STORED_SECOND

    seconds = int(now.timestamp())
    return CheckContext(
        received_at=now,
        defaults=defaults,
        oldest_event=oldest(retention.events_days),
        oldest_metric=oldest(retention.metrics_days),
        oldest_business=oldest(retention.business_days),
        oldest_span=oldest(retention.traces_days),
        newest=seconds + FUTURE_SECONDS,
        newest_period_end=seconds + PERIOD_END_FUTURE_DAYS * 86_400,
    )
