"""First schema: raw records, the write path's protocol, alert rules and alerts.

Forward-safe with the previous release; frozen once merged.
"""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op
from sqlalchemy.dialects import postgresql

revision = "0001"
down_revision = None
branch_labels = None
depends_on = None

alert_status = postgresql.ENUM(
    "pending",
    "active",
    "acknowledged",
    "suppressed",
    "resolved",
    name="alert_status",
    create_type=False,
)
calculation_method = postgresql.ENUM(
    "sum",
    "count",
    "average",
    "median",
    "distinct_count",
    "ratio",
    "last",
    "min",
    "max",
    name="calculation_method",
    create_type=False,
)
event_type = postgresql.ENUM(
    "user_action",
    "api_event",
    "error_event",
    "system_event",
    "business_event",
    "security_event",
    "performance_event",
    name="event_type",
    create_type=False,
)
impact_level = postgresql.ENUM(
    "low", "medium", "high", "critical", name="impact_level", create_type=False
)
metric_type = postgresql.ENUM(
    "counter", "gauge", "histogram", "timer", "distribution", name="metric_type", create_type=False
)
period_type = postgresql.ENUM(
    "hourly",
    "daily",
    "weekly",
    "monthly",
    "quarterly",
    "yearly",
    "custom",
    name="period_type",
    create_type=False,
)
severity = postgresql.ENUM(
    "info", "warning", "error", "critical", name="severity", create_type=False
)
span_kind = postgresql.ENUM(
    "internal", "server", "client", "producer", "consumer", name="span_kind", create_type=False
)
span_status = postgresql.ENUM("ok", "error", name="span_status", create_type=False)
temporality = postgresql.ENUM("cumulative", "delta", name="temporality", create_type=False)

ENUMS = (
    alert_status,
    calculation_method,
    event_type,
    impact_level,
    metric_type,
    period_type,
    severity,
    span_kind,
    span_status,
    temporality,
)

# Without a primary key a table needs this to be moved between nodes and published.
REPLICA_IDENTITY_FULL = (
    "telemetry_events",
    "metric_samples",
    "metric_distributions",
    "business_metric_versions",
    "traces",
    "event_deltas",
    "sample_deltas",
    "span_deltas",
    "rule_window_deltas",
)


def upgrade() -> None:
    for enum in ENUMS:
        enum.create(op.get_bind())
    op.create_table(
        "alert_rules",
        sa.Column("rule_id", sa.Uuid(), nullable=False),
        sa.Column("rule_name", sa.Text(), nullable=False),
        sa.Column("description", sa.Text(), nullable=True),
        sa.Column("license_id", sa.Text(), server_default=sa.text("''"), nullable=False),
        sa.Column("rule_type", sa.Text(), nullable=False),
        sa.Column("source_type", sa.Text(), nullable=False),
        sa.Column("condition_config", postgresql.JSONB(astext_type=sa.Text()), nullable=False),
        sa.Column(
            "severity",
            severity,
            nullable=False,
        ),
        sa.Column(
            "notification_channels",
            postgresql.JSONB(astext_type=sa.Text()),
            server_default=sa.text("'[]'"),
            nullable=False,
        ),
        sa.Column(
            "notification_config",
            postgresql.JSONB(astext_type=sa.Text()),
            server_default=sa.text("'{}'"),
            nullable=False,
        ),
        sa.Column(
            "time_window",
            postgresql.INTERVAL(),
            server_default=sa.text("'5 minutes'"),
            nullable=False,
        ),
        sa.Column("enabled", sa.Boolean(), server_default=sa.text("true"), nullable=False),
        sa.Column("revision", sa.BigInteger(), server_default=sa.text("1"), nullable=False),
        sa.Column("created_by", sa.Text(), nullable=True),
        sa.Column("updated_by", sa.Text(), nullable=True),
        sa.Column("created_at", sa.DateTime(timezone=True), nullable=False),
        sa.Column("updated_at", sa.DateTime(timezone=True), nullable=False),
        sa.PrimaryKeyConstraint("rule_id", name=op.f("alert_rules_pkey")),
        sa.UniqueConstraint(
            "license_id", "rule_name", name=op.f("alert_rules_license_id_rule_name_key")
        ),
    )
    op.create_table(
        "alerts",
        sa.Column("alert_id", sa.Uuid(), nullable=False),
        sa.Column("rule_id", sa.Uuid(), nullable=False),
        sa.Column("alert_name", sa.Text(), nullable=False),
        sa.Column("title", sa.Text(), nullable=True),
        sa.Column("message", sa.Text(), nullable=True),
        sa.Column("license_id", sa.Text(), server_default=sa.text("''"), nullable=False),
        sa.Column(
            "status",
            alert_status,
            nullable=False,
        ),
        sa.Column(
            "severity",
            severity,
            nullable=False,
        ),
        sa.Column("fingerprint", sa.Text(), nullable=False),
        sa.Column(
            "group_labels",
            postgresql.JSONB(astext_type=sa.Text()),
            server_default=sa.text("'{}'"),
            nullable=False,
        ),
        sa.Column("pending_at", sa.DateTime(timezone=True), nullable=True),
        sa.Column("triggered_at", sa.DateTime(timezone=True), nullable=True),
        sa.Column("acknowledged_at", sa.DateTime(timezone=True), nullable=True),
        sa.Column("acknowledged_by", sa.Text(), nullable=True),
        sa.Column("resolved_at", sa.DateTime(timezone=True), nullable=True),
        sa.Column("resolved_by", sa.Text(), nullable=True),
        sa.Column("resolution_note", sa.Text(), nullable=True),
        sa.Column("assigned_to", sa.Text(), nullable=True),
        sa.Column("assigned_at", sa.DateTime(timezone=True), nullable=True),
        sa.Column(
            "impact_level",
            impact_level,
            nullable=True,
        ),
        sa.Column(
            "affected_services",
            postgresql.JSONB(astext_type=sa.Text()),
            server_default=sa.text("'[]'"),
            nullable=False,
        ),
        sa.Column("notifications_sent", sa.Integer(), server_default=sa.text("0"), nullable=False),
        sa.Column(
            "notification_attempts", sa.Integer(), server_default=sa.text("0"), nullable=False
        ),
        sa.Column("current_value", sa.Double(), nullable=True),
        sa.Column("threshold_value", sa.Double(), nullable=True),
        sa.Column("peak_value", sa.Double(), nullable=True),
        sa.Column(
            "evidence",
            postgresql.JSONB(astext_type=sa.Text()),
            server_default=sa.text("'[]'"),
            nullable=False,
        ),
        sa.PrimaryKeyConstraint("alert_id", name=op.f("alerts_pkey")),
    )
    op.create_index("alerts_rule_id_idx", "alerts", ["rule_id"], unique=False)
    op.create_index(
        "alerts_status_triggered_at_idx", "alerts", ["status", "triggered_at"], unique=False
    )
    op.create_table(
        "batch_marks",
        sa.Column("shard", sa.SmallInteger(), autoincrement=False, nullable=False),
        sa.Column("license_id", sa.Text(), nullable=False),
        sa.Column("producer_id", sa.Text(), nullable=False),
        sa.Column("sequence", sa.BigInteger(), autoincrement=False, nullable=False),
        sa.Column("digest", sa.LargeBinary(), nullable=True),
        sa.Column("accepted_count", sa.Integer(), nullable=False),
        sa.Column("rejected_count", sa.Integer(), nullable=False),
        sa.Column("adjusted_count", sa.Integer(), nullable=False),
        sa.Column("refusal", sa.SmallInteger(), nullable=True),
        sa.Column("flush_id", sa.BigInteger(), nullable=False),
        sa.PrimaryKeyConstraint(
            "shard", "license_id", "producer_id", "sequence", name=op.f("batch_marks_pkey")
        ),
    )
    op.create_table(
        "business_metric_versions",
        sa.Column("metric_id", sa.Uuid(), nullable=False),
        sa.Column("period_start", sa.DateTime(timezone=True), nullable=False),
        sa.Column("period_end", sa.DateTime(timezone=True), nullable=False),
        sa.Column("period_date", sa.Date(), nullable=False),
        sa.Column(
            "period_type",
            period_type,
            nullable=False,
        ),
        sa.Column("metric_name", sa.Text(), nullable=False),
        sa.Column("metric_category", sa.Text(), nullable=True),
        sa.Column("metric_value", sa.Numeric(), nullable=False),
        sa.Column("metric_unit", sa.Text(), nullable=True),
        sa.Column("currency", sa.Text(), nullable=True),
        sa.Column(
            "calculation_method",
            calculation_method,
            nullable=True,
        ),
        sa.Column("license_id", sa.Text(), nullable=True),
        sa.Column("customer_id", sa.Text(), nullable=True),
        sa.Column("user_id", sa.Text(), nullable=True),
        sa.Column("dimensions", postgresql.JSONB(astext_type=sa.Text()), nullable=False),
        sa.Column("time_zone", sa.Text(), nullable=False),
        sa.Column("identity_hash", sa.Uuid(), nullable=False),
        sa.Column("ingested_at", sa.DateTime(timezone=True), nullable=False),
        sa.Column("shard", sa.SmallInteger(), nullable=False),
        sa.Column("flush_id", sa.BigInteger(), nullable=False),
        postgresql_partition_by="RANGE (period_end)",
    )
    op.create_table(
        "claims",
        sa.Column("shard", sa.SmallInteger(), autoincrement=False, nullable=False),
        sa.Column("license_id", sa.Text(), nullable=False),
        sa.Column("producer_id", sa.Text(), nullable=False),
        sa.Column("epoch", sa.BigInteger(), autoincrement=False, nullable=False),
        sa.Column("created_at", sa.DateTime(timezone=True), nullable=False),
        sa.PrimaryKeyConstraint(
            "shard", "license_id", "producer_id", "epoch", name=op.f("claims_pkey")
        ),
    )
    op.create_table(
        "event_deltas",
        sa.Column("flushed_at", sa.DateTime(timezone=True), nullable=False),
        sa.Column("shard", sa.SmallInteger(), nullable=False),
        sa.Column("hour", sa.DateTime(timezone=True), nullable=False),
        sa.Column(
            "event_type",
            event_type,
            nullable=False,
        ),
        sa.Column("event_category", sa.Text(), nullable=False),
        sa.Column("event_name", sa.Text(), nullable=False),
        sa.Column("license_id", sa.Text(), nullable=False),
        sa.Column("source", sa.Text(), nullable=False),
        sa.Column("event_count", sa.BigInteger(), nullable=False),
        sa.Column("duration_count", sa.BigInteger(), nullable=False),
        sa.Column("duration_sum", sa.Double(), nullable=False),
        postgresql_partition_by="RANGE (flushed_at)",
    )
    op.create_table(
        "flushes",
        sa.Column("committed_on", sa.Date(), nullable=False),
        sa.Column("shard", sa.SmallInteger(), autoincrement=False, nullable=False),
        sa.Column("flush_id", sa.BigInteger(), autoincrement=False, nullable=False),
        sa.Column("ingested_at", sa.DateTime(timezone=True), nullable=False),
        sa.Column(
            "rule_set_revision", sa.BigInteger(), server_default=sa.text("0"), nullable=False
        ),
        sa.Column("event_count", sa.Integer(), server_default=sa.text("0"), nullable=False),
        sa.Column("event_min_time", sa.DateTime(timezone=True), nullable=True),
        sa.Column("event_max_time", sa.DateTime(timezone=True), nullable=True),
        sa.Column("sample_count", sa.Integer(), server_default=sa.text("0"), nullable=False),
        sa.Column("sample_min_time", sa.DateTime(timezone=True), nullable=True),
        sa.Column("sample_max_time", sa.DateTime(timezone=True), nullable=True),
        sa.Column("distribution_count", sa.Integer(), server_default=sa.text("0"), nullable=False),
        sa.Column("distribution_min_time", sa.DateTime(timezone=True), nullable=True),
        sa.Column("distribution_max_time", sa.DateTime(timezone=True), nullable=True),
        sa.Column(
            "business_metric_count", sa.Integer(), server_default=sa.text("0"), nullable=False
        ),
        sa.Column("business_metric_min_time", sa.DateTime(timezone=True), nullable=True),
        sa.Column("business_metric_max_time", sa.DateTime(timezone=True), nullable=True),
        sa.Column("span_count", sa.Integer(), server_default=sa.text("0"), nullable=False),
        sa.Column("span_min_time", sa.DateTime(timezone=True), nullable=True),
        sa.Column("span_max_time", sa.DateTime(timezone=True), nullable=True),
        sa.PrimaryKeyConstraint("committed_on", "shard", "flush_id", name=op.f("flushes_pkey")),
        postgresql_partition_by="RANGE (committed_on)",
    )
    op.create_table(
        "installation",
        sa.Column("only_row", sa.Boolean(), server_default=sa.text("true"), nullable=False),
        sa.Column(
            "installation_id",
            sa.Uuid(),
            server_default=sa.text("gen_random_uuid()"),
            nullable=False,
        ),
        sa.Column(
            "installed_at",
            sa.DateTime(timezone=True),
            server_default=sa.text("now()"),
            nullable=False,
        ),
        sa.Column("idempotent_digest", sa.Text(), server_default=sa.text("''"), nullable=False),
        sa.CheckConstraint("only_row", name=op.f("installation_only_row_check")),
        sa.PrimaryKeyConstraint("only_row", name=op.f("installation_pkey")),
    )
    op.create_table(
        "lanes",
        sa.Column("lane", sa.Integer(), autoincrement=False, nullable=False),
        sa.Column(
            "opened_at", sa.DateTime(timezone=True), server_default=sa.text("now()"), nullable=False
        ),
        sa.Column("last_number", sa.BigInteger(), nullable=True),
        sa.Column("pruned_through", sa.BigInteger(), server_default=sa.text("0"), nullable=False),
        sa.PrimaryKeyConstraint("lane", name=op.f("lanes_pkey")),
    )
    op.create_table(
        "metric_distributions",
        sa.Column("series_id", sa.Integer(), nullable=False),
        sa.Column("time", sa.DateTime(timezone=True), nullable=False),
        sa.Column("value", sa.Double(), nullable=True),
        sa.Column("percentile_50", sa.Double(), nullable=True),
        sa.Column("percentile_90", sa.Double(), nullable=True),
        sa.Column("percentile_95", sa.Double(), nullable=True),
        sa.Column("percentile_99", sa.Double(), nullable=True),
        sa.Column("distribution_count", sa.BigInteger(), nullable=True),
        sa.Column("distribution_sum", sa.Double(), nullable=True),
        sa.Column("distribution_min", sa.Double(), nullable=True),
        sa.Column("distribution_max", sa.Double(), nullable=True),
        sa.Column("upper_bounds", sa.ARRAY(sa.Double()), nullable=True),
        sa.Column("bucket_counts", sa.ARRAY(sa.BigInteger()), nullable=True),
        sa.Column("ordinal", sa.Integer(), nullable=False),
        sa.Column("shard", sa.SmallInteger(), nullable=False),
        sa.Column("flush_id", sa.BigInteger(), nullable=False),
        postgresql_partition_by="RANGE (time)",
    )
    op.create_table(
        "metric_samples",
        sa.Column("series_id", sa.Integer(), nullable=False),
        sa.Column("time", sa.DateTime(timezone=True), nullable=False),
        sa.Column("value", sa.Double(), nullable=False),
        sa.Column("shard", sa.SmallInteger(), nullable=False),
        sa.Column("flush_id", sa.BigInteger(), nullable=False),
        postgresql_partition_by="RANGE (time)",
    )
    op.create_table(
        "metric_series",
        sa.Column("series_id", sa.Integer(), sa.Identity(always=False), nullable=False),
        sa.Column("identity_hash", sa.Uuid(), nullable=False),
        sa.Column("metric_name", sa.Text(), nullable=False),
        sa.Column(
            "metric_type",
            metric_type,
            nullable=False,
        ),
        sa.Column("metric_unit", sa.Text(), nullable=True),
        sa.Column("service_name", sa.Text(), nullable=True),
        sa.Column("host_name", sa.Text(), nullable=True),
        sa.Column("instance_id", sa.Text(), nullable=True),
        sa.Column("labels", postgresql.JSONB(astext_type=sa.Text()), nullable=False),
        sa.Column("license_id", sa.Text(), nullable=True),
        sa.Column("temporality", temporality, nullable=True),
        sa.Column(
            "created_at",
            sa.DateTime(timezone=True),
            server_default=sa.text("now()"),
            nullable=False,
        ),
        sa.Column("seen_on", sa.Date(), server_default=sa.text("CURRENT_DATE"), nullable=False),
        sa.PrimaryKeyConstraint("series_id", name=op.f("metric_series_pkey")),
        sa.UniqueConstraint("identity_hash", name=op.f("metric_series_identity_hash_key")),
    )
    op.create_index(
        "metric_series_metric_name_idx",
        "metric_series",
        ["metric_name", "service_name", "host_name"],
        unique=False,
    )
    op.create_table(
        "producers",
        sa.Column("shard", sa.SmallInteger(), autoincrement=False, nullable=False),
        sa.Column("license_id", sa.Text(), nullable=False),
        sa.Column("producer_id", sa.Text(), nullable=False),
        sa.Column("epoch", sa.BigInteger(), nullable=False),
        sa.Column("updated_at", sa.DateTime(timezone=True), nullable=False),
        sa.PrimaryKeyConstraint("shard", "license_id", "producer_id", name=op.f("producers_pkey")),
    )
    op.create_table(
        "progress",
        sa.Column("shard", sa.SmallInteger(), autoincrement=False, nullable=False),
        sa.Column("license_id", sa.Text(), nullable=False),
        sa.Column("producer_id", sa.Text(), nullable=False),
        sa.Column("contiguous_through", sa.BigInteger(), nullable=False),
        sa.Column("updated_at", sa.DateTime(timezone=True), nullable=False),
        sa.PrimaryKeyConstraint("shard", "license_id", "producer_id", name=op.f("progress_pkey")),
    )
    op.create_table(
        "request_marks",
        sa.Column("shard", sa.SmallInteger(), autoincrement=False, nullable=False),
        sa.Column("license_id", sa.Text(), nullable=False),
        sa.Column("request_id", sa.Uuid(), nullable=False),
        sa.Column("digest", sa.LargeBinary(), nullable=True),
        sa.Column("accepted_count", sa.Integer(), nullable=False),
        sa.Column("rejected_count", sa.Integer(), nullable=False),
        sa.Column("adjusted_count", sa.Integer(), nullable=False),
        sa.Column("refusal", sa.SmallInteger(), nullable=True),
        sa.Column("flush_id", sa.BigInteger(), nullable=False),
        sa.Column("created_at", sa.DateTime(timezone=True), nullable=False),
        sa.PrimaryKeyConstraint(
            "shard", "license_id", "request_id", name=op.f("request_marks_pkey")
        ),
    )
    op.create_table(
        "rule_window_deltas",
        sa.Column("flushed_at", sa.DateTime(timezone=True), nullable=False),
        sa.Column("shard", sa.SmallInteger(), nullable=False),
        sa.Column("rule_id", sa.Uuid(), nullable=False),
        sa.Column("group_hash", sa.Uuid(), nullable=False),
        sa.Column("bucket", sa.DateTime(timezone=True), nullable=False),
        sa.Column("match_count", sa.BigInteger(), nullable=False),
        sa.Column("value_sum", sa.Double(), nullable=False),
        sa.Column("value_min", sa.Double(), nullable=False),
        sa.Column("value_max", sa.Double(), nullable=False),
        postgresql_partition_by="RANGE (flushed_at)",
    )
    op.create_table(
        "sample_deltas",
        sa.Column("flushed_at", sa.DateTime(timezone=True), nullable=False),
        sa.Column("shard", sa.SmallInteger(), nullable=False),
        sa.Column("series_id", sa.Integer(), nullable=False),
        sa.Column("minute", sa.DateTime(timezone=True), nullable=False),
        sa.Column("sample_count", sa.BigInteger(), nullable=False),
        sa.Column("value_sum", sa.Double(), nullable=False),
        sa.Column("value_min", sa.Double(), nullable=False),
        sa.Column("value_max", sa.Double(), nullable=False),
        sa.Column("first_time", sa.DateTime(timezone=True), nullable=False),
        sa.Column("first_value", sa.Double(), nullable=False),
        sa.Column("last_time", sa.DateTime(timezone=True), nullable=False),
        sa.Column("last_value", sa.Double(), nullable=False),
        postgresql_partition_by="RANGE (flushed_at)",
    )
    op.create_table(
        "span_deltas",
        sa.Column("flushed_at", sa.DateTime(timezone=True), nullable=False),
        sa.Column("shard", sa.SmallInteger(), nullable=False),
        sa.Column("minute", sa.DateTime(timezone=True), nullable=False),
        sa.Column("license_id", sa.Text(), nullable=False),
        sa.Column("service_name", sa.Text(), nullable=False),
        sa.Column("operation_name", sa.Text(), nullable=False),
        sa.Column("span_count", sa.BigInteger(), nullable=False),
        sa.Column("error_count", sa.BigInteger(), nullable=False),
        sa.Column("duration_sum", sa.Double(), nullable=False),
        postgresql_partition_by="RANGE (flushed_at)",
    )
    op.create_table(
        "telemetry_events",
        sa.Column("event_id", sa.Uuid(), nullable=False),
        sa.Column("event_timestamp", sa.DateTime(timezone=True), nullable=False),
        sa.Column(
            "event_type",
            event_type,
            nullable=False,
        ),
        sa.Column("event_name", sa.Text(), nullable=False),
        sa.Column("event_category", sa.Text(), nullable=True),
        sa.Column("user_id", sa.Text(), nullable=True),
        sa.Column("license_id", sa.Text(), nullable=True),
        sa.Column("session_id", sa.Text(), nullable=True),
        sa.Column("event_data", postgresql.JSONB(astext_type=sa.Text()), nullable=True),
        sa.Column("tags", sa.ARRAY(sa.Text()), nullable=True),
        sa.Column("duration_ms", sa.Double(), nullable=True),
        sa.Column("source", sa.Text(), nullable=True),
        sa.Column("source_ip", postgresql.INET(), nullable=True),
        sa.Column("source_version", sa.Text(), nullable=True),
        sa.Column("user_agent", sa.Text(), nullable=True),
        sa.Column("trace_id", sa.Text(), nullable=True),
        sa.Column("span_id", sa.Text(), nullable=True),
        sa.Column("ingested_at", sa.DateTime(timezone=True), nullable=False),
        sa.Column("shard", sa.SmallInteger(), nullable=False),
        sa.Column("flush_id", sa.BigInteger(), nullable=False),
        postgresql_partition_by="RANGE (event_timestamp)",
    )
    op.create_table(
        "traces",
        sa.Column("trace_id", sa.Text(), nullable=False),
        sa.Column("span_id", sa.Text(), nullable=False),
        sa.Column("parent_span_id", sa.Text(), nullable=True),
        sa.Column("service_name", sa.Text(), nullable=False),
        sa.Column("operation_name", sa.Text(), nullable=True),
        sa.Column(
            "kind",
            span_kind,
            nullable=True,
        ),
        sa.Column("start_time", sa.DateTime(timezone=True), nullable=False),
        sa.Column("duration_ms", sa.Double(), nullable=True),
        sa.Column(
            "end_time",
            sa.DateTime(timezone=True),
            sa.Computed(
                "((start_time AT TIME ZONE 'UTC') + duration_ms * interval '1 ms')"
                " AT TIME ZONE 'UTC'",
                persisted=True,
            ),
            nullable=True,
        ),
        sa.Column("status", span_status, nullable=True),
        sa.Column("error_message", sa.Text(), nullable=True),
        sa.Column("http_method", sa.Text(), nullable=True),
        sa.Column("http_url", sa.Text(), nullable=True),
        sa.Column("http_status_code", sa.Integer(), nullable=True),
        sa.Column("user_id", sa.Text(), nullable=True),
        sa.Column("license_id", sa.Text(), nullable=True),
        sa.Column("session_id", sa.Text(), nullable=True),
        sa.Column("host_name", sa.Text(), nullable=True),
        sa.Column("instance_id", sa.Text(), nullable=True),
        sa.Column("service_version", sa.Text(), nullable=True),
        sa.Column("trace_state", sa.Text(), nullable=True),
        sa.Column("tags", postgresql.JSONB(astext_type=sa.Text()), nullable=False),
        sa.Column("events", postgresql.JSONB(astext_type=sa.Text()), nullable=True),
        sa.Column("links", postgresql.JSONB(astext_type=sa.Text()), nullable=True),
        sa.Column("ingested_at", sa.DateTime(timezone=True), nullable=False),
        sa.Column("ordinal", sa.Integer(), nullable=False),
        sa.Column("shard", sa.SmallInteger(), nullable=False),
        sa.Column("flush_id", sa.BigInteger(), nullable=False),
        postgresql_partition_by="RANGE (start_time)",
    )
    for table in REPLICA_IDENTITY_FULL:
        op.execute(f"ALTER TABLE {table} REPLICA IDENTITY FULL")


def downgrade() -> None:
    op.execute("DROP VIEW IF EXISTS business_metrics, system_metrics")
    op.drop_table("traces")
    op.drop_table("telemetry_events")
    op.drop_table("span_deltas")
    op.drop_table("sample_deltas")
    op.drop_table("rule_window_deltas")
    op.drop_table("request_marks")
    op.drop_table("progress")
    op.drop_table("producers")
    op.drop_index("metric_series_metric_name_idx", table_name="metric_series")
    op.drop_table("metric_series")
    op.drop_table("metric_samples")
    op.drop_table("metric_distributions")
    op.drop_table("lanes")
    op.drop_table("installation")
    op.drop_table("flushes")
    op.drop_table("event_deltas")
    op.drop_table("claims")
    op.drop_table("business_metric_versions")
    op.drop_table("batch_marks")
    op.drop_index("alerts_status_triggered_at_idx", table_name="alerts")
    op.drop_index("alerts_rule_id_idx", table_name="alerts")
    op.drop_table("alerts")
    op.drop_table("alert_rules")
    for enum in reversed(ENUMS):
        enum.drop(op.get_bind())
