"""Records that got a verdict instead of being stored, kept where rejected_keep is on.

Words are texts, not enums: a new reason must never be what a flush fails of.
"""

from __future__ import annotations

from sqlalchemy import BigInteger, Column, Index, Integer, LargeBinary, Table, Text, Uuid
from sqlalchemy.dialects.postgresql import JSONB

from fernando_telemetry.storage.schema.columns import Time, metadata, required, shard_key

rejected_records = Table(
    "rejected_records",
    metadata,
    shard_key(),
    Column("rejected_id", Uuid, primary_key=True),
    required("rejected_at", Time),
    required("kind", Text),
    required("index", Integer),
    required("reason", Text),
    Column("field_path", Text),
    required("detail", Text),
    Column("producer_id", Text),
    Column("sequence", BigInteger),
    Column("license_id", Text),
    # The defaults of its stream or request, those that are set.
    required("defaults", JSONB),
    # Wire bytes of the message of its kind.
    required("record", LargeBinary),
    Index("rejected_records_rejected_at_idx", "rejected_at", "rejected_id"),
)
