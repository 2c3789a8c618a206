"""The kinds of records that `query` lists: where they come from and what their tables show."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from typing import Final

from google.protobuf.message import Message

from fernando_telemetry.cli.record_json import json_line
from fernando_telemetry.cli.tables import Cells, ColumnSpec, Style, columns_of


@dataclass(frozen=True, slots=True)
class ListKind:
    """A kind of record that can be listed.

    Args:
        noun: For sentences, singular.
        service: Its service in the contract, without the word Service.
        method: The method that lists it.
        time_field: What the time range and the order are about.
        records_field: The list in a page.
        last: Length of the time range where none is asked for.
        columns: In the order of display.
        cells: Writes a page's cells.
        line: Writes a record as a line of JSON.
        plural: Of the noun; "": it has an s.
    """

    noun: str
    service: str
    method: str
    time_field: str
    records_field: str
    last: str
    columns: tuple[ColumnSpec, ...]
    cells: Callable[[Sequence[Message], Sequence[ColumnSpec], Style], list[Cells]] = columns_of
    line: Callable[[Message], str] = json_line
    plural: str = ""


def _trace_cells(
    records: Sequence[Message], specs: Sequence[ColumnSpec], style: Style
) -> list[Cells]:
    """Write a page's cells; for people trace ids are as short as `query trace` takes them."""
    cells = columns_of(records, specs, style)
    if style.today is None:
        return cells
    return [
        replace(one, texts=tuple(text.removeprefix("0" * 16) for text in one.texts))
        if one.spec.name == "trace_id"
        else one
        for one in cells
    ]


EVENTS: Final = ListKind(
    "event",
    "Event",
    "ListEvents",
    "event_timestamp",
    "events",
    "5m",
    (
        ColumnSpec("event_timestamp", 1),
        ColumnSpec("event_type", 2),
        ColumnSpec("event_name", 3, 12),
        ColumnSpec("duration_ms", 6),
        ColumnSpec("user_id", 4, 8),
        ColumnSpec("license_id", 8, 10),
        ColumnSpec("event_category", 9, 14),
        ColumnSpec("source", 7, 6),
        ColumnSpec("source_ip", 12),
        ColumnSpec("session_id", 11, 12),
        ColumnSpec("trace_id", 13),
        ColumnSpec("tags", 10, 8),
        ColumnSpec("event_data", 5, 12),
    ),
)
METRICS: Final = ListKind(
    "sample",
    "Metric",
    "ListSystemMetrics",
    "metric_timestamp",
    "system_metrics",
    "5m",
    (
        ColumnSpec("metric_timestamp", 1),
        ColumnSpec("metric_name", 2, 16),
        ColumnSpec("metric_value", 3),
        ColumnSpec("metric_unit", 4, 11),
        ColumnSpec("percentile_50", 9),
        ColumnSpec("percentile_90", 11),
        ColumnSpec("percentile_95", 8),
        ColumnSpec("percentile_99", 10),
        ColumnSpec("distribution", 7, 16),
        ColumnSpec("service_name", 6, 12),
        ColumnSpec("host_name", 12, 9),
        ColumnSpec("instance_id", 14, 11),
        ColumnSpec("license_id", 13, 10),
        ColumnSpec("metric_type", 15),
        ColumnSpec("labels", 5, 12),
    ),
)
BUSINESS: Final = ListKind(
    "KPI",
    "Metric",
    "ListBusinessMetrics",
    "period_start",
    "business_metrics",
    "24h",
    (
        ColumnSpec("period_start", 1, dated=True),
        ColumnSpec("period_end", 7, dated=True),
        ColumnSpec("period_type", 5),
        ColumnSpec("metric_name", 2, 16),
        ColumnSpec("metric_value", 3),
        ColumnSpec("currency", 4),
        ColumnSpec("metric_unit", 6, 11),
        ColumnSpec("superseded", 3),
        ColumnSpec("metric_category", 9, 10),
        ColumnSpec("license_id", 10, 10),
        ColumnSpec("customer_id", 11, 11),
        ColumnSpec("user_id", 12, 8),
        ColumnSpec("calculation_method", 13),
        ColumnSpec("time_zone", 14),
        ColumnSpec("dimensions", 8, 12),
    ),
)
SPANS: Final = ListKind(
    "span",
    "Trace",
    "ListSpans",
    "start_time",
    "spans",
    "5m",
    (
        ColumnSpec("start_time", 1),
        ColumnSpec("service_name", 2, 12),
        ColumnSpec("operation_name", 3, 14),
        ColumnSpec("duration_ms", 4),
        ColumnSpec("status", 5),
        ColumnSpec("http_status_code", 9),
        ColumnSpec("kind", 8),
        ColumnSpec("user_id", 12, 8),
        ColumnSpec("host_name", 13, 9),
        ColumnSpec("trace_id", 6),
        ColumnSpec("span_id", 10),
        ColumnSpec("parent_span_id", 11),
        ColumnSpec("error_message", 7, 16),
        ColumnSpec("tags", 14, 12),
    ),
)
TRACES: Final = ListKind(
    "trace",
    "Trace",
    "SearchTraces",
    "start_time",
    "traces",
    "5m",
    (
        ColumnSpec("start_time", 1),
        ColumnSpec("root_service_name", 6, 8),
        ColumnSpec("root_operation_name", 6, 12),
        ColumnSpec("duration_ms", 3),
        # What is cut of these are their names; counts have fewer digits.
        ColumnSpec("span_count", 5, 7),
        ColumnSpec("error_count", 4, 7),
        ColumnSpec("orphan_count", 9),
        ColumnSpec("spans_by_service", 8, 16),
        ColumnSpec("trace_id", 2),
    ),
    _trace_cells,
)
# Percentiles that are within 2 %.
GRAPH_DIGITS: Final = 3
# The two sides of a service graph, which has no pages.
EDGES: Final = ListKind(
    "edge",
    "Trace",
    "GetServiceGraph",
    "start_time",
    "edges",
    "1h",
    (
        ColumnSpec("client_service_name", 1, 12),
        ColumnSpec("server_service_name", 2, 12),
        ColumnSpec("call_count", 3),
        ColumnSpec("error_count", 4),
        ColumnSpec("p50_duration_ms", 6, digits=GRAPH_DIGITS),
        ColumnSpec("p95_duration_ms", 5, digits=GRAPH_DIGITS),
    ),
)
SERVICES: Final = replace(
    EDGES,
    noun="service",
    records_field="nodes",
    columns=(
        ColumnSpec("service_name", 1, 12),
        ColumnSpec("span_count", 2),
        ColumnSpec("error_count", 3),
        ColumnSpec("p50_duration_ms", 5, digits=GRAPH_DIGITS),
        ColumnSpec("p95_duration_ms", 4, digits=GRAPH_DIGITS),
    ),
)

LIST_KINDS: Final = {
    "events": EVENTS,
    "metrics": METRICS,
    "business": BUSINESS,
    "spans": SPANS,
    "traces": TRACES,
}
