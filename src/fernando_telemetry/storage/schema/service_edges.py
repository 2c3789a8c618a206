"""Calls between services by ten minutes, worked out from raw spans (storage/service_edges.py)."""

from __future__ import annotations

from sqlalchemy import BigInteger, Boolean, Column, Table, Text, Uuid

from fernando_telemetry.storage.schema.columns import (
    Time,
    duration_histogram,
    metadata,
    required,
    shard_key,
)

# A licence '' is all spans, a client '' a service's own spans.
service_edges = Table(
    "service_edges",
    metadata,
    Column("chunk_start", Time, primary_key=True),
    Column("license_id", Text, primary_key=True),
    Column("client_service_name", Text, primary_key=True),
    Column("server_service_name", Text, primary_key=True),
    shard_key(),
    required("call_count", BigInteger),
    required("error_count", BigInteger),
    *duration_histogram(),
)

# The chunks that are worked out, or being so. The fold takes those from it that late spans touch.
service_edge_chunks = Table(
    "service_edge_chunks",
    metadata,
    Column("chunk_start", Time, primary_key=True),
    shard_key(),
    # Of the run that works it out, or did.
    required("version", Uuid),
    required("is_computed", Boolean),
)
