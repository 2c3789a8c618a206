"""Drops the oldest partitions where an operator prefers losing them to refusing new records.

A partition is marked by a comment, detached CONCURRENTLY (no writer and no reader waits), then
dropped. A DETACH that was broken off, and a table that was detached and not dropped, are finished
at the next turn; the mark tells them from what somebody detached to keep.
"""

from __future__ import annotations

from collections.abc import AsyncIterator, Iterable
from contextlib import asynccontextmanager
from dataclasses import dataclass, replace
from datetime import datetime
from typing import Any, Final, Literal

import structlog

from fernando_telemetry.storage.partitions import PartitionedTable, Partitions, parse_bounds
from fernando_telemetry.storage.sessions import (
    Connection,
    SessionSettings,
    connect,
    translated,
)
from fernando_telemetry.storage.statements import load

log = structlog.get_logger(__name__)
sql = load("oldest_partitions")

MARK: Final = "fernando-telemetry: dropped for room on the disk"
# What runs longer than this is not waited for: while a DETACH waits, late rows of the partition
# can be stored nowhere.
LONGEST_TRANSACTION_SECONDS: Final = 10.0


@dataclass(frozen=True, slots=True)
class Dropped:
    """A partition that is gone, and the bytes it had."""

    name: str
    freed_bytes: int


@dataclass(frozen=True, slots=True)
class Kept:
    """Nothing was dropped, and why; worth a line in the log when it changes."""

    reason: Literal["another_server", "would_not_help", "long_transaction", "database"]


class OldestPartitions:
    """Gives room back, the oldest data of all kinds first.

    Args:
        settings: Session of the control database.
        tables: The raw tables.
        known: Told to look again after a drop.
    """

    def __init__(
        self, settings: SessionSettings, tables: Iterable[PartitionedTable], known: Partitions
    ) -> None:
        # A DETACH waits for the transactions that run; it holds no lock meanwhile.
        self._settings = replace(settings, lock_timeout_seconds=2 * LONGEST_TRANSACTION_SECONDS)
        self._tables = [table.name for table in tables]
        self._known = known

    async def drop_one(self, missing_bytes: int, now: datetime) -> Dropped | Kept:
        """Drop the oldest partition whose time has passed, or finish what was begun.

        Nothing is dropped where all such partitions together have less than `missing_bytes`:
        their loss would not help.

        Args:
            missing_bytes: What is to become free in all.
            now: Partitions that end later, the one being written among them, are kept.

        Raises:
            DatabaseUnavailable: The database does not answer, or a lock was not given in time.
        """
        async with self._session() as connection:
            if connection is None:
                return Kept("another_server")
            done = await self._finish(connection) or await self._drop_oldest(
                connection, missing_bytes, now
            )
        if isinstance(done, Dropped):
            self._known.forget()
            log.warning("partition_dropped_for_room", partition=done.name, bytes=done.freed_bytes)
        return done

    @asynccontextmanager
    async def _session(self) -> AsyncIterator[Connection | None]:
        """Give a session that holds the lock, or None where another server's does."""
        connection = await connect(self._settings)
        try:
            with translated():
                yield connection if await connection.fetchval(sql.try_lock) else None
        finally:
            connection.terminate()

    async def _finish(self, connection: Connection) -> Dropped | None:
        for row in await connection.fetch(sql.partitions, self._tables):
            if row["pending"]:
                await connection.execute(
                    f"ALTER TABLE {row['parent']} DETACH PARTITION {row['name']} FINALIZE"
                )
        for row in await connection.fetch(sql.detached, MARK):
            await connection.execute(f"DROP TABLE {row['name']}")
            return Dropped(row["name"], row["bytes"])
        return None

    async def _drop_oldest(
        self, connection: Connection, missing_bytes: int, now: datetime
    ) -> Dropped | Kept:
        rows = await connection.fetch(sql.partitions, self._tables)
        passed: list[Any] = [row for row in rows if parse_bounds(row["bounds"])[1] <= now]
        if sum(row["bytes"] for row in passed) < missing_bytes or not passed:
            return Kept("would_not_help")
        age: float = await connection.fetchval(sql.oldest_transaction_seconds)
        if age > LONGEST_TRANSACTION_SECONDS:
            return Kept("long_transaction")
        oldest = min(passed, key=lambda row: (parse_bounds(row["bounds"])[1], -row["bytes"]))
        name, parent = oldest["name"], oldest["parent"]
        await connection.execute(f"COMMENT ON TABLE {name} IS '{MARK}'")
        await connection.execute(f"ALTER TABLE {parent} DETACH PARTITION {name} CONCURRENTLY")
        await connection.execute(f"DROP TABLE {name}")
        return Dropped(name, oldest["bytes"])
