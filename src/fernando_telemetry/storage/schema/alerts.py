"""Alert rules, and the alerts that they raise."""

from __future__ import annotations

from sqlalchemy import (
    BigInteger,
    Boolean,
    Column,
    Double,
    Index,
    Integer,
    Table,
    Text,
    UniqueConstraint,
    Uuid,
    text,
)
from sqlalchemy.dialects.postgresql import INTERVAL, JSONB

from fernando_telemetry.storage.schema.columns import Time, metadata, required
from fernando_telemetry.storage.schema.enums import alert_status, impact_level, severity

alert_rules = Table(
    "alert_rules",
    metadata,
    Column("rule_id", Uuid, primary_key=True),
    required("rule_name", Text),
    Column("description", Text),
    Column("license_id", Text, nullable=False, server_default=text("''")),
    required("rule_type", Text),
    required("source_type", Text),
    required("condition_config", JSONB),
    required("severity", severity),
    Column("notification_channels", JSONB, nullable=False, server_default=text("'[]'")),
    Column("notification_config", JSONB, nullable=False, server_default=text("'{}'")),
    Column("time_window", INTERVAL, nullable=False, server_default=text("'5 minutes'")),
    Column("enabled", Boolean, nullable=False, server_default=text("true")),
    Column("revision", BigInteger, nullable=False, server_default=text("1")),
    Column("created_by", Text),
    Column("updated_by", Text),
    required("created_at", Time),
    required("updated_at", Time),
    UniqueConstraint("license_id", "rule_name"),
)

alerts = Table(
    "alerts",
    metadata,
    Column("alert_id", Uuid, primary_key=True),
    required("rule_id", Uuid),
    required("alert_name", Text),
    Column("title", Text),
    Column("message", Text),
    Column("license_id", Text, nullable=False, server_default=text("''")),
    required("status", alert_status),
    required("severity", severity),
    required("fingerprint", Text),
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
