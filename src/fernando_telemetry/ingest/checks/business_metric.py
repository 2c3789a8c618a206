"""Checks a KPI."""

from __future__ import annotations

import json
import re
from decimal import Decimal
from functools import lru_cache
from zoneinfo import ZoneInfo, ZoneInfoNotFoundError

from fernando.telemetry.v1 import BusinessMetric
from fernando_telemetry.domain.currencies import CURRENCIES
from fernando_telemetry.domain.identifiers import identity_hash
from fernando_telemetry.domain.verdicts import Rejection
from fernando_telemetry.domain.vocabulary import CALCULATION_METHODS, PERIOD_TYPES
from fernando_telemetry.ingest.checks import values
from fernando_telemetry.ingest.checks.context import OLDEST_STORED_SECOND, CheckContext
from fernando_telemetry.storage.rows import Row

_DECIMAL = re.compile(r"-?\d{1,20}(\.\d{1,18})?", re.ASCII)


def decimal(value: str) -> Decimal:
    """Check a decimal number as text: up to 20 digits before the point, 18 behind it.

    Raises:
        Rejection: field_missing, invalid_decimal.
    """
    if not value:
        raise Rejection("field_missing", "metric_value", "must be set")
    if _DECIMAL.fullmatch(value) is None:
        raise Rejection(
            "invalid_decimal", "metric_value", "-?[0-9]{1,20}(.[0-9]{1,18})?, no exponent"
        )
    return Decimal(value)


@lru_cache(maxsize=1024)
def _zone(name: str) -> ZoneInfo | None:
    try:
        return ZoneInfo(name)
    except (ZoneInfoNotFoundError, ValueError, OSError):
        return None


def business_metric_row(metric: BusinessMetric, context: CheckContext) -> Row:
    """Check one KPI.

    Raises:
        Rejection: It cannot be stored.
    """
    text = values.text
    name = values.required_text(metric.metric_name, "metric_name")
    value = decimal(metric.metric_value)
    currency = metric.currency or None
    if currency is not None and currency not in CURRENCIES:
        raise Rejection("invalid_currency", "currency", "a code of ISO 4217 in capitals")
    for field in ("period_start", "period_end"):
        if not metric.HasField(field):
            raise Rejection("field_missing", field, "must be set")
    start = values.time_of(
        metric.period_start, "period_start", OLDEST_STORED_SECOND, context.newest
    )
    end = values.time_of(
        metric.period_end,
        "period_end",
        context.oldest_business.of(metric.license_id or context.defaults.license_id),
        context.newest_period_end,
    )
    if end <= start:
        raise Rejection("invalid_period", "period_end", "must be after period_start")
    zone_name = text(metric.time_zone, "time_zone") or "UTC"
    zone = _zone(zone_name)
    if zone is None:
        raise Rejection("invalid_time_zone", "time_zone", "a name of the IANA zone database")
    try:
        period_date = start.astimezone(zone).date()
    except OverflowError:
        raise Rejection("value_out_of_range", "period_start", "the years 1 to 9999") from None
    period_type = values.word(metric.period_type, PERIOD_TYPES, "period_type") or "custom"
    category = text(metric.metric_category, "metric_category")
    unit = text(metric.metric_unit, "metric_unit")
    license_id = text(metric.license_id, "license_id") or context.defaults.license_id or None
    customer_id = text(metric.customer_id, "customer_id")
    user_id = text(metric.user_id, "user_id")
    dimensions = sorted(values.string_map(metric.dimensions, "dimensions").items())
    identity = [
        name,
        category or "",
        unit or "",
        currency or "",
        start.isoformat(),
        end.isoformat(),
        period_type,
        license_id or "",
        customer_id or "",
        user_id or "",
        zone_name,
        *(part for entry in dimensions for part in entry),
    ]
    return (
        start,
        end,
        period_date,
        period_type,
        name,
        category,
        value,
        unit,
        currency,
        values.word(metric.calculation_method, CALCULATION_METHODS, "calculation_method"),
        license_id,
        customer_id,
        user_id,
        json.dumps(dict(dimensions), ensure_ascii=False),
        zone_name,
        identity_hash(identity),
    )
