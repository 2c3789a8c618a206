"""Rows on their way into the raw tables: column orders, and what the flush adds to each.

A checked row is a tuple in the order of `given`. The flush puts the record's id in front, where
its table has one, and `added` behind.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, field
from typing import Any, Final

from fernando_telemetry.domain.series import SeriesIdentity
from fernando_telemetry.domain.verdicts import RecordKind

Row = tuple[Any, ...]


@dataclass(frozen=True, slots=True)
class RawTable:
    """A raw table's columns, in the order of COPY.

    Attributes:
        name: The table.
        extent: Its prefix among the columns of `flushes`.
        id_column: Column of a UUIDv7 made by the flush, or "".
        given: Columns of a checked row.
        added: Columns that the flush adds.
        time_index: Place in `given` of the column that partitions the table.
    """

    name: str
    extent: str
    id_column: str
    given: tuple[str, ...]
    added: tuple[str, ...]
    time_index: int

    @property
    def columns(self) -> list[str]:
        """All columns, in the order of COPY."""
        return [*([self.id_column] if self.id_column else []), *self.given, *self.added]


EVENTS: Final = RawTable(
    "telemetry_events",
    "event",
    "event_id",
    (
        "event_timestamp",
        "event_type",
        "event_name",
        "event_category",
        "user_id",
        "license_id",
        "session_id",
        "event_data",
        "tags",
        "duration_ms",
        "source",
        "source_ip",
        "source_version",
        "user_agent",
        "trace_id",
        "span_id",
    ),
    ("ingested_at", "shard", "flush_id"),
    0,
)
# The first column holds a SeriesIdentity until the flush's series are resolved.
SAMPLES: Final = RawTable(
    "metric_samples", "sample", "", ("series_id", "time", "value"), ("shard", "flush_id"), 1
)
DISTRIBUTIONS: Final = RawTable(
    "metric_distributions",
    "distribution",
    "",
    (
        "series_id",
        "time",
        "value",
        "percentile_50",
        "percentile_90",
        "percentile_95",
        "percentile_99",
        "distribution_count",
        "distribution_sum",
        "distribution_min",
        "distribution_max",
        "upper_bounds",
        "bucket_counts",
    ),
    ("ordinal", "shard", "flush_id"),
    1,
)
BUSINESS_METRICS: Final = RawTable(
    "business_metric_versions",
    "business_metric",
    "metric_id",
    (
        "period_start",
        "period_end",
        "period_date",
        "period_type",
        "metric_name",
        "metric_category",
        "metric_value",
        "metric_unit",
        "currency",
        "calculation_method",
        "license_id",
        "customer_id",
        "user_id",
        "dimensions",
        "time_zone",
        "identity_hash",
    ),
    ("ingested_at", "shard", "flush_id"),
    1,
)
SPANS: Final = RawTable(
    "traces",
    "span",
    "",
    (
        "trace_id",
        "span_id",
        "parent_span_id",
        "service_name",
        "operation_name",
        "kind",
        "start_time",
        "duration_ms",
        "status",
        "error_message",
        "http_method",
        "http_url",
        "http_status_code",
        "user_id",
        "license_id",
        "session_id",
        "host_name",
        "instance_id",
        "service_version",
        "trace_state",
        "tags",
        "events",
        "links",
    ),
    ("ingested_at", "ordinal", "shard", "flush_id"),
    6,
)

RAW_TABLES: Final = (EVENTS, SAMPLES, DISTRIBUTIONS, BUSINESS_METRICS, SPANS)


@dataclass(slots=True)
class CheckedRows:
    """The storable rows of one batch by table, each with the place of its record.

    `places[table][i]` is (kind, index) of the record behind `rows[table][i]`, so that a row
    PostgreSQL refuses can be named in a verdict.
    """

    rows: dict[str, list[Row]] = field(
        default_factory=lambda: {table.name: [] for table in RAW_TABLES}
    )
    places: dict[str, list[tuple[RecordKind, int]]] = field(
        default_factory=lambda: {table.name: [] for table in RAW_TABLES}
    )

    def add(self, table: RawTable, row: Row, kind: RecordKind, index: int) -> None:
        """Append a row and its record's place."""
        self.rows[table.name].append(row)
        self.places[table.name].append((kind, index))

    def series(self) -> Iterable[SeriesIdentity]:
        """Give the identities of all samples and distributions; they repeat."""
        for table in (SAMPLES, DISTRIBUTIONS):
            for row in self.rows[table.name]:
                yield row[0]
