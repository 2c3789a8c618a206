"""PostgreSQL's enum types: the closed vocabularies of the contract."""

from __future__ import annotations

from sqlalchemy.dialects.postgresql import ENUM

from fernando_telemetry.domain import vocabulary
from fernando_telemetry.storage.schema.columns import metadata


def _enum(name: str, words: tuple[str, ...]) -> ENUM:
    return ENUM(*words, name=name, metadata=metadata)


event_type = _enum("event_type", vocabulary.EVENT_TYPES)
metric_type = _enum("metric_type", vocabulary.METRIC_TYPES)
temporality = _enum("temporality", vocabulary.TEMPORALITIES)
period_type = _enum("period_type", vocabulary.PERIOD_TYPES)
calculation_method = _enum("calculation_method", vocabulary.CALCULATION_METHODS)
span_kind = _enum("span_kind", vocabulary.SPAN_KINDS)
span_status = _enum("span_status", vocabulary.SPAN_STATUSES)
severity = _enum("severity", vocabulary.SEVERITIES)
alert_status = _enum("alert_status", vocabulary.ALERT_STATUSES)
impact_level = _enum("impact_level", vocabulary.IMPACT_LEVELS)
