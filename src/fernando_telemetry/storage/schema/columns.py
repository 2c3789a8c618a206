"""What tables of the schema share: the metadata they belong to, and columns that many have."""

from __future__ import annotations

from typing import Any

from sqlalchemy import ARRAY, BigInteger, Column, DateTime, MetaData, SmallInteger

metadata = MetaData(
    naming_convention={
        "ix": "%(table_name)s_%(column_0_N_name)s_idx",
        "uq": "%(table_name)s_%(column_0_N_name)s_key",
        "ck": "%(table_name)s_%(constraint_name)s_check",
        "pk": "%(table_name)s_pkey",
    }
)

Time = DateTime(timezone=True)


def required(name: str, kind: Any) -> Column[Any]:
    """Return a column that is never NULL."""
    return Column(name, kind, nullable=False)


def shard() -> Column[Any]:
    """Return the shard of a table without a key."""
    return required("shard", SmallInteger)


def shard_key() -> Column[Any]:
    """Return the shard as part of the table's primary key."""
    return Column("shard", SmallInteger, primary_key=True, autoincrement=False)


def flush_id() -> Column[Any]:
    """Return the flush that wrote the row."""
    return required("flush_id", BigInteger)


def duration_histogram() -> list[Column[Any]]:
    """Return a sparse histogram (domain/log_histogram.py): buckets, and how many lie in each."""
    return [
        required("duration_buckets", ARRAY(SmallInteger)),
        required("duration_counts", ARRAY(BigInteger)),
    ]
