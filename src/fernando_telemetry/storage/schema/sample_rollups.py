"""Samples by the minute and by the hour."""

from __future__ import annotations

from typing import Any

from sqlalchemy import BigInteger, Column, Double, Index, Integer, Table

from fernando_telemetry.storage.schema.columns import Time, metadata, required, shard, shard_key


def _sample_sums() -> list[Column[Any]]:
    return [
        required("sample_count", BigInteger),
        required("value_sum", Double),
        required("value_min", Double),
        required("value_max", Double),
        # In the order of time; of samples at one moment the smallest, and the largest.
        required("first_time", Time),
        required("first_value", Double),
        required("last_time", Time),
        required("last_value", Double),
    ]


sample_deltas = Table(
    "sample_deltas",
    metadata,
    required("flushed_at", Time),
    shard(),
    required("series_id", Integer),
    required("minute", Time),
    *_sample_sums(),
    postgresql_partition_by="RANGE (flushed_at)",
)

# One series is read at a time, what expires is found by its time. The fold comes back to
# the newest rows every few seconds: room beside them lets it leave the indexes alone.
sample_minutes = Table(
    "sample_minutes",
    metadata,
    Column("series_id", Integer, primary_key=True, autoincrement=False),
    Column("minute", Time, primary_key=True),
    shard_key(),
    *_sample_sums(),
    Index("sample_minutes_minute_idx", "minute"),
    postgresql_with={"fillfactor": 70},
)

sample_hours = Table(
    "sample_hours",
    metadata,
    Column("series_id", Integer, primary_key=True, autoincrement=False),
    Column("hour", Time, primary_key=True),
    shard_key(),
    *_sample_sums(),
    Index("sample_hours_hour_idx", "hour"),
    postgresql_with={"fillfactor": 70},
)
