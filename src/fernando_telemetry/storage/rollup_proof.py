"""Proves roll-ups against raw rows, hour by hour, and writes anew the hours that differ.

Each hour is a step of its own: a repeatable-read transaction under the fold's lock. In its snapshot
roll-up + deltas have to be the raw rows. What commits beside it is in neither, and keeps its
deltas when the hour is written anew. What was stored without deltas is made up before, and an hour
that has gaps all the same, because a server without roll-ups writes to it, is not written anew: the
gaps would tell of rows that it then has.
"""

from __future__ import annotations

from collections.abc import AsyncIterator, Iterable, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass, replace
from datetime import UTC, datetime, timedelta
from typing import Final

import asyncpg

from fernando_telemetry.domain.calendar import EPOCH
from fernando_telemetry.domain.retention import Retention
from fernando_telemetry.domain.rollup_cover import HOUR
from fernando_telemetry.domain.time_range import TimeRange
from fernando_telemetry.storage.partitions import parse_bounds
from fernando_telemetry.storage.retention_policies import read_retention
from fernando_telemetry.storage.rollup import Comparison, Oldest, Rollup
from fernando_telemetry.storage.rollup_gaps import close_gaps
from fernando_telemetry.storage.sessions import Connection, SessionSettings, connect, translated
from fernando_telemetry.storage.statements import load

fold_sql = load("fold")
gaps_sql = load("rollup_gaps")
partition_sql = load("partitions")

# Another transaction may delete what is past its term meanwhile.
ATTEMPTS: Final = 5


@dataclass(frozen=True, slots=True)
class Step:
    """An hour of a roll-up's deltas, with all tables that they are folded into.

    Args:
        rollup: The roll-up.
        hour: The hour.
        aside: Licences whose raw rows are gone, or may go meanwhile.
    """

    rollup: Rollup
    hour: datetime
    aside: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class Finding:
    """What comparing an hour of one table has found.

    Args:
        table: The roll-up's table.
        hour: The hour.
        raw_rows: Raw rows that were read.
        groups: Groups on either side.
        differences: Those that differ.
        is_open: The roll-up lacks rows that were stored without deltas, which readers add. Such an
            hour is not written anew.
        is_made_up: Such rows were made up before it was compared.
    """

    table: str
    hour: datetime
    raw_rows: int
    groups: int
    differences: int
    is_open: bool = False
    is_made_up: bool = False


class RollupProof:
    """Compares and mends, on one session.

    Args:
        connection: The session, outside of a transaction.
        oldest: The oldest time of roll-ups that is kept.
    """

    def __init__(self, connection: Connection, oldest: Oldest) -> None:
        self._connection = connection
        self._oldest = oldest

    @classmethod
    @asynccontextmanager
    async def opened(cls, settings: SessionSettings, oldest: Oldest) -> AsyncIterator[RollupProof]:
        """Open a session for it.

        Raises:
            DatabaseUnavailable: The database does not answer.
        """
        connection = await connect(settings)
        try:
            with translated():
                yield cls(connection, oldest)
        finally:
            connection.terminate()

    async def steps(
        self, rollups: Sequence[Rollup], wanted: TimeRange, now: datetime, defaults: Retention
    ) -> list[Step]:
        """List the whole hours of a range of which there are raw rows.

        Where those are gone a roll-up is all that is left: nothing can be said of it.

        Args:
            rollups: The roll-ups.
            wanted: The range.
            now: Which raw rows are kept goes by it.
            defaults: How long raw rows are kept where no policy is set.
        """
        retention = await read_retention(self._connection, defaults)
        found: list[Step] = []
        for rollup in rollups:
            rows = await self._connection.fetch(partition_sql.existing, [rollup.proof.raw])
            bounds = [parse_bounds(row["bounds"]) for row in rows]
            terms = retention.of_kind(rollup.proof.kind)
            first = max(
                wanted.start,
                _kept_from(now, terms.general_days),
                min(self._oldest[one.term] for one in rollup.proof.comparisons),
            )
            kept = {name: _kept_from(now, days) for name, days in terms.license_days.items()}
            found += [
                Step(rollup, hour, tuple(name for name, oldest in kept.items() if hour < oldest))
                for hour in _hours(first, wanted.end, bounds)
            ]
        return found

    async def take(self, step: Step, *, mends: bool) -> list[Finding]:
        """Compare an hour; or make up what it lacks, and write it anew where it still differs.

        Args:
            step: The hour.
            mends: Do so. The partition of deltas of now has to be there.

        Raises:
            DatabaseUnavailable: The session was lost, or the database is too busy.
        """
        is_made_up = False
        for _ in range(ATTEMPTS if mends else 1):
            if mends:
                is_made_up |= await close_gaps(self._connection, step.rollup, step.hour)
            findings = await self._take_folding_none(step, mends)
            if not any(one.is_open and one.differences for one in findings):
                break
        return [replace(one, is_made_up=is_made_up) for one in findings]

    async def _take_folding_none(self, step: Step, mends: bool) -> list[Finding]:
        await self._connection.execute(fold_sql.await_fold)
        try:
            for _ in range(ATTEMPTS - 1):
                try:
                    return await self._take(step, mends)
                except asyncpg.SerializationError:
                    continue
            return await self._take(step, mends)
        finally:
            if not self._connection.is_closed():
                await self._connection.execute(fold_sql.release_fold)

    async def _take(self, step: Step, mends: bool) -> list[Finding]:
        proof = step.rollup.proof
        span = (step.hour, step.hour + HOUR)
        async with self._connection.transaction(isolation="repeatable_read", readonly=not mends):
            is_open = await self._connection.fetchval(gaps_sql.is_open, step.rollup.name, step.hour)
            found = [
                await self._compare(one, step)
                for one in proof.comparisons
                if self._oldest[one.term] <= step.hour
            ]
            findings = [replace(one, is_open=is_open) for one in found]
            if mends and not is_open and any(one.differences for one in findings):
                for statement in proof.rebuild:
                    if statement.term is None or self._oldest[statement.term] <= step.hour:
                        await self._connection.execute(
                            statement.text, *span, step.aside, *statement.arguments
                        )
            return findings

    async def _compare(self, comparison: Comparison, step: Step) -> Finding:
        hour = step.hour
        if comparison.planning:
            await self._connection.execute(comparison.planning)
        row = await self._connection.fetchrow(
            comparison.statement, hour, hour + HOUR, step.aside, *comparison.arguments
        )
        assert row is not None
        return Finding(comparison.table, hour, row["raw_rows"], row["groups"], row["differences"])


def _kept_from(now: datetime, days: int) -> datetime:
    """Give from which time on no raw row is missing, nor goes within the next hour; 0: for ever."""
    return now - timedelta(days=days) + HOUR if days else EPOCH


def _hours(
    oldest: datetime, until: datetime, bounds: Iterable[tuple[datetime, datetime]]
) -> list[datetime]:
    """List the whole hours of a range that partitions of these bounds may have rows of."""
    first = oldest + (-(oldest - EPOCH)) % HOUR
    hours: set[datetime] = set()
    for start, end in bounds:
        begin = max(first, start.astimezone(UTC)) if start > EPOCH else first
        hour = begin - (begin - EPOCH) % HOUR
        while hour < end and hour + HOUR <= until:
            hours.add(hour)
            hour += HOUR
    return sorted(hours)
