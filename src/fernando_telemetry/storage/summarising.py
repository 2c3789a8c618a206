"""Keeps the BRIN indexes of hot partitions up with what is written.

PostgreSQL's own autosummarize leaves it to autovacuum, which comes once a minute; until then a
lookup reads everything new. Here the leader looks every second or so and summarises the
ranges of pages that have filled up since.

It never stands in a writer's way: summarising takes SHARE UPDATE EXCLUSIVE, which COPY does not
mind. Whatever else holds that lock (VACUUM, ANALYZE, CREATE INDEX CONCURRENTLY, a partition being
sealed) is not waited for: the partition has its turn a second later. Waiting would also cancel an
autovacuum, and could deadlock with an index build that waits for this session's snapshot.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from itertools import groupby

import asyncpg
import structlog

from fernando_telemetry.domain.errors import DatabaseUnavailable
from fernando_telemetry.storage.duties import Apart, DutyFaults, fault_pause_seconds
from fernando_telemetry.storage.index_sets import SEALED_TABLES
from fernando_telemetry.storage.sealing import MARK_PREFIX
from fernando_telemetry.storage.sessions import Connection, SessionSettings, connect, translated
from fernando_telemetry.storage.statements import load

log = structlog.get_logger(__name__)
sql = load("summarising")

# Pages at the end that are still being filled: PostgreSQL extends a table by up to 64 at once for
# each of its writers. A row that comes into a summarised range costs the writer an update of it.
PAGES_LEFT = 128
# Ranges of one index in one transaction: bounds how long the lock and the snapshot are held.
RANGES_AT_ONCE = 256
# Partitions are made long before their time, so a stale list is no matter.
LIST_SECONDS = 5.0
# How long a server waits whose forerunner still holds the lock.
FOLLOWER_SECONDS = 5.0


@dataclass(slots=True)
class _Index:
    """A BRIN index of a hot partition, and the first page not known to be summarised."""

    partition: str
    partition_oid: int
    oid: int
    pages_per_range: int
    next_page: int = 0

    def due(self, pages: int) -> tuple[int, int] | None:
        """Give the first pages of the first and last range to summarise; None: none is full."""
        last = (pages - PAGES_LEFT) // self.pages_per_range * self.pages_per_range
        last -= self.pages_per_range
        if last < self.next_page:
            return None
        return self.next_page, min(last, self.next_page + RANGES_AT_ONCE * self.pages_per_range)


class Summarising:
    """Summarises while this server holds the lock; a session of its own.

    Args:
        settings: Session of the control database.
        interval_seconds: Time between two looks.
        faults: Count those of partitions that cannot be summarised.
    """

    def __init__(
        self,
        settings: SessionSettings,
        interval_seconds: float,
        faults: DutyFaults | None = None,
    ) -> None:
        # Shorter than deadlock_timeout, at which a waiter has autovacuum cancelled.
        self._settings = replace(settings, lock_timeout_seconds=0.5)
        self._interval_seconds = interval_seconds
        self._faults = faults or DutyFaults()
        self._connection: Connection | None = None
        self._indexes: dict[int, _Index] = {}
        self._listed_at = -LIST_SECONDS

    async def run(self, leads: Callable[[], bool]) -> None:
        """Summarise until cancelled; what may pass is logged and tried again.

        Args:
            leads: Whether this server is the leader. Others do not even ask: each would open a
                session for it, again and again.
        """
        faulty = 0
        try:
            while True:
                delay = self._interval_seconds
                try:
                    if not leads():
                        self._drop()
                    elif await self.summarise() is None:
                        delay = FOLLOWER_SECONDS
                    faulty = 0
                except DatabaseUnavailable as error:
                    log.warning("not_summarised", cause=repr(error.__cause__ or error))
                    delay = FOLLOWER_SECONDS
                except ExceptionGroup as error:
                    # Not begun anew: it knows how far the other partitions are.
                    faulty += 1
                    self._faults.note("summarising", error)
                    delay = max(delay, fault_pause_seconds(faulty))
                await asyncio.sleep(delay)
        finally:
            self._drop()

    async def summarise(self) -> int | None:
        """Summarise what has filled up since the last call.

        Returns:
            Ranges summarised, by all indexes; None where another server does it.

        Raises:
            DatabaseUnavailable: The session was lost; the next call opens another.
            ExceptionGroup: Some partitions could not be summarised; the others are.
        """
        try:
            with translated():
                connection = await self._leading()
                return None if connection is None else await self._turn(connection)
        except ExceptionGroup:
            raise
        except BaseException:
            self._drop()
            raise

    async def close(self) -> None:
        """End the session: another server may lead."""
        self._drop()

    async def _leading(self) -> Connection | None:
        if self._connection is None:
            self._connection = await connect(self._settings)
            if not await self._connection.fetchval(sql.try_lead):
                await self._connection.close()
                self._connection = None
        return self._connection

    def _drop(self) -> None:
        if self._connection is not None:
            self._connection.terminate()
            self._connection = None
        self._indexes.clear()
        self._listed_at = -LIST_SECONDS

    async def _turn(self, connection: Connection) -> int:
        await self._list(connection)
        oids = list({index.partition_oid for index in self._indexes.values()})
        try:
            pages = {row["oid"]: row["pages"] for row in await connection.fetch(sql.pages, oids)}
        except asyncpg.LockNotAvailableError:  # one of them is being altered or dropped
            return 0
        done, apart = 0, Apart()
        for oid, group in groupby(self._indexes.values(), key=lambda index: index.partition_oid):
            with apart.part():
                done += await self._catch_up(connection, list(group), pages.get(oid, 0))
        apart.finish()
        return done

    async def _catch_up(self, connection: Connection, indexes: list[_Index], pages: int) -> int:
        """Summarise what is due of one partition, as far as its lock is to be had."""
        done = 0
        while due := [(index, span) for index in indexes if (span := index.due(pages)) is not None]:
            ranges = await self._summarise(connection, due)
            if ranges is None:
                break
            done += ranges
        return done

    async def _list(self, connection: Connection) -> None:
        if time.monotonic() - self._listed_at < LIST_SECONDS:
            return
        rows = await connection.fetch(sql.indexes, list(SEALED_TABLES), MARK_PREFIX)
        known = self._indexes
        self._indexes = {
            row["oid"]: known.get(row["oid"])
            or _Index(row["partition"], row["partition_oid"], row["oid"], row["pages_per_range"])
            for row in rows
        }
        self._listed_at = time.monotonic()

    async def _summarise(
        self, connection: Connection, due: Sequence[tuple[_Index, tuple[int, int]]]
    ) -> int | None:
        """Summarise ranges of one partition; None where its lock is taken, or it is gone."""
        done = 0
        try:
            async with connection.transaction():
                partition = due[0][0].partition
                await connection.execute(
                    f"LOCK TABLE {partition} IN SHARE UPDATE EXCLUSIVE MODE NOWAIT"
                )
                for index, (first, last) in due:
                    size = index.pages_per_range
                    found = await connection.fetchval(sql.summarise, index.oid, first, last, size)
                    if found is None:  # the index is gone, so the list is stale
                        self._listed_at = -LIST_SECONDS
                        return None
                    done += found
        except (asyncpg.LockNotAvailableError, asyncpg.UndefinedTableError):
            return None
        for index, (_, last) in due:
            index.next_page = last + index.pages_per_range
        return done
