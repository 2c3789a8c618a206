"""What makes a flush exactly once and its rows readable in order.

Lanes number the flushes; producers, claims and progress say where a stream resumes; a mark says
that a batch or a request was committed.
"""

from __future__ import annotations

from typing import Any

from sqlalchemy import (
    BigInteger,
    Column,
    Date,
    Index,
    Integer,
    LargeBinary,
    SmallInteger,
    Table,
    Text,
    Uuid,
    text,
)

from fernando_telemetry.storage.schema.columns import Time, flush_id, metadata, required, shard_key

lanes = Table(
    "lanes",
    metadata,
    Column("lane", Integer, primary_key=True, autoincrement=False),
    Column("opened_at", Time, nullable=False, server_default=text("now()")),
    # Last committed number, once the lane is known to be dead.
    Column("last_number", BigInteger),
    # Flushes at or below this number have left the table `flushes`.
    Column("pruned_through", BigInteger, nullable=False, server_default=text("0")),
    # The leader looks for dead ones among them.
    Index("lanes_open_idx", "lane", postgresql_where=text("last_number IS NULL")),
)


def _extent(kind: str) -> list[Column[Any]]:
    return [
        Column(f"{kind}_count", Integer, nullable=False, server_default=text("0")),
        Column(f"{kind}_min_time", Time),
        Column(f"{kind}_max_time", Time),
    ]


flushes = Table(
    "flushes",
    metadata,
    Column("committed_on", Date, primary_key=True),
    shard_key(),
    Column("flush_id", BigInteger, primary_key=True, autoincrement=False),
    required("ingested_at", Time),
    Column("rule_set_revision", BigInteger, nullable=False, server_default=text("0")),
    *_extent("event"),
    *_extent("sample"),
    *_extent("distribution"),
    *_extent("business_metric"),
    *_extent("span"),
    # Tokens and cursors ask by lane and number, whatever the day.
    Index("flushes_flush_id_idx", "flush_id"),
    postgresql_partition_by="RANGE (committed_on)",
)


def _producer_key() -> list[Column[Any]]:
    return [
        shard_key(),
        Column("license_id", Text, primary_key=True),
        Column("producer_id", Text, primary_key=True),
    ]


producers = Table(
    "producers",
    metadata,
    *_producer_key(),
    required("epoch", BigInteger),
    required("updated_at", Time),
)

claims = Table(
    "claims",
    metadata,
    *_producer_key(),
    Column("epoch", BigInteger, primary_key=True, autoincrement=False),
    required("created_at", Time),
)

progress = Table(
    "progress",
    metadata,
    *_producer_key(),
    required("contiguous_through", BigInteger),
    required("updated_at", Time),
)


def _mark() -> list[Column[Any]]:
    return [
        Column("digest", LargeBinary),
        required("accepted_count", Integer),
        required("rejected_count", Integer),
        required("adjusted_count", Integer),
        # The BatchRefusalReason of a batch that was refused as a whole.
        Column("refusal", SmallInteger),
        flush_id(),
    ]


batch_marks = Table(
    "batch_marks",
    metadata,
    *_producer_key(),
    Column("sequence", BigInteger, primary_key=True, autoincrement=False),
    *_mark(),
)

request_marks = Table(
    "request_marks",
    metadata,
    shard_key(),
    Column("license_id", Text, primary_key=True),
    Column("request_id", Uuid, primary_key=True),
    *_mark(),
    required("created_at", Time),
    # They are deleted by age.
    Index("request_marks_created_at_idx", "created_at"),
)
