"""The clean-up: takes what is past its retention, off the write path.

    partitions past the longest term of their kind    detached and dropped, oldest first
    rows of terms that are shorter, or that end
    within a partition (a month of KPIs)              deleted, a stretch of blocks at a time

Whatever it is broken off in, the next one goes on: each step is a transaction of its own, and a
drop is marked. One clean-up runs at a time on a database, the leader's or one that was asked for.

A partition of which few rows stay is not copied over: rows that are late for it would have to
wait for the copy, and with them their whole flush. Its space is used again, or freed with it.
"""

from __future__ import annotations

import asyncio
import contextlib
import time
from collections.abc import Iterator
from contextlib import AbstractAsyncContextManager
from dataclasses import dataclass, field, replace
from datetime import datetime, timedelta
from typing import Final

import asyncpg
import structlog

from fernando_telemetry.domain.errors import DatabaseUnavailable
from fernando_telemetry.domain.retention import (
    RETAINED_KINDS,
    CleanedUp,
    KindRetention,
    Retention,
    Term,
    kept_from,
)
from fernando_telemetry.storage.dropping import RawPartition, RawPartitions
from fernando_telemetry.storage.duties import Apart
from fernando_telemetry.storage.partitions import Partitions
from fernando_telemetry.storage.retention_deletes import OldRows
from fernando_telemetry.storage.retention_policies import RetentionPolicies
from fernando_telemetry.storage.rows import (
    BUSINESS_METRICS,
    DISTRIBUTIONS,
    EVENTS,
    RAW_TABLES,
    SAMPLES,
    SPANS,
    RawTable,
)
from fernando_telemetry.storage.sessions import (
    Connection,
    SessionSettings,
    connect,
    session_holding,
    translated,
)
from fernando_telemetry.storage.statements import load

log = structlog.get_logger(__name__)
sql = load("clean_up")

TABLES: Final[dict[str, tuple[RawTable, ...]]] = {
    "event": (EVENTS,),
    "system_metric": (SAMPLES, DISTRIBUTIONS),
    "business_metric": (BUSINESS_METRICS,),
    "span": (SPANS,),
}
# A DETACH that waits longer, for somebody who reads, is put off and finished later.
DROP_LOCK_SECONDS: Final = 2.0
DROP_ATTEMPTS: Final = 5
PAUSE_SECONDS: Final = 0.5
# Finding out that a partition has no row of a licence may mean to read all of it.
STATEMENT_SECONDS: Final = 600.0
# A step is followed by a pause as long as itself, so that it takes half of a core and disk at most.
LEAST_STEP_PAUSE_SECONDS: Final = 0.01
# A flush may still be on its way that was checked under other terms, or before midnight.
SETTLED_AFTER: Final = timedelta(hours=1)


@dataclass(slots=True)
class _Taken:
    """What was taken so far."""

    found: dict[tuple[str, str], CleanedUp] = field(default_factory=dict)
    in_use: int = 0
    # A partition that fails stops no other.
    apart: Apart = field(default_factory=Apart)

    def expect(self, kind: str, term: Term, before: datetime) -> None:
        for license_id in ("",) if term.is_general else term.license_ids:
            self.found[kind, license_id] = CleanedUp(kind, license_id, before)

    def add(self, kind: str, license_id: str, before: datetime, rows: int) -> None:
        known = self.found.get((kind, license_id)) or CleanedUp(kind, license_id, before)
        self.found[kind, license_id] = replace(known, rows=known.rows + rows)

    def add_partition(self, kind: str, before: datetime, size: int) -> None:
        known = self.found.get((kind, "")) or CleanedUp(kind, "", before)
        self.found[kind, ""] = replace(
            known,
            partitions=known.partitions + 1,
            partition_bytes=known.partition_bytes + size,
        )

    @property
    def results(self) -> list[CleanedUp]:
        return sorted(
            self.found.values(),
            key=lambda one: (RETAINED_KINDS.index(one.kind), one.license_id),
        )


class CleanUp:
    """Applies the retention policies.

    Args:
        settings: Session of the control database.
        policies: What holds.
        known: Told to look again when partitions have gone.
    """

    def __init__(
        self, settings: SessionSettings, policies: RetentionPolicies, known: Partitions
    ) -> None:
        self._settings = replace(
            settings,
            statement_timeout_seconds=STATEMENT_SECONDS,
            command_timeout_seconds=STATEMENT_SECONDS + 10.0,
        )
        self._policies = policies
        self._partitions = RawPartitions(
            replace(settings, lock_timeout_seconds=DROP_LOCK_SECONDS),
            [table.name for table in RAW_TABLES],
            self._note_drop,
        )
        self._known = known
        self._has_dropped = False
        # Where nothing is left to be deleted, so that the next run need not look: by partition and
        # term, up to a moment. Terms count from when they were first seen.
        self._clean: dict[tuple[int, Term], datetime] = {}
        self._terms: Retention | None = None
        self._terms_since: datetime | None = None

    async def run(self, now: datetime) -> None:
        """Clean up, unless another clean-up is at it; a duty of the leader.

        Raises:
            DatabaseUnavailable: The database does not answer, or partitions are in use.
        """
        async with self._alone() as connection:
            if connection is None:
                return
            taken = await self._clean_up(connection, now)
        for one in taken.results:
            if one.partitions or one.rows:
                log.info(
                    "retention_applied",
                    kind=one.kind,
                    license_id=one.license_id,
                    partitions=one.partitions,
                    bytes=one.partition_bytes,
                    rows=one.rows,
                )
        _require_all(taken)

    async def clean_up(self, now: datetime) -> list[CleanedUp]:
        """Clean up, behind another clean-up that is at it.

        Returns:
            What was taken, by kind and licence; of licences with a term of their own, and for all
            others together.

        Raises:
            DatabaseUnavailable: The database does not answer, or partitions are in use; what was
                taken by then is gone.
        """
        while True:
            async with self._alone() as connection:
                if connection is not None:
                    taken = await self._clean_up(connection, now)
                    _require_all(taken)
                    return taken.results
            await asyncio.sleep(PAUSE_SECONDS)

    async def preview(self, now: datetime) -> list[CleanedUp]:
        """Tell what a clean-up would take; reads all that it would go through.

        Raises:
            DatabaseUnavailable: The database does not answer.
        """
        connection = await connect(self._settings)
        try:
            with translated():
                taken = await self._clean_up(connection, now, dry_run=True)
                _require_all(taken)
                return taken.results
        finally:
            connection.terminate()

    def _alone(self) -> AbstractAsyncContextManager[Connection | None]:
        """Lend a session that may clean up, or None while another one does."""
        return session_holding(self._settings, sql.try_lock, sql.unlock)

    async def _clean_up(
        self, connection: Connection, now: datetime, *, dry_run: bool = False
    ) -> _Taken:
        retention = await self._policies.refresh()
        if retention != self._terms:
            self._terms, self._terms_since = retention, now
        if not dry_run:
            await connection.execute(sql.need_no_sync)
        taken = _Taken()
        partitions = await self._partitions.listed(connection)
        for kind, tables in TABLES.items():
            terms = retention.of_kind(kind)
            for term in terms.terms():
                taken.expect(kind, term, kept_from(now, term.days))
            for table in tables:
                mine = [one for one in partitions if one.parent == table.name]
                await self._drop_passed(kind, terms, mine, now, taken, dry_run=dry_run)
                for old in _old_rows(table, terms, mine, now):
                    with taken.apart.part():
                        await self._take_rows(connection, kind, old, now, taken, dry_run=dry_run)
        if not dry_run:
            await self._finish()
        if self._has_dropped:
            # Once, not after each drop: no row of these times is accepted any more, and looking
            # again keeps a flush waiting.
            self._known.forget()
            self._has_dropped = False
        there = {one.oid for one in partitions}
        self._clean = {key: until for key, until in self._clean.items() if key[0] in there}
        return taken

    def _note_drop(self) -> None:
        self._has_dropped = True

    async def _finish(self) -> None:
        """Finish drops that were begun and that no term asks for any more, if it can be now."""
        with contextlib.suppress(DatabaseUnavailable):
            async with self._partitions.dropping() as connection:
                if connection is not None:
                    await self._partitions.finish(connection)

    async def _drop_passed(
        self,
        kind: str,
        terms: KindRetention,
        partitions: list[RawPartition],
        now: datetime,
        taken: _Taken,
        *,
        dry_run: bool,
    ) -> None:
        passed = [one for one in partitions if _is_passed(one, terms, now)]
        left = [] if dry_run else await self._drop_all(passed)
        taken.in_use += len(left)
        for partition in passed:
            if partition not in left:
                taken.add_partition(kind, kept_from(now, terms.longest_days), partition.size)

    async def _drop_all(self, passed: list[RawPartition]) -> list[RawPartition]:
        """Drop partitions of one table; gives those that are left because somebody reads it.

        By one session, and looking at the catalogue only where an attempt failed: what this costs
        is taken from the write path on a busy machine.
        """
        left, failures = [*passed], 0
        while left and failures < DROP_ATTEMPTS:
            if failures:
                await asyncio.sleep(PAUSE_SECONDS)
            try:
                async with self._partitions.dropping() as connection:
                    if connection is None:
                        failures += 1
                        continue
                    while left:
                        await self._drop(connection, left[0], is_begun=failures > 0)
                        left, failures = left[1:], 0
            except DatabaseUnavailable as error:
                failures += 1
                cause = repr(error.__cause__ or error)
                log.info("partition_in_use", partition=left[0].name, cause=cause)
        return left

    async def _drop(
        self, connection: Connection, partition: RawPartition, *, is_begun: bool
    ) -> None:
        if is_begun:
            there = {one.oid: one for one in await self._partitions.listed(connection)}
            if partition.oid not in there:  # The last attempt detached it.
                await self._partitions.drop_detached(connection)
                return
            partition = there[partition.oid]
        await self._partitions.drop(connection, partition)

    async def _take_rows(
        self,
        connection: Connection,
        kind: str,
        old: OldRows,
        now: datetime,
        taken: _Taken,
        *,
        dry_run: bool,
    ) -> None:
        until = min(old.before, old.partition.end)
        key = (old.partition.oid, old.term)
        if self._clean.get(key, until - timedelta(1)) >= until:
            return
        try:
            if not await old.are_there(connection):
                if self._is_settled(now):
                    self._clean[key] = until
                return
            begun = time.monotonic()
            async for found in old.steps(connection, delete=not dry_run):
                for license_id, rows in found.items():
                    taken.add(kind, license_id, old.before, rows)
                if not dry_run:
                    took = time.monotonic() - begun
                    await asyncio.sleep(max(took, LEAST_STEP_PAUSE_SECONDS))
                    begun = time.monotonic()
        except asyncpg.UndefinedTableError:
            log.info("partition_gone_meanwhile", partition=old.partition.name)

    def _is_settled(self, now: datetime) -> bool:
        """Tell whether no row can still come that the terms of now are over for."""
        assert self._terms_since is not None
        return self._terms_since + SETTLED_AFTER <= now and kept_from(
            now - SETTLED_AFTER, 1
        ) == kept_from(now, 1)


def _is_passed(partition: RawPartition, terms: KindRetention, now: datetime) -> bool:
    days = terms.longest_days
    return bool(days) and partition.end <= kept_from(now, days)


def _old_rows(
    table: RawTable, terms: KindRetention, partitions: list[RawPartition], now: datetime
) -> Iterator[OldRows]:
    """Give what is to be deleted row by row, from partitions that stay."""
    for partition in partitions:
        if partition.is_pending or _is_passed(partition, terms, now):
            continue
        for term in terms.terms():
            before = kept_from(now, term.days)
            if partition.start < before:
                yield OldRows(table, partition, term, before)


def _require_all(taken: _Taken) -> None:
    taken.apart.finish()
    if taken.in_use:
        raise DatabaseUnavailable(
            f"{taken.in_use} partitions are being read and go later; the rest is cleaned up.", 5.0
        )
