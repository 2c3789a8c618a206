"""Every column a filter may name, under every operator, is SQL that PostgreSQL takes."""

from __future__ import annotations

from datetime import datetime

import pytest

from fernando.telemetry.v1 import (
    ListBusinessMetricsRequest,
    ListEventsRequest,
    ListSpansRequest,
    ListSystemMetricsRequest,
    SearchTracesRequest,
)
from fernando_telemetry.domain.filter_columns import (
    BUSINESS_METRIC_COLUMNS,
    EMPTY_MEANS_NULL,
    EVENT_COLUMNS,
    NESTED_TYPES,
    SAMPLE_COLUMNS,
    SERIES_COLUMNS,
    SPAN_COLUMNS,
    Column,
    Columns,
    ColumnType,
)
from fernando_telemetry.transport.event_servicer import EventService
from fernando_telemetry.transport.metric_servicer import MetricService
from fernando_telemetry.transport.trace_servicer import TraceService
from tests.integration.queries.rows import day

LITERALS = {
    ColumnType.TEXT: "text",
    ColumnType.NUMBER: "-1.5",
    ColumnType.DECIMAL: "12345678901234567890.123456789012345678",
    ColumnType.INTEGER: "-7",
    ColumnType.TIMESTAMP: "2026-05-17T09:30:00Z",
    ColumnType.UUID: "01890a5d-ac96-774b-bcce-b302099a8057",
    ColumnType.INET: "::1",
    ColumnType.TRACE_ID: "0" * 31 + "1",
    ColumnType.SPAN_ID: "0" * 15 + "1",
    ColumnType.SERIES_ID: "0" * 31 + "1",
    ColumnType.TEXT_LIST: "text",
    ColumnType.TEXT_MAP: "key",
    ColumnType.JSON: "key",
}


def filters_of(column: Column) -> list[str]:
    literals = column.words or (LITERALS[column.type],)
    found = [f"{column.name} {op} {value}" for op in column.operators for value in literals]
    if column.type in EMPTY_MEANS_NULL:
        found += [f'{column.name} = ""', f'{column.name} != ""']
    if column.type in NESTED_TYPES:
        found += [
            f"{column.name}.key {op} {value}"
            for op in column.path_operators
            for value in ("text", "-1.5", "'1'", "true")
        ]
        found.append(f"{column.name}.key:*")
    return [*found, f"{column.name}:*", *(f"NOT {one}" for one in found)]


def cases(columns: Columns) -> list[str]:
    return [text for column in columns.values() for text in filters_of(column)]


@pytest.mark.parametrize("order_by", ["event_timestamp", "event_timestamp desc"])
async def test_events(events: EventService, today: datetime, order_by: str) -> None:
    for text in cases(EVENT_COLUMNS):
        request = ListEventsRequest(time_range=day(today), filter=text, order_by=order_by)
        assert not (await events.ListEvents(request, None)).events


async def test_spans(traces: TraceService, today: datetime) -> None:
    for text in cases(SPAN_COLUMNS):
        request = ListSpansRequest(time_range=day(today), filter=text)
        assert not (await traces.ListSpans(request, None)).spans


@pytest.mark.parametrize("order_by", ["start_time", "start_time desc"])
async def test_traces(traces: TraceService, today: datetime, order_by: str) -> None:
    for text in cases(SPAN_COLUMNS):
        request = SearchTracesRequest(time_range=day(today), filter=text, order_by=order_by)
        assert not (await traces.SearchTraces(request, None)).traces


@pytest.mark.parametrize("include_superseded", [False, True])
async def test_business_metrics(
    metrics: MetricService, today: datetime, include_superseded: bool
) -> None:
    for text in cases(BUSINESS_METRIC_COLUMNS):
        request = ListBusinessMetricsRequest(
            time_range=day(today), filter=text, include_superseded=include_superseded
        )
        assert not (await metrics.ListBusinessMetrics(request, None)).business_metrics


async def test_system_metrics(metrics: MetricService, today: datetime) -> None:
    of_series = cases(SERIES_COLUMNS)
    mixed = [f"{one} OR metric_value > 1" for one in of_series]
    for text in [*of_series, *cases(SAMPLE_COLUMNS), *mixed]:
        request = ListSystemMetricsRequest(time_range=day(today), filter=text)
        assert not (await metrics.ListSystemMetrics(request, None)).system_metrics
