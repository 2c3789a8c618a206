"""Seals partitions: gives those whose time has passed the indexes that queries gain by.

    ANALYZE -> CREATE INDEX CONCURRENTLY, one by one -> drop what they supersede -> mark

Each step can be broken off at any point, by `kill -9` too: the next turn looks at the catalogue,
drops what is INVALID and does what is left. CONCURRENTLY throughout, so that a late row is never
waited for nor kept waiting: a plain build would hold a COPY up for as long as it takes.

The mark is the partition's comment. It lives and dies with the partition, also through a dump,
and names the set, so that another set is applied to old partitions as well, after those that were
never sealed. Rows that come later go to sealed partitions and simply cost more.
"""

from __future__ import annotations

import asyncio
import contextlib
import math
import time
from collections.abc import Callable
from dataclasses import dataclass, replace
from datetime import UTC, datetime, timedelta
from typing import Final

import asyncpg
import structlog

from fernando_telemetry.domain.errors import DatabaseUnavailable
from fernando_telemetry.storage.duties import DutyFaults
from fernando_telemetry.storage.index_sets import INDEXES, SEALED_TABLES, IndexChoice, digest
from fernando_telemetry.storage.partitions import parse_bounds
from fernando_telemetry.storage.sessions import (
    Connection,
    ControlPool,
    SessionSettings,
    is_passing,
    session_holding,
)
from fernando_telemetry.storage.statements import load

log = structlog.get_logger(__name__)
sql = load("sealing")

MARK_PREFIX: Final = "sealed with index set "
LONGEST_INTERVAL_SECONDS = 10.0
FIRST_DELAY_SECONDS = 5.0
LONGEST_DELAY_SECONDS = 600.0
# A partition that grew by less than this since the last look is quiet.
GROWTH_BYTES = 1024 * 1024
GROWTH_SHARE = 0.02
# Below this the writers leave cores idle, and a build may take them (a tenth of the full rate).
LIGHT_LOAD_ROWS_PER_SECOND = 20_000.0


@dataclass(frozen=True, slots=True)
class _Unsealed:
    """A partition without its table's mark."""

    table: str
    name: str
    oid: int
    end: datetime
    never_sealed: bool


@dataclass(slots=True)
class _Quiet:
    """Since when a partition has not grown, to speak of."""

    size: int
    since: datetime


@dataclass(slots=True)
class _Failure:
    delay_seconds: float
    retry_at: datetime


class Sealing:
    """Seals what is due, one partition at a time on all servers together.

    Args:
        settings: Session of the control database.
        control: For looking what there is to do.
        indexes: The sealed set of each table.
        grace_seconds: How long after its time, and after it grew last, a partition is left alone.
        timeout_seconds: How long one index build may take, its waits for old snapshots included.
        clock: Gives the time.
        faults: Count partitions that cannot be sealed for a reason that does not pass.
    """

    def __init__(
        self,
        settings: SessionSettings,
        control: ControlPool,
        indexes: IndexChoice,
        *,
        grace_seconds: float,
        timeout_seconds: float,
        clock: Callable[[], datetime] = lambda: datetime.now(UTC),
        faults: DutyFaults | None = None,
    ) -> None:
        # Waiting for a lock or an old snapshot holds nobody up but this session, so the build's
        # own time-out is the only one.
        self._settings = replace(
            settings,
            command_timeout_seconds=timeout_seconds + 10.0,
            lock_timeout_seconds=timeout_seconds,
            statement_timeout_seconds=timeout_seconds,
        )
        self._control = control
        self._indexes = indexes
        self._marks = {table: MARK_PREFIX + digest(indexes[table]) for table in SEALED_TABLES}
        self._grace = timedelta(seconds=grace_seconds)
        self._clock = clock
        self._faults = faults or DutyFaults()
        self._quiet: dict[int, _Quiet] = {}
        self._failures: dict[int, _Failure] = {}
        # Two releases with different sets side by side must not undo each other's work for ever.
        self._done: set[int] = set()

    async def run(self) -> None:
        """Seal until cancelled; what may pass is logged and tried again."""
        interval = min(LONGEST_INTERVAL_SECONDS, max(0.5, self._grace.total_seconds() / 4))
        while True:
            try:
                again = await self.seal_due(self._clock())
            except DatabaseUnavailable as error:
                log.warning("not_sealed", cause=repr(error.__cause__ or error))
                again = False
            if not again:
                await asyncio.sleep(interval)

    async def count_unsealed(self, now: datetime) -> int:
        """Count partitions whose time has passed and which lack their final indexes.

        Raises:
            DatabaseUnavailable: The database does not answer.
        """
        return sum(partition.end <= now for partition in await self._unsealed())

    async def seal_due(self, now: datetime) -> bool:
        """Seal the partition that is due first, unless another server seals.

        Returns:
            Whether one was sealed, so that another may be due.

        Raises:
            DatabaseUnavailable: The database does not answer; what was done is not lost.
        """
        passed = [
            one for one in await self._unsealed() if one.end <= now and one.oid not in self._done
        ]
        await self._note_sizes(passed, now)
        due = self._due(passed, now)
        if not due:
            return False
        async with session_holding(self._settings, sql.try_lock, sql.unlock) as connection:
            if connection is None:
                return False
            with contextlib.suppress(asyncpg.PostgresError):
                await connection.execute(sql.notice_lost_client)
            # Another server may just have sealed it.
            still = {partition.oid for partition in await self._unsealed()}
            partition = next((partition for partition in due if partition.oid in still), None)
            return partition is not None and await self._seal(connection, partition, now)

    async def _unsealed(self) -> list[_Unsealed]:
        async with self._control.transaction() as connection:
            rows = await connection.fetch(
                sql.unsealed, list(self._marks), list(self._marks.values())
            )
        return [
            _Unsealed(
                row["parent"],
                row["partition"],
                row["oid"],
                parse_bounds(row["bounds"])[1],
                not (row["mark"] or "").startswith(MARK_PREFIX),
            )
            for row in rows
        ]

    def _due(self, passed: list[_Unsealed], now: datetime) -> list[_Unsealed]:
        """List what is to be sealed now: first what never was, the oldest first."""
        due = [
            one
            for one in passed
            if one.end + self._grace <= now
            and one.oid in self._quiet
            and self._quiet[one.oid].since + self._grace <= now
            and not ((failure := self._failures.get(one.oid)) and failure.retry_at > now)
        ]
        return sorted(due, key=lambda one: (not one.never_sealed, one.end, one.name))

    async def _note_sizes(self, passed: list[_Unsealed], now: datetime) -> None:
        rows = []
        if passed:
            async with self._control.transaction() as connection:
                rows = await connection.fetch(sql.sizes, [one.oid for one in passed])
        quiet = {}
        for row in rows:
            known, size = self._quiet.get(row["oid"]), row["bytes"] or 0
            # Where late rows stream in, in a back-fill perhaps, it is in truth still hot.
            if known is None or size - known.size > max(GROWTH_BYTES, GROWTH_SHARE * known.size):
                known = _Quiet(size, now)
            quiet[row["oid"]] = known
        self._quiet = quiet

    async def _seal(self, connection: Connection, partition: _Unsealed, now: datetime) -> bool:
        begun = self._clock()
        try:
            await self._apply(connection, partition)
        except asyncpg.UndefinedTableError:  # dropped meanwhile
            return True
        except (asyncpg.PostgresError, TimeoutError) as error:
            if connection.is_closed() or _is_lost(error):
                raise
            last = self._failures.get(partition.oid)
            delay = min(last.delay_seconds * 2, LONGEST_DELAY_SECONDS) if last else 0.0
            failure = _Failure(delay or FIRST_DELAY_SECONDS, now)
            failure.retry_at += timedelta(seconds=failure.delay_seconds)
            self._failures[partition.oid] = failure
            if not is_passing(error):
                self._faults.note("sealing", error)
            log.warning("partition_not_sealed", partition=partition.name, cause=repr(error))
            return False
        self._failures.pop(partition.oid, None)
        self._done.add(partition.oid)
        seconds = (self._clock() - begun).total_seconds()
        log.info("partition_sealed", partition=partition.name, seconds=round(seconds, 3))
        return True

    async def _apply(self, connection: Connection, partition: _Unsealed) -> None:
        name = partition.name
        known = {index.name_on(name) for index in INDEXES[partition.table]}
        wanted = {index.name_on(name): index for index in self._indexes[partition.table]}
        found = {
            row["name"]: row
            for row in await connection.fetch(sql.indexes, partition.oid)
            if row["name"] in known
        }
        for index, row in found.items():
            if not row["is_valid"]:
                log.warning("invalid_index_dropped", index=index)
                await connection.execute(f"DROP INDEX CONCURRENTLY IF EXISTS {index}")
        load = WriteLoad(connection)
        await load.rows_per_second()
        await connection.execute(f"ANALYZE {name}")
        for index, kind in wanted.items():
            if index not in found or not found[index]["is_valid"]:
                is_light = await load.rows_per_second() < LIGHT_LOAD_ROWS_PER_SECOND
                await connection.execute(sql.build_in_parallel if is_light else sql.build_alone)
                await connection.execute(
                    f"CREATE INDEX CONCURRENTLY {index} ON {name} {kind.definition}"
                )
        for index, row in found.items():
            if index not in wanted and row["is_valid"]:
                await connection.execute(f"DROP INDEX CONCURRENTLY IF EXISTS {index}")
            elif index in wanted and row["method"] == "brin":
                await connection.execute(sql.summarise_all, row["oid"])
        # Late rows are autovacuum's from here on (storage/partitions.py).
        await connection.execute(f"ALTER TABLE {name} RESET (autovacuum_vacuum_insert_threshold)")
        await connection.execute(f"COMMENT ON TABLE {name} IS '{self._marks[partition.table]}'")


class WriteLoad:
    """Tells how much all servers together write to a database.

    Args:
        connection: Any session of it, outside of a transaction: within one the counts stand still.
    """

    def __init__(self, connection: Connection) -> None:
        self._connection = connection
        self._rows: int | None = None
        self._looked_at = 0.0

    async def rows_per_second(self) -> float:
        """Give the rate since the last look; infinite at the first one."""
        rows: int = await self._connection.fetchval(sql.rows_written)
        now, last = time.monotonic(), self._rows
        seconds = now - self._looked_at
        self._rows, self._looked_at = rows, now
        return math.inf if last is None else (rows - last) / max(seconds, 1e-3)


def _is_lost(error: BaseException) -> bool:
    """Tell whether the session is of no use any more: not a full disk, nor a lock's time-out."""
    state = getattr(error, "sqlstate", None) or ""
    return state[:2] in {"08", "57"} and state != "57014"
