"""Drops the oldest partitions where an operator prefers losing them to refusing new records."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, replace
from datetime import datetime
from typing import Final, Literal

import structlog

from fernando_telemetry.storage.dropping import Dropped, RawPartitions, sql
from fernando_telemetry.storage.partitions import PartitionedTable, Partitions
from fernando_telemetry.storage.sessions import Connection, SessionSettings

log = structlog.get_logger(__name__)

# What runs longer than this is not waited for: while a DETACH waits, late rows of the partition
# can be stored nowhere.
LONGEST_TRANSACTION_SECONDS: Final = 10.0


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
        patient = replace(settings, lock_timeout_seconds=2 * LONGEST_TRANSACTION_SECONDS)
        self._partitions = RawPartitions(patient, [table.name for table in tables], known.forget)

    async def drop_one(self, missing_bytes: int, now: datetime) -> Dropped | Kept:
        """Finish what was begun, else drop the oldest partition whose time has passed.

        Nothing is dropped where all such partitions together have less than `missing_bytes`:
        their loss would not help.

        Args:
            missing_bytes: What is to become free in all.
            now: Partitions that end later, the one being written among them, are kept.

        Raises:
            DatabaseUnavailable: The database does not answer, or a lock was not given in time.
        """
        async with self._partitions.dropping() as connection:
            if connection is None:
                return Kept("another_server")
            finished = await self._partitions.finish(connection)
            done = (
                finished[-1]
                if finished
                else await self._drop_oldest(connection, missing_bytes, now)
            )
        if isinstance(done, Dropped):
            log.warning("partition_dropped_for_room", partition=done.name, bytes=done.freed_bytes)
        return done

    async def finish(self) -> None:
        """Finish what an earlier turn, of whatever server, was broken off in.

        Raises:
            DatabaseUnavailable: As `drop_one`.
        """
        async with self._partitions.dropping() as connection:
            if connection is not None:
                await self._partitions.finish(connection)

    async def _drop_oldest(
        self, connection: Connection, missing_bytes: int, now: datetime
    ) -> Dropped | Kept:
        passed = [one for one in await self._partitions.listed(connection) if one.end <= now]
        if sum(one.size for one in passed) < missing_bytes or not passed:
            return Kept("would_not_help")
        age: float = await connection.fetchval(sql.oldest_transaction_seconds)
        if age > LONGEST_TRANSACTION_SECONDS:
            return Kept("long_transaction")
        return await self._partitions.drop(connection, passed[0])
