"""Makes time partitions: ahead of time, and when a late row asks for one.

A partition is made by CREATE TABLE … LIKE, its indexes, then ATTACH, which does not block the
writers of its siblings. BRIN and GIN indexes exist on partitions only: on the parent they would
forbid other storage for old partitions. Its first indexes are those of a hot partition
(storage/index_sets.py); storage/sealing.py gives it others when its time has passed.

What is older than 400 days before the installation shares one partition `FROM (MINVALUE)` with a
fixed upper bound, so that one row a day since 1970 does not make 20,000 partitions.
"""

from __future__ import annotations

import asyncio
import bisect
import re
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from itertools import count, islice

import asyncpg
import structlog

from fernando_telemetry.domain.calendar import (
    DAY,
    HOUR,
    PartitionLength,
    midnight,
    span_end,
    span_start,
)
from fernando_telemetry.domain.limits import PARTITION_HORIZON_DAYS
from fernando_telemetry.storage.index_sets import (
    SEALED_TABLES,
    IndexChoice,
    PartitionIndex,
    chosen,
)
from fernando_telemetry.storage.sessions import Connection, ControlPool
from fernando_telemetry.storage.statements import load

log = structlog.get_logger(__name__)
sql = load("partitions")

BEGINNING = datetime.min.replace(tzinfo=UTC)


# Above it a table gets partitions of a day, whatever the length: each costs every query planning.
MOST_PARTITIONS = 2_000
# How far ahead partitions are made where they are short.
SPANS_AHEAD = 24
# Made in one transaction, which holds the advisory lock and keeps others from making theirs.
MADE_AT_ONCE = 8


@dataclass(frozen=True, slots=True)
class PartitionedTable:
    """A table cut along its time, with the indexes that a new partition carries."""

    name: str
    length: PartitionLength
    indexes: tuple[PartitionIndex, ...] = ()

    @property
    def options(self) -> str:
        """Storage parameters of a hot partition.

        Its rows are only ever added. Autovacuum would keep the lock that summarising needs for
        as long as it takes to go over the new ones; sealing hands the partition over to it.
        """
        if self in DELTA_TABLES:
            # The fold deletes what the flushes add, every few seconds: the space has to come back.
            return (
                " WITH (autovacuum_vacuum_threshold = 5000, autovacuum_vacuum_scale_factor = 0,"
                " autovacuum_vacuum_insert_threshold = -1)"
            )
        hot = self.name in SEALED_TABLES
        return " WITH (autovacuum_vacuum_insert_threshold = -1)" if hot else ""


def raw_tables(
    length: PartitionLength = DAY, indexes: IndexChoice | None = None
) -> tuple[PartitionedTable, ...]:
    """List the raw tables.

    Args:
        length: Of the partitions of the fast tables; KPIs are cut by month.
        indexes: What a new partition carries; None: the lean set.
    """
    hot = chosen("lean") if indexes is None else indexes
    lengths: dict[str, PartitionLength] = {
        "telemetry_events": length,
        "metric_samples": length,
        "metric_distributions": length,
        "business_metric_versions": "month",
        "traces": length,
    }
    return tuple(PartitionedTable(name, own, hot[name]) for name, own in lengths.items())


FLUSHES = PartitionedTable("flushes", DAY)
# By the hour of the flush: what the fold has emptied is dropped.
EVENT_DELTAS = PartitionedTable("event_deltas", HOUR)
# Flushes are sorted by series: a reader of one finds its few pages. VACUUM summarises.
SAMPLE_DELTAS = PartitionedTable(
    "sample_deltas",
    HOUR,
    (
        PartitionIndex(
            "series_minute_brin", "USING brin (series_id, minute) WITH (pages_per_range = 8)"
        ),
    ),
)
EVENT_USER_DELTAS = PartitionedTable("event_user_deltas", HOUR)
SPAN_DELTAS = PartitionedTable("span_deltas", HOUR)
DELTA_TABLES = (
    EVENT_DELTAS,
    EVENT_USER_DELTAS,
    SAMPLE_DELTAS,
    SPAN_DELTAS,
)


@dataclass(frozen=True, slots=True, order=True)
class _Range:
    start: datetime
    end: datetime


def parse_bounds(text: str) -> tuple[datetime, datetime]:
    """Read PostgreSQL's text of a range partition's bounds (session in UTC)."""
    found = re.fullmatch(r"FOR VALUES FROM \((.+)\) TO \((.+)\)", text)
    if found is None:
        raise ValueError(f"not a range partition: {text}")

    def moment(bound: str) -> datetime:
        if bound == "MINVALUE":
            return BEGINNING
        parsed = datetime.fromisoformat(bound.strip("'"))
        return parsed if parsed.tzinfo else parsed.replace(tzinfo=UTC)

    return moment(found[1]), moment(found[2])


class Partitions:
    """Knows which partitions exist and makes those that are missing.

    Several servers may make partitions at once: an advisory lock lets one at a time look and
    make. The knowledge kept here can be stale after a drop; `forget()` is for the one who was
    told so by PostgreSQL (23514).
    """

    def __init__(self, control: ControlPool, tables: Iterable[PartitionedTable]) -> None:
        self._control = control
        self._tables = {table.name: table for table in (*tables, FLUSHES, *DELTA_TABLES)}
        # Replaced as a whole, and empty where nothing is known.
        self._known: dict[str, list[_Range]] = {}
        self._forgotten = 0
        self._floor = BEGINNING
        self._making = asyncio.Lock()
        self._full: set[str] = set()

    def forget(self) -> None:
        """Let the next `ensure` read the catalogue anew."""
        self._known = {}
        self._forgotten += 1

    async def ensure(self, needed: dict[str, Sequence[datetime]]) -> None:
        """Make the partitions that rows of these times need; free of I/O when they are known.

        Args:
            needed: Times (aware, UTC) by table name; equal spans may repeat.

        Raises:
            DatabaseUnavailable: They could not be made now.
        """
        # Spans that hold more than one gap between partitions of another length come up again.
        while missing := {
            (table.name, span_start(time.astimezone(UTC), table.length)): (table, time)
            for table, time in self._missing(needed)
        }:
            # In small turns: a flush that needs one does not wait for fifty made ahead.
            for turn in _turns(missing.values()):
                async with self._making, self._control.transaction() as connection:
                    await connection.execute(sql.lock)
                    forgotten = self._forgotten
                    known = await self._read(connection)
                    for table, time in turn:
                        await self._make(connection, known, table, time)
                # What was told to be forgotten meanwhile may be what was read here.
                if forgotten == self._forgotten:
                    self._known = known

    async def ensure_ahead(self, now: datetime, days: int, spans: int = SPANS_AHEAD) -> None:
        """Make the partitions of now and of the days that follow.

        Args:
            now: Time of the call.
            days: Days after today.
            spans: At most this many after the running one, where they are shorter than days.
        """
        until = midnight(now) + timedelta(days=days)
        needed: dict[str, Sequence[datetime]] = {
            table.name: _ahead(table, now, until, spans) for table in self._tables.values()
        }
        # Deltas go by the database's clock, which may be behind this one.
        an_hour_ago = now - timedelta(seconds=HOUR)
        for table in DELTA_TABLES:
            needed[table.name] = [an_hour_ago, *needed[table.name]]
        await self.ensure(needed)

    def is_within_one(self, table: str, first: datetime, last: datetime) -> bool:
        """Tell whether a known partition holds both times, and so all between them."""
        known = self._known.get(table, [])
        place = bisect.bisect_right(known, first, key=lambda item: item.start)
        return place > 0 and last < known[place - 1].end

    def _missing(
        self, needed: dict[str, Sequence[datetime]]
    ) -> Iterable[tuple[PartitionedTable, datetime]]:
        for name, times in needed.items():
            for time in times:
                if _gap(self._known.get(name, []), time) is not None:
                    yield self._tables[name], time

    async def _read(self, connection: Connection) -> dict[str, list[_Range]]:
        installed_at: datetime = await connection.fetchval(sql.installed_at)
        self._floor = midnight(installed_at) - timedelta(days=PARTITION_HORIZON_DAYS)
        known: dict[str, list[_Range]] = {name: [] for name in self._tables}
        for row in await connection.fetch(sql.existing, list(self._tables)):
            known[row["parent"]].append(_Range(*parse_bounds(row["bounds"])))
        return {name: sorted(ranges) for name, ranges in known.items()}

    async def _make(
        self,
        connection: Connection,
        known: dict[str, list[_Range]],
        table: PartitionedTable,
        time: datetime,
    ) -> None:
        ranges = known[table.name]
        gap = _gap(ranges, time)
        if gap is None:  # made by an earlier turn
            return
        length = self._length(table, len(ranges))
        floor = span_start(self._floor, length)
        if time < floor:
            wanted = _Range(BEGINNING, floor)
        else:
            start = span_start(time, length)
            wanted = _Range(start, span_end(start, length))
        # Next to partitions of another length only the gap between them is left.
        made = _Range(max(wanted.start, gap.start), min(wanted.end, gap.end))
        await self._create(connection, table, made)
        bisect.insort(ranges, made)

    def _length(self, table: PartitionedTable, partitions: int) -> PartitionLength:
        if table.length == "month" or partitions < MOST_PARTITIONS:
            return table.length
        if table.name not in self._full:
            self._full.add(table.name)
            log.warning("partition_limit_reached", table=table.name, partitions=MOST_PARTITIONS)
        return DAY

    async def _create(self, connection: Connection, table: PartitionedTable, made: _Range) -> None:
        name = f"{table.name}_{_label(made)}"
        for number in count(2):
            # Somebody may have detached one to keep it.
            if await connection.fetchval(sql.is_free, name):
                break
            name = f"{table.name}_{_label(made)}_{number}"
        like = "INCLUDING DEFAULTS INCLUDING CONSTRAINTS INCLUDING GENERATED INCLUDING STORAGE"
        statements = [f"CREATE TABLE {name} (LIKE {table.name} {like}){table.options}"]
        if table is not FLUSHES:
            statements.append(f"ALTER TABLE {name} REPLICA IDENTITY FULL")
        statements += [
            f"CREATE INDEX {index.name_on(name)} ON {name} {index.definition}"
            for index in table.indexes
        ]
        statements.append(
            f"ALTER TABLE {table.name} ATTACH PARTITION {name} "
            f"FOR VALUES FROM ({_bound(made.start)}) TO ({_bound(made.end)})"
        )
        try:
            await connection.execute(";\n".join(statements))
        except asyncpg.InvalidObjectDefinitionError as error:
            raise ValueError(f"partition {name}: {error}") from error
        log.debug("partition_made", table=table.name, partition=name)


def _gap(known: list[_Range], time: datetime) -> _Range | None:
    """Give the free range around `time`, or None where a known partition covers it."""
    place = bisect.bisect_right(known, time, key=lambda item: item.start)
    before = known[place - 1] if place else None
    if before is not None and time < before.end:
        return None
    after = known[place] if place < len(known) else None
    return _Range(
        before.end if before else BEGINNING,
        after.start if after else datetime.max.replace(tzinfo=UTC),
    )


def _label(made: _Range) -> str:
    if made.start == BEGINNING:
        return f"before_p{made.end:%Y%m%d}"
    if made.start == midnight(made.start):
        return f"p{made.start:%Y%m%d}"
    return f"p{made.start:%Y%m%d_%H%M%S}" if made.start.second else f"p{made.start:%Y%m%d_%H%M}"


def ahead_seconds(length: int) -> float:
    """Give how far ahead the partitions of a length are made at most."""
    return float(length * SPANS_AHEAD)


def _turns(
    missing: Iterable[tuple[PartitionedTable, datetime]],
) -> Iterable[list[tuple[PartitionedTable, datetime]]]:
    left = iter(missing)
    while turn := list(islice(left, MADE_AT_ONCE)):
        yield turn


def _ahead(table: PartitionedTable, now: datetime, until: datetime, spans: int) -> list[datetime]:
    """List the starts of the running span and of those that follow up to a time's, inclusive."""
    start = span_start(now.astimezone(UTC), table.length)
    starts = [start]
    while (start := span_end(start, table.length)) <= until and len(starts) <= spans:
        starts.append(start)
    return starts


def _bound(moment: datetime) -> str:
    return "MINVALUE" if moment == BEGINNING else f"'{moment:%Y-%m-%d %H:%M:%S+00}'"
