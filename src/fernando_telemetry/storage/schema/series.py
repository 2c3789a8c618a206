"""The series that samples and distributions refer to by a number, and how many there are."""

from __future__ import annotations

from sqlalchemy import (
    ARRAY,
    Column,
    Date,
    Identity,
    Index,
    Integer,
    Table,
    Text,
    UniqueConstraint,
    Uuid,
    text,
)
from sqlalchemy.dialects.postgresql import JSONB

from fernando_telemetry.storage.schema.columns import Time, metadata, required
from fernando_telemetry.storage.schema.enums import metric_type, temporality

metric_series = Table(
    "metric_series",
    metadata,
    Column("series_id", Integer, Identity(), primary_key=True),
    # 128-bit hash of all identity columns: what the contract calls series_id, as hex.
    required("identity_hash", Uuid),
    required("metric_name", Text),
    required("metric_type", metric_type),
    Column("metric_unit", Text),
    Column("service_name", Text),
    Column("host_name", Text),
    Column("instance_id", Text),
    required("labels", JSONB),
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
    required("counted_on", Date),
    required("series_count", Integer),
    # Label keys, the one with most distinct values first, as of ranked_on and that many series.
    Column("label_ranking", ARRAY(Text)),
    Column("ranked_on", Date),
    Column("ranked_count", Integer),
)
