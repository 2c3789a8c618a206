"""What roll-ups lack, since it was stored without deltas (storage/rollup_gaps.py)."""

from __future__ import annotations

from sqlalchemy import BigInteger, Column, Integer, Table, Text

from fernando_telemetry.storage.schema.columns import Time, metadata, required, shard_key

# Rows of an hour that a lane has stored, from its first flush without deltas to its last one. Every
# such flush updates it.
rollup_gaps = Table(
    "rollup_gaps",
    metadata,
    Column("rollup", Text, primary_key=True),
    Column("hour", Time, primary_key=True),
    Column("lane", Integer, primary_key=True, autoincrement=False),
    shard_key(),
    required("first_flush_id", BigInteger),
    required("last_flush_id", BigInteger),
    postgresql_with={"fillfactor": 50},
)
