"""Records of every kind for the guide's SQL, and what an independent count makes of them.

Ages straddle the guide's ranges (24 hours, 1 hour, 30 days), values are set and unset.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Callable, Iterable
from datetime import UTC, date, datetime, timedelta
from decimal import Decimal
from typing import Any, TypeVar
from zoneinfo import ZoneInfo

from fernando.telemetry.v1 import (
    BusinessMetric,
    CalculationMethod,
    Event,
    EventType,
    MetricType,
    PeriodType,
    SystemMetric,
)
from tests.integration.ingest.records import event, kpi, sample, stamp

Row = TypeVar("Row")
TYPES = {
    EventType.EVENT_TYPE_USER_ACTION: "user_action",
    EventType.EVENT_TYPE_API_EVENT: "api_event",
}
KPI_ZONE = ZoneInfo("Pacific/Auckland")


def events(now: datetime) -> list[Event]:
    """Give 240 events over the last 52 hours."""
    return [
        event(
            f"name-{place % 5}",
            event_timestamp=stamp(now - timedelta(minutes=13 * place)),
            event_type=list(TYPES)[place % 2],
            event_category=("", "authentication", "processing")[place % 3],
            user_id=f"user-{place % 7}" if place % 7 else "",
            license_id=f"licence-{place % 4}" if place % 4 else "",
            event_data=f'{{"method": "email", "place": {place}}}',
            **({"duration_ms": float(place)} if place % 5 else {}),
        )
        for place in range(240)
    ]


def samples(now: datetime) -> list[SystemMetric]:
    """Give samples of the last 5 hours: gauges in two units, histograms, counters."""
    made = []
    for place in range(60):
        service = ("api", "worker")[place % 2]
        shared: dict[str, Any] = {
            "metric_timestamp": stamp(now - timedelta(minutes=5 * place)),
            "service_name": service,
        }
        unit = ("percentage", "cores")[place // 2 % 2]
        made.append(sample("cpu_usage", metric_value=float(place), metric_unit=unit, **shared))
        made.append(
            sample(
                "response_time",
                metric_type=MetricType.METRIC_TYPE_HISTOGRAM,
                metric_value=245.0 + place,
                percentile_95=350.0 - place,
                metric_unit="milliseconds",
                **shared,
            )
        )
        made.append(
            sample(
                "requests",
                metric_type=MetricType.METRIC_TYPE_COUNTER,
                metric_value=10.0 * (60 - place),
                **shared,
            )
        )
    return made


def kpis(today: date) -> list[BusinessMetric]:
    """Give daily KPIs of 40 local days in Auckland: two currencies, averages, one sent again."""
    made = []
    for age in range(40):
        start = datetime.combine(today - timedelta(days=age), datetime.min.time(), KPI_ZONE)
        shared: dict[str, Any] = {
            "metric_category": "revenue",
            "period_start": stamp(start),
            "period_end": stamp(start + timedelta(days=1)),
            "period_type": PeriodType.PERIOD_TYPE_DAILY,
            "time_zone": KPI_ZONE.key,
        }
        total, average = (
            CalculationMethod.CALCULATION_METHOD_SUM,
            CalculationMethod.CALCULATION_METHOD_AVERAGE,
        )
        for place, currency in enumerate(("USD", "EUR", "USD")):
            made.append(
                kpi(
                    "revenue",
                    metric_value=f"{100 + age}.{place}9",
                    currency=currency,
                    calculation_method=total,
                    license_id=f"licence-{place}",
                    user_id="" if place else f"user-{age}",
                    **shared,
                )
            )
        made.append(
            kpi("revenue_per_user", metric_value="49.99", calculation_method=average, **shared)
        )
    return made


def grouped(rows: Iterable[Row], key: Callable[[Row], Any]) -> dict[Any, list[Row]]:
    """Group rows by a key."""
    groups: dict[Any, list[Row]] = defaultdict(list)
    for row in rows:
        groups[key(row)].append(row)
    return groups


def hour_of(moment: datetime, zone: str = "UTC") -> datetime:
    """Give the start of the hour in a zone, in UTC: a clock set back shows two hours alike."""
    local = moment.astimezone(ZoneInfo(zone))
    whole = local.replace(minute=0, second=0, microsecond=0)
    return moment.astimezone(UTC) - (local - whole)


def time_of(stamped: Any) -> datetime:
    """Give a Timestamp's moment."""
    moment: datetime = stamped.ToDatetime(UTC)
    return moment


def mean(values: list[Any]) -> Any:
    """Give the mean; None of nothing."""
    return sum(values) / len(values) if values else None


def total(values: Iterable[str]) -> Decimal:
    """Add up decimals."""
    return sum((Decimal(value) for value in values), Decimal(0))


def different(values: Iterable[str]) -> int:
    """Count different texts; an empty one is not set."""
    return len({value for value in values if value})
