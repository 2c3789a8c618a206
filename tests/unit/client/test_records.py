"""Builders of records."""

from __future__ import annotations

import json
from datetime import UTC, date, datetime, timedelta, timezone
from decimal import Decimal
from typing import Any, get_args
from uuid import UUID

import pytest

from fernando.telemetry.client import records
from fernando.telemetry.client.records import (
    NaiveDatetimeWarning,
    business_metric,
    event,
    json_text,
    span,
    system_metric,
    timestamp,
)
from fernando.telemetry.v1 import (
    CalculationMethod,
    EventType,
    MetricType,
    PeriodType,
    SpanKind,
    SpanStatus,
)

NOON = datetime(2026, 11, 24, 12, 0, 0, 123_456, tzinfo=UTC)


def test_aware_datetime_keeps_its_instant() -> None:
    local = NOON.astimezone(timezone(timedelta(hours=5, minutes=30)))
    assert timestamp(local) == timestamp(NOON)
    assert timestamp(NOON).nanos == 123_456_000


def test_naive_datetime_is_utc_and_warned_of() -> None:
    with pytest.warns(NaiveDatetimeWarning, match="taken as UTC"):
        assert timestamp(NOON.replace(tzinfo=None)) == timestamp(NOON)


def test_payload_becomes_json_text() -> None:
    data = {
        "ä": [1, 2.5, None, True],
        "at": NOON,
        "on": date(2026, 11, 24),
        "price": Decimal("1.10"),
        "id": UUID(int=1),
    }
    assert json.loads(json_text(data)) == {
        "ä": [1, 2.5, None, True],
        "at": NOON.isoformat(),
        "on": "2026-11-24",
        "price": "1.10",
        "id": "00000000-0000-0000-0000-000000000001",
    }


@pytest.mark.parametrize(
    ("value", "error"), [(float("nan"), ValueError), (float("inf"), ValueError), (b"x", TypeError)]
)
def test_payload_without_json_form_is_refused(value: Any, error: type[Exception]) -> None:
    with pytest.raises(error):
        json_text({"value": value})


def test_event_fills_the_message() -> None:
    built = event(
        "user_action",
        "login",
        event_category="auth",
        event_data={"ok": True},
        event_timestamp=NOON,
        tags=["a", "b"],
        duration_ms=0,
    )
    assert built.event_type == EventType.EVENT_TYPE_USER_ACTION
    assert built.event_data == '{"ok":true}'
    assert built.event_timestamp == timestamp(NOON)
    assert list(built.tags) == ["a", "b"]
    assert built.HasField("duration_ms")
    bare = event("api_event", "GET /")
    assert not bare.HasField("event_timestamp")
    assert not bare.HasField("duration_ms")
    assert bare.event_data == ""


def test_system_metric_fills_the_message() -> None:
    built = system_metric("gauge", "cpu_usage", 0, "percentage", labels={"core": "1"})
    assert built.metric_type == MetricType.METRIC_TYPE_GAUGE
    assert built.HasField("metric_value")
    assert dict(built.labels) == {"core": "1"}


@pytest.mark.parametrize(
    ("value", "text"),
    [
        (Decimal("12.30"), "12.30"),
        (Decimal("1E+3"), "1000"),
        (Decimal("1E-18"), "0.000000000000000001"),
        (7, "7"),
        ("0.1", "0.1"),
    ],
)
def test_business_metric_keeps_every_digit(value: Decimal | int | str, text: str) -> None:
    built = business_metric(
        "revenue",
        value,
        NOON,
        NOON + timedelta(days=1),
        period_type="daily",
        calculation_method="sum",
        currency="EUR",
    )
    assert built.metric_value == text
    assert built.period_type == PeriodType.PERIOD_TYPE_DAILY
    assert built.calculation_method == CalculationMethod.CALCULATION_METHOD_SUM


def test_business_metric_takes_no_float() -> None:
    value: Any = 0.1
    with pytest.raises(TypeError, match="float"):
        business_metric("revenue", value, NOON, NOON)


def test_span_ids_are_lower_case_and_padded() -> None:
    built = span("ABCDEF0123456789", "A1", "api", "GET /", kind="server", error=True)
    assert built.trace_id == "0000000000000000abcdef0123456789"
    assert built.span_id == "a1"
    assert built.kind == SpanKind.SPAN_KIND_SERVER
    assert built.status == SpanStatus.SPAN_STATUS_ERROR
    assert span("1", "2", "api", "x").status == SpanStatus.SPAN_STATUS_UNSPECIFIED


@pytest.mark.parametrize(
    ("words", "enum", "prefix"),
    [
        (records.EventTypeWord, EventType, "EVENT_TYPE_"),
        (records.MetricTypeWord, MetricType, "METRIC_TYPE_"),
        (records.PeriodTypeWord, PeriodType, "PERIOD_TYPE_"),
        (records.CalculationWord, CalculationMethod, "CALCULATION_METHOD_"),
        (records.SpanKindWord, SpanKind, "SPAN_KIND_"),
    ],
)
def test_words_are_those_of_the_contract(words: Any, enum: Any, prefix: str) -> None:
    contract = {name.removeprefix(prefix).lower() for name in enum.keys()}  # noqa: SIM118
    assert set(get_args(words)) == contract - {"unspecified"}
