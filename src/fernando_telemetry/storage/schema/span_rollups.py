"""Spans by the minute."""

from __future__ import annotations

from typing import Any

from sqlalchemy import BigInteger, Column, Double, Table, Text

from fernando_telemetry.storage.schema.columns import (
    Time,
    duration_histogram,
    metadata,
    required,
    shard,
    shard_key,
)


def _span_sums() -> list[Column[Any]]:
    return [
        required("span_count", BigInteger),
        required("error_count", BigInteger),
        required("duration_count", BigInteger),
        required("duration_sum", Double),
        *duration_histogram(),
    ]


span_deltas = Table(
    "span_deltas",
    metadata,
    required("flushed_at", Time),
    shard(),
    required("minute", Time),
    required("license_id", Text),
    required("service_name", Text),
    required("operation_name", Text),
    *_span_sums(),
    postgresql_partition_by="RANGE (flushed_at)",
)

# The fold comes back to the newest minutes every few seconds: room beside them lets it leave the
# index alone.
span_minutes = Table(
    "span_minutes",
    metadata,
    Column("minute", Time, primary_key=True),
    Column("license_id", Text, primary_key=True),
    Column("service_name", Text, primary_key=True),
    Column("operation_name", Text, primary_key=True),
    shard_key(),
    *_span_sums(),
    postgresql_with={"fillfactor": 70},
)
