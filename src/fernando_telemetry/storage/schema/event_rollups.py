"""Events by the hour: their groups and their users."""

from __future__ import annotations

from typing import Any

from sqlalchemy import ARRAY, BigInteger, Column, Computed, Double, SmallInteger, Table, Text

from fernando_telemetry.storage.schema.columns import (
    Time,
    duration_histogram,
    metadata,
    required,
    shard,
    shard_key,
)
from fernando_telemetry.storage.schema.enums import event_type


def _event_sums() -> list[Column[Any]]:
    return [
        required("event_count", BigInteger),
        required("duration_count", BigInteger),
        required("duration_sum", Double),
        *duration_histogram(),
    ]


event_deltas = Table(
    "event_deltas",
    metadata,
    required("flushed_at", Time),
    shard(),
    required("hour", Time),
    required("event_type", event_type),
    required("event_category", Text),
    required("event_name", Text),
    required("license_id", Text),
    required("source", Text),
    *_event_sums(),
    postgresql_partition_by="RANGE (flushed_at)",
)


def _user_bits() -> list[Column[Any]]:
    # A sketch (domain/user_sketch.py): the words that are not 0.
    return [
        required("user_words", ARRAY(SmallInteger)),
        required("user_bits", ARRAY(BigInteger)),
    ]


event_user_deltas = Table(
    "event_user_deltas",
    metadata,
    required("flushed_at", Time),
    shard(),
    required("hour", Time),
    required("event_type", event_type),
    required("event_category", Text),
    required("license_id", Text),
    *_user_bits(),
    postgresql_partition_by="RANGE (flushed_at)",
)

event_hours = Table(
    "event_hours",
    metadata,
    shard_key(),
    Column("hour", Time, primary_key=True),
    Column("license_id", Text, primary_key=True),
    Column("event_type", event_type, primary_key=True),
    Column("event_category", Text, primary_key=True),
    Column("event_name", Text, primary_key=True),
    Column("source", Text, primary_key=True),
    *_event_sums(),
)

# The same by type alone: what a summary by type need not put together from all its groups.
event_type_hours = Table(
    "event_type_hours",
    metadata,
    shard_key(),
    Column("hour", Time, primary_key=True),
    Column("event_type", event_type, primary_key=True),
    *_event_sums(),
    # So that a group of one row need not send its histogram.
    Column(
        "p95_bucket",
        SmallInteger,
        Computed(
            "histogram_percentile_bucket(duration_buckets, duration_counts, 0.95)", persisted=True
        ),
    ),
)

# The names that event_hours tells apart; further ones of the hour and licence are `__other__`.
event_hour_names = Table(
    "event_hour_names",
    metadata,
    shard_key(),
    Column("hour", Time, primary_key=True),
    Column("license_id", Text, primary_key=True),
    Column("event_name", Text, primary_key=True),
)

# The users of an hour.
event_user_hours = Table(
    "event_user_hours",
    metadata,
    shard_key(),
    Column("hour", Time, primary_key=True),
    Column("license_id", Text, primary_key=True),
    Column("event_type", event_type, primary_key=True),
    Column("event_category", Text, primary_key=True),
    *_user_bits(),
)

event_type_user_hours = Table(
    "event_type_user_hours",
    metadata,
    shard_key(),
    Column("hour", Time, primary_key=True),
    Column("event_type", event_type, primary_key=True),
    *_user_bits(),
    # Of each component: so that a group of one row need not send its sketch.
    Column(
        "set_bits",
        ARRAY(SmallInteger),
        Computed("user_sketch_set_bits(user_words, user_bits)", persisted=True),
    ),
)
