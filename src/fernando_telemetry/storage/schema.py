"""The schema: SQLAlchemy metadata that Alembic compares the migrations with.

Rules that hold from the first migration and that a catalogue test keeps (DESIGN section 8):
every append-only table carries `shard smallint not null`, and it is part of every unique key
such a table has; no triggers; keys contain the time column where a table is partitioned; BRIN
and GIN indexes are made per partition (storage/partitions.py), never on a parent.

Optional texts of raw tables are NULL when empty. Keys (marks, producers) use '' instead: NULL
never conflicts, so an upsert would double.
"""

from __future__ import annotations

from typing import Any

from sqlalchemy import (
    ARRAY,
    BigInteger,
    Boolean,
    CheckConstraint,
    Column,
    Computed,
    Date,
    DateTime,
    Double,
    Identity,
    Index,
    Integer,
    LargeBinary,
    MetaData,
    Numeric,
    SmallInteger,
    Table,
    Text,
    UniqueConstraint,
    Uuid,
    text,
)
from sqlalchemy.dialects.postgresql import ENUM, INET, INTERVAL, JSONB

from fernando_telemetry.domain import vocabulary

metadata = MetaData(
    naming_convention={
        "ix": "%(table_name)s_%(column_0_N_name)s_idx",
        "uq": "%(table_name)s_%(column_0_N_name)s_key",
        "ck": "%(table_name)s_%(constraint_name)s_check",
        "pk": "%(table_name)s_pkey",
    }
)


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

Time = DateTime(timezone=True)


def _required(name: str, kind: Any) -> Column[Any]:
    return Column(name, kind, nullable=False)


def _shard() -> Column[Any]:
    return _required("shard", SmallInteger)


def _flush_id() -> Column[Any]:
    return _required("flush_id", BigInteger)


# Raw records ---------------------------------------------------------------------------------

telemetry_events = Table(
    "telemetry_events",
    metadata,
    _required("event_id", Uuid),
    _required("event_timestamp", Time),
    _required("event_type", event_type),
    _required("event_name", Text),
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
    _required("ingested_at", Time),
    _shard(),
    _flush_id(),
    postgresql_partition_by="RANGE (event_timestamp)",
)

metric_series = Table(
    "metric_series",
    metadata,
    Column("series_id", Integer, Identity(), primary_key=True),
    # 128-bit hash of all identity columns: what the contract calls series_id, as hex.
    _required("identity_hash", Uuid),
    _required("metric_name", Text),
    _required("metric_type", metric_type),
    Column("metric_unit", Text),
    Column("service_name", Text),
    Column("host_name", Text),
    Column("instance_id", Text),
    _required("labels", JSONB),
    Column("license_id", Text),
    Column("temporality", temporality),
    Column("created_at", Time, nullable=False, server_default=text("now()")),
    # Raised once a day: the cardinality limit and expiry look at it.
    Column("seen_on", Date, nullable=False, server_default=text("CURRENT_DATE")),
    UniqueConstraint("identity_hash"),
    Index("metric_series_metric_name_idx", "metric_name", "service_name", "host_name"),
    # For the cardinality limit. Without seen_on: raising it daily stays a heap-only update.
    Index("metric_series_metric_license_idx", "metric_name", "license_id"),
)

# How many series of a metric and licence count against the limit: exact under the row's lock.
series_counts = Table(
    "series_counts",
    metadata,
    Column("metric_name", Text, primary_key=True),
    # '' for none: keys have no NULL.
    Column("license_id", Text, primary_key=True),
    # The day series_count is right for; a later day counts anew, since the window moved.
    _required("counted_on", Date),
    _required("series_count", Integer),
    # Label keys, the one with most distinct values first, as of ranked_on and that many series.
    Column("label_ranking", ARRAY(Text)),
    Column("ranked_on", Date),
    Column("ranked_count", Integer),
)

metric_samples = Table(
    "metric_samples",
    metadata,
    _required("series_id", Integer),
    _required("time", Time),
    _required("value", Double),
    _shard(),
    _flush_id(),
    postgresql_partition_by="RANGE (time)",
)

metric_distributions = Table(
    "metric_distributions",
    metadata,
    _required("series_id", Integer),
    _required("time", Time),
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
    _required("ordinal", Integer),
    _shard(),
    _flush_id(),
    postgresql_partition_by="RANGE (time)",
)

business_metric_versions = Table(
    "business_metric_versions",
    metadata,
    _required("metric_id", Uuid),
    _required("period_start", Time),
    _required("period_end", Time),
    # The period's local date; stored, because a date in a zone is not indexable.
    _required("period_date", Date),
    _required("period_type", period_type),
    _required("metric_name", Text),
    Column("metric_category", Text),
    # No scale: money comes back as it was sent ("49.90"). The verdicts hold it to 20 + 18 digits.
    _required("metric_value", Numeric),
    Column("metric_unit", Text),
    Column("currency", Text),
    Column("calculation_method", calculation_method),
    Column("license_id", Text),
    Column("customer_id", Text),
    Column("user_id", Text),
    _required("dimensions", JSONB),
    _required("time_zone", Text),
    _required("identity_hash", Uuid),
    _required("ingested_at", Time),
    _shard(),
    _flush_id(),
    postgresql_partition_by="RANGE (period_end)",
)

traces = Table(
    "traces",
    metadata,
    _required("trace_id", Text),
    _required("span_id", Text),
    Column("parent_span_id", Text),
    _required("service_name", Text),
    Column("operation_name", Text),
    Column("kind", span_kind),
    _required("start_time", Time),
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
    _required("tags", JSONB),
    Column("events", JSONB),
    Column("links", JSONB),
    _required("ingested_at", Time),
    # Place among the flush's spans: (trace_id, span_id) is not unique, Zipkin shares ids.
    _required("ordinal", Integer),
    _shard(),
    _flush_id(),
    postgresql_partition_by="RANGE (start_time)",
)

RAW_TABLES = (
    telemetry_events,
    metric_samples,
    metric_distributions,
    business_metric_versions,
    traces,
)

# The write path's protocol -------------------------------------------------------------------

lanes = Table(
    "lanes",
    metadata,
    Column("lane", Integer, primary_key=True, autoincrement=False),
    Column("opened_at", Time, nullable=False, server_default=text("now()")),
    # Last committed number, once the lane is known to be dead.
    Column("last_number", BigInteger),
    # Flushes at or below this number have left the table `flushes`.
    Column("pruned_through", BigInteger, nullable=False, server_default=text("0")),
    # The leader looks for dead ones among them.
    Index("lanes_open_idx", "lane", postgresql_where=text("last_number IS NULL")),
)


def _extent(kind: str) -> list[Column[Any]]:
    return [
        Column(f"{kind}_count", Integer, nullable=False, server_default=text("0")),
        Column(f"{kind}_min_time", Time),
        Column(f"{kind}_max_time", Time),
    ]


flushes = Table(
    "flushes",
    metadata,
    Column("committed_on", Date, primary_key=True),
    Column("shard", SmallInteger, primary_key=True, autoincrement=False),
    Column("flush_id", BigInteger, primary_key=True, autoincrement=False),
    _required("ingested_at", Time),
    Column("rule_set_revision", BigInteger, nullable=False, server_default=text("0")),
    *_extent("event"),
    *_extent("sample"),
    *_extent("distribution"),
    *_extent("business_metric"),
    *_extent("span"),
    # Tokens and cursors ask by lane and number, whatever the day.
    Index("flushes_flush_id_idx", "flush_id"),
    postgresql_partition_by="RANGE (committed_on)",
)


def _producer_key() -> list[Column[Any]]:
    return [
        Column("shard", SmallInteger, primary_key=True, autoincrement=False),
        Column("license_id", Text, primary_key=True),
        Column("producer_id", Text, primary_key=True),
    ]


producers = Table(
    "producers",
    metadata,
    *_producer_key(),
    _required("epoch", BigInteger),
    _required("updated_at", Time),
)

claims = Table(
    "claims",
    metadata,
    *_producer_key(),
    Column("epoch", BigInteger, primary_key=True, autoincrement=False),
    _required("created_at", Time),
)

progress = Table(
    "progress",
    metadata,
    *_producer_key(),
    _required("contiguous_through", BigInteger),
    _required("updated_at", Time),
)


def _mark() -> list[Column[Any]]:
    return [
        Column("digest", LargeBinary),
        _required("accepted_count", Integer),
        _required("rejected_count", Integer),
        _required("adjusted_count", Integer),
        # The BatchRefusalReason of a batch that was refused as a whole.
        Column("refusal", SmallInteger),
        _flush_id(),
    ]


batch_marks = Table(
    "batch_marks",
    metadata,
    *_producer_key(),
    Column("sequence", BigInteger, primary_key=True, autoincrement=False),
    *_mark(),
)

request_marks = Table(
    "request_marks",
    metadata,
    Column("shard", SmallInteger, primary_key=True, autoincrement=False),
    Column("license_id", Text, primary_key=True),
    Column("request_id", Uuid, primary_key=True),
    *_mark(),
    _required("created_at", Time),
    # They are deleted by age.
    Index("request_marks_created_at_idx", "created_at"),
)

# Records that got a verdict instead of being stored, kept where rejected_keep is on. Words are
# texts, not enums: a new reason must never be what a flush fails of.
rejected_records = Table(
    "rejected_records",
    metadata,
    Column("shard", SmallInteger, primary_key=True, autoincrement=False),
    Column("rejected_id", Uuid, primary_key=True),
    _required("rejected_at", Time),
    _required("kind", Text),
    _required("index", Integer),
    _required("reason", Text),
    Column("field_path", Text),
    _required("detail", Text),
    Column("producer_id", Text),
    Column("sequence", BigInteger),
    Column("license_id", Text),
    # The defaults of its stream or request, those that are set.
    _required("defaults", JSONB),
    # Wire bytes of the message of its kind.
    _required("record", LargeBinary),
    Index("rejected_records_rejected_at_idx", "rejected_at", "rejected_id"),
)

# Deltas: partial aggregates appended in the flush, one table per roll-up. The fold moves them into
# the roll-up (storage/fold.py). Samples, spans and rule windows have no writer yet.


def _event_sums() -> list[Column[Any]]:
    return [
        _required("event_count", BigInteger),
        _required("duration_count", BigInteger),
        _required("duration_sum", Double),
        # A sparse histogram (domain/log_histogram.py): buckets, and how many lie in each.
        _required("duration_buckets", ARRAY(SmallInteger)),
        _required("duration_counts", ARRAY(BigInteger)),
    ]


event_deltas = Table(
    "event_deltas",
    metadata,
    _required("flushed_at", Time),
    _required("shard", SmallInteger),
    _required("hour", Time),
    _required("event_type", event_type),
    _required("event_category", Text),
    _required("event_name", Text),
    _required("license_id", Text),
    _required("source", Text),
    *_event_sums(),
    postgresql_partition_by="RANGE (flushed_at)",
)

sample_deltas = Table(
    "sample_deltas",
    metadata,
    _required("flushed_at", Time),
    _required("shard", SmallInteger),
    _required("series_id", Integer),
    _required("minute", Time),
    _required("sample_count", BigInteger),
    _required("value_sum", Double),
    _required("value_min", Double),
    _required("value_max", Double),
    _required("first_time", Time),
    _required("first_value", Double),
    _required("last_time", Time),
    _required("last_value", Double),
    postgresql_partition_by="RANGE (flushed_at)",
)

span_deltas = Table(
    "span_deltas",
    metadata,
    _required("flushed_at", Time),
    _required("shard", SmallInteger),
    _required("minute", Time),
    _required("license_id", Text),
    _required("service_name", Text),
    _required("operation_name", Text),
    _required("span_count", BigInteger),
    _required("error_count", BigInteger),
    _required("duration_sum", Double),
    postgresql_partition_by="RANGE (flushed_at)",
)

rule_window_deltas = Table(
    "rule_window_deltas",
    metadata,
    _required("flushed_at", Time),
    _required("shard", SmallInteger),
    _required("rule_id", Uuid),
    _required("group_hash", Uuid),
    _required("bucket", Time),
    _required("match_count", BigInteger),
    _required("value_sum", Double),
    _required("value_min", Double),
    _required("value_max", Double),
    postgresql_partition_by="RANGE (flushed_at)",
)

# Roll-ups. Keys have '' for none.

event_hours = Table(
    "event_hours",
    metadata,
    Column("shard", SmallInteger, primary_key=True, autoincrement=False),
    Column("hour", Time, primary_key=True),
    Column("license_id", Text, primary_key=True),
    Column("event_type", event_type, primary_key=True),
    Column("event_category", Text, primary_key=True),
    Column("event_name", Text, primary_key=True),
    Column("source", Text, primary_key=True),
    *_event_sums(),
)

# The names that event_hours tells apart; further ones of the hour and licence are `__other__`.
event_hour_names = Table(
    "event_hour_names",
    metadata,
    Column("shard", SmallInteger, primary_key=True, autoincrement=False),
    Column("hour", Time, primary_key=True),
    Column("license_id", Text, primary_key=True),
    Column("event_name", Text, primary_key=True),
)

DELTA_TABLES = (event_deltas, sample_deltas, span_deltas, rule_window_deltas)

APPEND_ONLY_TABLES = (
    *RAW_TABLES,
    *DELTA_TABLES,
    event_hours,
    event_hour_names,
    flushes,
    producers,
    claims,
    progress,
    batch_marks,
    request_marks,
    rejected_records,
)

# Small tables, whole on every node -----------------------------------------------------------

installation = Table(
    "installation",
    metadata,
    Column("only_row", Boolean, primary_key=True, server_default=text("true")),
    Column("installation_id", Uuid, nullable=False, server_default=text("gen_random_uuid()")),
    Column("installed_at", Time, nullable=False, server_default=text("now()")),
    # Digest of the functions and views that were applied last (migrations/idempotent).
    Column("idempotent_digest", Text, nullable=False, server_default=text("''")),
    CheckConstraint("only_row", name="only_row"),
)

alert_rules = Table(
    "alert_rules",
    metadata,
    Column("rule_id", Uuid, primary_key=True),
    _required("rule_name", Text),
    Column("description", Text),
    Column("license_id", Text, nullable=False, server_default=text("''")),
    _required("rule_type", Text),
    _required("source_type", Text),
    _required("condition_config", JSONB),
    _required("severity", severity),
    Column("notification_channels", JSONB, nullable=False, server_default=text("'[]'")),
    Column("notification_config", JSONB, nullable=False, server_default=text("'{}'")),
    Column("time_window", INTERVAL, nullable=False, server_default=text("'5 minutes'")),
    Column("enabled", Boolean, nullable=False, server_default=text("true")),
    Column("revision", BigInteger, nullable=False, server_default=text("1")),
    Column("created_by", Text),
    Column("updated_by", Text),
    _required("created_at", Time),
    _required("updated_at", Time),
    UniqueConstraint("license_id", "rule_name"),
)

alerts = Table(
    "alerts",
    metadata,
    Column("alert_id", Uuid, primary_key=True),
    _required("rule_id", Uuid),
    _required("alert_name", Text),
    Column("title", Text),
    Column("message", Text),
    Column("license_id", Text, nullable=False, server_default=text("''")),
    _required("status", alert_status),
    _required("severity", severity),
    _required("fingerprint", Text),
    Column("group_labels", JSONB, nullable=False, server_default=text("'{}'")),
    Column("pending_at", Time),
    Column("triggered_at", Time),
    Column("acknowledged_at", Time),
    Column("acknowledged_by", Text),
    Column("resolved_at", Time),
    Column("resolved_by", Text),
    Column("resolution_note", Text),
    Column("assigned_to", Text),
    Column("assigned_at", Time),
    Column("impact_level", impact_level),
    Column("affected_services", JSONB, nullable=False, server_default=text("'[]'")),
    Column("notifications_sent", Integer, nullable=False, server_default=text("0")),
    Column("notification_attempts", Integer, nullable=False, server_default=text("0")),
    Column("current_value", Double),
    Column("threshold_value", Double),
    Column("peak_value", Double),
    Column("evidence", JSONB, nullable=False, server_default=text("'[]'")),
    Index("alerts_status_triggered_at_idx", "status", "triggered_at"),
    Index("alerts_rule_id_idx", "rule_id"),
)
