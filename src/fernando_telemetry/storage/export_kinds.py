"""What is exported of each kind: where its records lie, its columns, the keys of both orders."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Final

from fernando_telemetry.domain.filter_columns import (
    BUSINESS_METRIC_COLUMNS,
    EVENT_COLUMNS,
    SERIES_COLUMNS,
    SPAN_COLUMNS,
    SYSTEM_METRIC_COLUMNS,
    Columns,
)
from fernando_telemetry.domain.paging import KeyType
from fernando_telemetry.domain.time_range import TimeRange
from fernando_telemetry.storage.export_columns import ExportColumns, Form
from fernando_telemetry.storage.list_statement import Key, Source
from fernando_telemetry.storage.rows import (
    BUSINESS_METRICS,
    DISTRIBUTIONS,
    EVENTS,
    SAMPLES,
    SPANS,
    RawTable,
)
from fernando_telemetry.storage.statements import load

sql = load("export")


@dataclass(frozen=True, slots=True)
class ExportSource:
    """One table that records of a kind lie in.

    Attributes:
        table: The table.
        base: Its statement, which ends in a WHERE clause; `$1` and `$2` bound the column that
            partitions the table.
        expressions: SQL of filter columns and of keys that are not called as theirs.
    """

    table: RawTable
    base: str
    expressions: Mapping[str, str]

    def in_order(self, keys: Iterable[tuple[str, KeyType]], *, inclusive: bool) -> Source:
        """Give it as the source of a list with these keys."""
        return Source(
            self.base,
            tuple(Key(name, kind, self.expressions.get(name, "")) for name, kind in keys),
            self.expressions,
            inclusive=inclusive,
        )


@dataclass(frozen=True, slots=True)
class Exported:
    """A kind of record as it is exported.

    Attributes:
        kind: Its word.
        sources: Where its records lie.
        filter_columns: What a filter may name.
        columns: What is given away.
        time_column: What a time range is on.
        range_keys: The total order by time, by the column that partitions the tables first.
        flush_keys: The total order by flush.
        has_equals: Records may be equal in all keys.
    """

    kind: str
    sources: tuple[ExportSource, ...]
    filter_columns: Columns
    columns: ExportColumns
    time_column: str
    range_keys: tuple[tuple[str, KeyType], ...]
    flush_keys: tuple[tuple[str, KeyType], ...]
    has_equals: bool = False

    @property
    def tables(self) -> tuple[RawTable, ...]:
        """The raw tables."""
        return tuple(source.table for source in self.sources)

    def reach(self, time_range: TimeRange) -> TimeRange:
        """Give where records of a time range may lie by the column that partitions the tables."""
        if self.time_column == self.range_keys[0][0]:
            return time_range
        # A period ends after its start, however much later.
        return TimeRange(time_range.start, datetime.max.replace(tzinfo=UTC))


_SAMPLE_EXPRESSIONS: Final = {
    **{name: f"s.{name}" for name in SERIES_COLUMNS},
    "series_id": "s.identity_hash",
    "series": "m.series_id",
    "metric_timestamp": "m.time",
    "metric_value": "m.value",
    "flush_id": "m.flush_id",
}
_PERCENTILES: Final = ("percentile_50", "percentile_90", "percentile_95", "percentile_99")

EVENT: Final = Exported(
    "event",
    (ExportSource(EVENTS, sql.events, {}),),
    EVENT_COLUMNS,
    ExportColumns(
        {
            "event_id": Form.TEXT,
            "event_timestamp": Form.TIME,
            "event_type": Form.TEXT,
            "event_name": Form.TEXT,
            "event_category": Form.TEXT,
            "user_id": Form.TEXT,
            "license_id": Form.TEXT,
            "session_id": Form.TEXT,
            "event_data": Form.JSON,
            "tags": Form.TEXTS,
            "duration_ms": Form.NUMBER,
            "source": Form.TEXT,
            "source_ip": Form.TEXT,
            "source_version": Form.TEXT,
            "user_agent": Form.TEXT,
            "trace_id": Form.TEXT,
            "span_id": Form.TEXT,
            "ingested_at": Form.TIME,
        },
        {"flush_id": Form.COUNT},
    ),
    "event_timestamp",
    (("event_timestamp", "time"), ("event_id", "uuid")),
    (("flush_id", "int8"), ("event_id", "uuid")),
)
SPAN: Final = Exported(
    "span",
    (ExportSource(SPANS, sql.spans, {}),),
    SPAN_COLUMNS,
    ExportColumns(
        {
            "trace_id": Form.TEXT,
            "span_id": Form.TEXT,
            "parent_span_id": Form.TEXT,
            "service_name": Form.TEXT,
            "operation_name": Form.TEXT,
            "kind": Form.TEXT,
            "start_time": Form.TIME,
            "duration_ms": Form.NUMBER,
            "end_time": Form.TIME,
            "status": Form.TEXT,
            "error_message": Form.TEXT,
            "http_method": Form.TEXT,
            "http_url": Form.TEXT,
            "http_status_code": Form.INTEGER,
            "user_id": Form.TEXT,
            "license_id": Form.TEXT,
            "session_id": Form.TEXT,
            "host_name": Form.TEXT,
            "instance_id": Form.TEXT,
            "service_version": Form.TEXT,
            "trace_state": Form.TEXT,
            "tags": Form.JSON,
            "events": Form.JSON,
            "links": Form.JSON,
            "ingested_at": Form.TIME,
        },
        {"flush_id": Form.COUNT, "ordinal": Form.INTEGER},
    ),
    "start_time",
    (("start_time", "time"), ("flush_id", "int8"), ("ordinal", "int4")),
    (("flush_id", "int8"), ("ordinal", "int4")),
)
BUSINESS_METRIC: Final = Exported(
    "business_metric",
    (ExportSource(BUSINESS_METRICS, sql.business_metrics, {}),),
    BUSINESS_METRIC_COLUMNS,
    ExportColumns(
        {
            "metric_id": Form.TEXT,
            "metric_name": Form.TEXT,
            "metric_category": Form.TEXT,
            "metric_value": Form.MONEY,
            "metric_unit": Form.TEXT,
            "currency": Form.TEXT,
            "period_start": Form.TIME,
            "period_end": Form.TIME,
            "period_type": Form.TEXT,
            "calculation_method": Form.TEXT,
            "license_id": Form.TEXT,
            "customer_id": Form.TEXT,
            "user_id": Form.TEXT,
            "dimensions": Form.JSON,
            "time_zone": Form.TEXT,
            "ingested_at": Form.TIME,
        },
        {"flush_id": Form.COUNT},
    ),
    "period_start",
    (("period_end", "time"), ("metric_id", "uuid")),
    (("flush_id", "int8"), ("metric_id", "uuid")),
)
SYSTEM_METRIC: Final = Exported(
    "system_metric",
    (
        ExportSource(
            SAMPLES,
            sql.samples,
            _SAMPLE_EXPRESSIONS
            | dict.fromkeys(_PERCENTILES, "NULL::double precision")
            | {"ordinal": "(-1)", "key_value": "m.value"},
        ),
        ExportSource(
            DISTRIBUTIONS,
            sql.distributions,
            _SAMPLE_EXPRESSIONS
            | {name: f"m.{name}" for name in _PERCENTILES}
            | {"ordinal": "m.ordinal", "key_value": "0::double precision"},
        ),
    ),
    SYSTEM_METRIC_COLUMNS,
    ExportColumns(
        {
            "metric_name": Form.TEXT,
            "metric_type": Form.TEXT,
            "metric_unit": Form.TEXT,
            "service_name": Form.TEXT,
            "host_name": Form.TEXT,
            "instance_id": Form.TEXT,
            "labels": Form.JSON,
            "license_id": Form.TEXT,
            "temporality": Form.TEXT,
            "series_id": Form.TEXT,
            "metric_timestamp": Form.TIME,
            "metric_value": Form.NUMBER,
            **dict.fromkeys(_PERCENTILES, Form.NUMBER),
            "distribution_count": Form.COUNT,
            "distribution_sum": Form.NUMBER,
            "distribution_min": Form.NUMBER,
            "distribution_max": Form.NUMBER,
            "upper_bounds": Form.NUMBERS,
            "bucket_counts": Form.COUNTS,
        },
        {
            "flush_id": Form.COUNT,
            "series": Form.INTEGER,
            "ordinal": Form.INTEGER,
            "key_value": Form.NUMBER,
        },
    ),
    "metric_timestamp",
    (
        ("metric_timestamp", "time"),
        ("flush_id", "int8"),
        ("series", "int4"),
        ("ordinal", "int4"),
        ("key_value", "float8"),
    ),
    (
        ("flush_id", "int8"),
        ("series", "int4"),
        ("metric_timestamp", "time"),
        ("ordinal", "int4"),
        ("key_value", "float8"),
    ),
    has_equals=True,
)
EXPORTED: Final = {one.kind: one for one in (EVENT, SYSTEM_METRIC, BUSINESS_METRIC, SPAN)}
