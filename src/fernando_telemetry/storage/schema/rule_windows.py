"""What alert rules look at: sums of a rule and group by time. They have no writer yet."""

from __future__ import annotations

from sqlalchemy import BigInteger, Double, Table, Uuid

from fernando_telemetry.storage.schema.columns import Time, metadata, required, shard

rule_window_deltas = Table(
    "rule_window_deltas",
    metadata,
    required("flushed_at", Time),
    shard(),
    required("rule_id", Uuid),
    required("group_hash", Uuid),
    required("bucket", Time),
    required("match_count", BigInteger),
    required("value_sum", Double),
    required("value_min", Double),
    required("value_max", Double),
    postgresql_partition_by="RANGE (flushed_at)",
)
