"""The raw tables: records as they were sent, partitioned by their time."""

from __future__ import annotations

from sqlalchemy import (
    ARRAY,
    BigInteger,
    Column,
    Computed,
    Date,
    Double,
    Integer,
    Numeric,
    Table,
    Text,
    Uuid,
)
from sqlalchemy.dialects.postgresql import INET, JSONB

from fernando_telemetry.storage.schema.columns import Time, flush_id, metadata, required, shard
from fernando_telemetry.storage.schema.enums import (
    calculation_method,
    event_type,
    period_type,
    span_kind,
    span_status,
)

telemetry_events = Table(
    "telemetry_events",
    metadata,
    required("event_id", Uuid),
    required("event_timestamp", Time),
    required("event_type", event_type),
    required("event_name", Text),
    Column("event_category", Text),
    Column("user_id", Text),
    Column("license_id", Text),
    Column("session_id", Text),
    Column("event_data", JSONB),
    Column("tags", ARRAY(Text)),
    Column("duration_ms", Double),
    Column("source", Text),
    Column("source_ip", INET),
    Column("source_version", Text),
    Column("user_agent", Text),
    Column("trace_id", Text),
    Column("span_id", Text),
    required("ingested_at", Time),
    shard(),
    flush_id(),
    postgresql_partition_by="RANGE (event_timestamp)",
)

metric_samples = Table(
    "metric_samples",
    metadata,
    required("series_id", Integer),
    required("time", Time),
    required("value", Double),
    shard(),
    flush_id(),
    postgresql_partition_by="RANGE (time)",
)

metric_distributions = Table(
    "metric_distributions",
    metadata,
    required("series_id", Integer),
    required("time", Time),
    Column("value", Double),
    Column("percentile_50", Double),
    Column("percentile_90", Double),
    Column("percentile_95", Double),
    Column("percentile_99", Double),
    Column("distribution_count", BigInteger),
    Column("distribution_sum", Double),
    Column("distribution_min", Double),
    Column("distribution_max", Double),
    Column("upper_bounds", ARRAY(Double)),
    Column("bucket_counts", ARRAY(BigInteger)),
    # Place among the flush's distributions: rows have no other identity.
    required("ordinal", Integer),
    shard(),
    flush_id(),
    postgresql_partition_by="RANGE (time)",
)

business_metric_versions = Table(
    "business_metric_versions",
    metadata,
    required("metric_id", Uuid),
    required("period_start", Time),
    required("period_end", Time),
    # The period's local date; stored, because a date in a zone is not indexable.
    required("period_date", Date),
    required("period_type", period_type),
    required("metric_name", Text),
    Column("metric_category", Text),
    # No scale: money comes back as it was sent ("49.90"). The verdicts hold it to 20 + 18 digits.
    required("metric_value", Numeric),
    Column("metric_unit", Text),
    Column("currency", Text),
    Column("calculation_method", calculation_method),
    Column("license_id", Text),
    Column("customer_id", Text),
    Column("user_id", Text),
    required("dimensions", JSONB),
    required("time_zone", Text),
    required("identity_hash", Uuid),
    required("ingested_at", Time),
    shard(),
    flush_id(),
    postgresql_partition_by="RANGE (period_end)",
)

traces = Table(
    "traces",
    metadata,
    required("trace_id", Text),
    required("span_id", Text),
    Column("parent_span_id", Text),
    required("service_name", Text),
    Column("operation_name", Text),
    Column("kind", span_kind),
    required("start_time", Time),
    Column("duration_ms", Double),
    Column(
        "end_time",
        Time,
        # timestamptz + interval is only STABLE; without a zone it is IMMUTABLE.
        Computed(
            "((start_time AT TIME ZONE 'UTC') + duration_ms * interval '1 ms') AT TIME ZONE 'UTC'",
            persisted=True,
        ),
    ),
    Column("status", span_status),
    Column("error_message", Text),
    Column("http_method", Text),
    Column("http_url", Text),
    Column("http_status_code", Integer),
    Column("user_id", Text),
    Column("license_id", Text),
    Column("session_id", Text),
    Column("host_name", Text),
    Column("instance_id", Text),
    Column("service_version", Text),
    Column("trace_state", Text),
    required("tags", JSONB),
    Column("events", JSONB),
    Column("links", JSONB),
    required("ingested_at", Time),
    # Place among the flush's spans: (trace_id, span_id) is not unique, Zipkin shares ids.
    required("ordinal", Integer),
    shard(),
    flush_id(),
    postgresql_partition_by="RANGE (start_time)",
)

RAW_TABLES = (
    telemetry_events,
    metric_samples,
    metric_distributions,
    business_metric_versions,
    traces,
)
