"""KPIs."""

from __future__ import annotations

import json
from collections.abc import Callable, Sequence
from typing import Final

from fernando.telemetry.v1 import (
    BusinessMetric,
    BusinessMetricSummary,
    CalculationMethod,
    PeriodType,
)
from fernando_telemetry.domain.errors import InvalidField
from fernando_telemetry.domain.vocabulary import CALCULATION_METHODS, PERIOD_TYPES
from fernando_telemetry.queries.metrics import group_column
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


def period_word(number: int) -> str | None:
    """Give the word of a period type; None where it is not set.

    Raises:
        InvalidField: The contract has no such number.
    """
    if not number:
        return None
    if number > len(PERIOD_TYPES) or number < 0:
        raise InvalidField("period_type", f"{number} is no period type.")
    return PERIOD_TYPES[number - 1]


def summaries_by(group_by: Sequence[str]) -> Callable[[Row], BusinessMetricSummary]:
    """Give what makes messages of the rows of SummarizeBusinessMetrics."""
    paths = tuple(group_by)

    def message(row: Row) -> BusinessMetricSummary:
        return BusinessMetricSummary(
            metric_name=row["metric_name"],
            metric_category=row["metric_category"],
            metric_unit=row["metric_unit"],
            currency=row["currency"],
            period_type=_PERIODS[row["period_type"]],
            group={path: row[group_column(place)] for place, path in enumerate(paths)},
            value_count=row["value_count"],
            total_value=row["total_value"],
            avg_value=row["avg_value"],
            min_value=row["min_value"],
            max_value=row["max_value"],
            last_value=row["last_value"],
            active_licenses=row["active_licenses"],
            unique_users=row["unique_users"],
        )

    return message
