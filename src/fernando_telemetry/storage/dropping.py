"""Drops partitions without making writers wait: DETACH CONCURRENTLY, then DROP.

A plain DROP would lock the parent, behind the slowest query and before the next flush. Detaching
waits for the transactions that may see the partition, and is given up after the lock time-out; the
partition is then half detached and new queries do without it already. What was broken off, by a
kill too, can be done again.

Partitions of raw tables are marked by a comment first, so that whoever finds one half detached, or
detached and not dropped, knows it from what somebody detached to keep. One server at a time drops
those: a table can have one half-detached partition.
"""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable, Iterable
from contextlib import asynccontextmanager
from dataclasses import dataclass
from datetime import datetime
from typing import Final

import asyncpg
import structlog

from fernando_telemetry.domain.errors import DatabaseUnavailable
from fernando_telemetry.storage.partitions import parse_bounds
from fernando_telemetry.storage.sessions import (
    Connection,
    SessionSettings,
    connect,
    session_holding,
    translated,
)
from fernando_telemetry.storage.statements import load

log = structlog.get_logger(__name__)
sql = load("dropping")

MARK: Final = "fernando-telemetry: being dropped"


async def drop_partition(
    settings: SessionSettings,
    parent: str,
    partition: str,
    *,
    is_attached: bool = True,
    is_half_detached: bool = False,
) -> None:
    """Detach a partition and drop it; can be called again where it was cut short.

    Args:
        settings: Session of the control database, opened for this: it has to be outside of
            transactions.
        parent: The partitioned table.
        partition: A partition of it, or one that was detached before. Both are identifiers.
        is_attached: False: it only has to be dropped.
        is_half_detached: An earlier attempt was cut short (`pg_inherits.inhdetachpending`).

    Raises:
        DatabaseUnavailable: A lock was not to be had, or the database does not answer.
    """
    connection = await connect(settings)
    try:
        with translated():
            if is_attached:
                await _detach(connection, parent, partition, is_half_detached=is_half_detached)
            await _drop(connection, partition)
    finally:
        connection.terminate()
    log.info("partition_dropped", table=parent, partition=partition)


async def _detach(
    connection: Connection, parent: str, partition: str, *, is_half_detached: bool
) -> None:
    how = "FINALIZE" if is_half_detached else "CONCURRENTLY"
    await connection.execute(f"ALTER TABLE {parent} DETACH PARTITION {partition} {how}")


async def _drop(connection: Connection, partition: str) -> None:
    await connection.execute(f"DROP TABLE IF EXISTS {partition}")


@dataclass(frozen=True, slots=True)
class RawPartition:
    """A partition of a raw table.

    Attributes:
        parent: The table.
        name: The partition.
        oid: Of the partition; a name may come again.
        start: Start of its time.
        end: End of its time, exclusive.
        size: Bytes, with indexes.
        heap_bytes: Bytes of its rows alone.
        is_pending: It is half detached: no query sees it.
        is_marked: It is being dropped.
    """

    parent: str
    name: str
    oid: int
    start: datetime
    end: datetime
    size: int
    heap_bytes: int
    is_pending: bool
    is_marked: bool


@dataclass(frozen=True, slots=True)
class Dropped:
    """A partition that is gone, and the bytes it had."""

    name: str
    freed_bytes: int


class RawPartitions:
    """The partitions of the raw tables, to be looked at and dropped.

    Args:
        settings: Session of the control database; its lock time-out is how long a DETACH waits.
        tables: Names of the raw tables.
        tell_dropped: Called after each drop.
    """

    def __init__(
        self, settings: SessionSettings, tables: Iterable[str], tell_dropped: Callable[[], None]
    ) -> None:
        self._settings = settings
        self._tables = list(tables)
        self._tell_dropped = tell_dropped

    @asynccontextmanager
    async def dropping(self) -> AsyncIterator[Connection | None]:
        """Lend a session that may drop, or None while another one does.

        Raises:
            DatabaseUnavailable: The database does not answer, or a lock was not given in time.
        """
        try:
            async with session_holding(self._settings, sql.try_lock, sql.unlock) as connection:
                yield connection
        except asyncpg.PostgresError as error:
            # A right that is missing, a table that somebody dropped: no reason to end the server.
            raise DatabaseUnavailable("The database refuses the drop.", 2.0) from error

    async def listed(self, connection: Connection) -> list[RawPartition]:
        """List them all, the oldest first."""
        found = [
            RawPartition(
                row["parent"],
                row["name"],
                row["oid"],
                *parse_bounds(row["bounds"]),
                row["bytes"],
                row["heap_bytes"],
                row["pending"],
                row["mark"] == MARK,
            )
            for row in await connection.fetch(sql.partitions, self._tables)
        ]
        return sorted(found, key=lambda one: (one.end, -one.size))

    async def finish(self, connection: Connection) -> list[Dropped]:
        """Finish what an earlier turn, of whatever server, was broken off in.

        Args:
            connection: Lent by `dropping`.
        """
        for one in await self.listed(connection):
            if one.is_pending and one.is_marked:
                await _detach(connection, one.parent, one.name, is_half_detached=True)
        return await self.drop_detached(connection)

    async def drop_detached(self, connection: Connection) -> list[Dropped]:
        """Drop what was detached to be dropped."""
        return [
            await self._drop(connection, row["name"], row["bytes"])
            for row in await connection.fetch(sql.detached, MARK)
        ]

    async def drop(self, connection: Connection, partition: RawPartition) -> Dropped:
        """Drop one, or go on with it.

        Args:
            connection: Lent by `dropping`.
            partition: Which.
        """
        if not partition.is_pending:
            await connection.execute(f"COMMENT ON TABLE {partition.name} IS '{MARK}'")
        await _detach(
            connection, partition.parent, partition.name, is_half_detached=partition.is_pending
        )
        return await self._drop(connection, partition.name, partition.size)

    async def _drop(self, connection: Connection, name: str, size: int) -> Dropped:
        await _drop(connection, name)
        self._tell_dropped()
        return Dropped(name, size)
