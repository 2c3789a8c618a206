"""KPIs."""

from __future__ import annotations

import json
from typing import Final

from fernando.telemetry.v1 import BusinessMetric, CalculationMethod, PeriodType
from fernando_telemetry.domain.vocabulary import CALCULATION_METHODS, PERIOD_TYPES
from fernando_telemetry.queries.pages import Row
from fernando_telemetry.transport.converters.timestamp import timestamp_of

_PERIODS: Final = {word: PeriodType.Value(f"PERIOD_TYPE_{word.upper()}") for word in PERIOD_TYPES}
_METHODS: Final[dict[str | None, CalculationMethod.ValueType]] = {
    None: CalculationMethod.CALCULATION_METHOD_UNSPECIFIED,
    **{
        word: CalculationMethod.Value(f"CALCULATION_METHOD_{word.upper()}")
        for word in CALCULATION_METHODS
    },
}


def business_metric_message(row: Row) -> BusinessMetric:
    """Give a row of ListBusinessMetrics as a message; the value is its exact decimal text."""
    return BusinessMetric(
        metric_name=row["metric_name"],
        metric_category=row["metric_category"] or "",
        metric_value=row["metric_value"],
        metric_unit=row["metric_unit"] or "",
        currency=row["currency"] or "",
        period_start=timestamp_of(row["period_start"]),
        period_end=timestamp_of(row["period_end"]),
        period_type=_PERIODS[row["period_type"]],
        calculation_method=_METHODS[row["calculation_method"]],
        license_id=row["license_id"] or "",
        customer_id=row["customer_id"] or "",
        user_id=row["user_id"] or "",
        dimensions=json.loads(row["dimensions"]),
        time_zone=row["time_zone"],
        metric_id=str(row["metric_id"]),
        ingested_at=timestamp_of(row["ingested_at"]),
        superseded=row["superseded"],
    )
