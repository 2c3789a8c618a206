"""Flags that ask for spans are a filter that the server reads as meant."""

from __future__ import annotations

from typing import Any

import pytest
import typer

from fernando_telemetry.cli.span_filter import span_filter
from fernando_telemetry.domain.filter_columns import SPAN_COLUMNS
from fernando_telemetry.domain.filters import Comparison, Junction, columns_of, parse

NONE: dict[str, Any] = {
    "filter": "",
    "service_name": "",
    "operation_name": "",
    "min_duration": None,
    "max_duration": None,
    "status": "",
    "tags": None,
}


def test_a_filter_alone_stays_as_typed() -> None:
    assert span_filter(**NONE) == ""
    assert span_filter(**NONE | {"filter": " status  = error"}) == " status  = error"


@pytest.mark.parametrize("text", ["web", 'a "b" \\', "x' OR '1'='1", "a\nb", "%"])
def test_any_text_is_one_value(text: str) -> None:
    written = span_filter(**NONE | {"service_name": text, "operation_name": text})
    conditions = parse(written, SPAN_COLUMNS)
    assert [one.value for one in conditions if isinstance(one, Comparison)] == [text, text]


def test_all_of_it_is_asked_for() -> None:
    written = span_filter(
        filter="user_id = a OR user_id = b",
        service_name="web",
        operation_name="GET /",
        min_duration="250ms",
        max_duration="1.5s",
        status="error",
        tags=["http.method=GET", "a=b=c"],
    )
    conditions = parse(written, SPAN_COLUMNS)
    assert isinstance(conditions[0], Junction)
    assert [[column.name for column in columns_of(one)] for one in conditions[1:]] == [
        ["service_name"],
        ["operation_name"],
        ["status"],
        ["duration_ms"],
        ["duration_ms"],
        ["tags"],
        ["tags"],
    ]
    assert "duration_ms >= 250.0 AND duration_ms <= 1500.0" in written
    assert 'tags."a" = "b=c"' in written


@pytest.mark.parametrize(
    ("given", "option"),
    [
        ({"min_duration": "5x"}, "--min-duration"),
        ({"max_duration": ""}, "--max-duration"),
        ({"tags": ["a"]}, "--tags"),
        ({"tags": ["=b"]}, "--tags"),
    ],
)
def test_what_is_none_is_refused(given: dict[str, Any], option: str) -> None:
    with pytest.raises(typer.BadParameter) as caught:
        span_filter(**NONE | given)
    assert caught.value.param_hint == option
