"""Makes time partitions: ahead of time, and when a late row asks for one.

A partition is made by CREATE TABLE … LIKE, its indexes, then ATTACH, which does not block the
writers of its siblings. BRIN and GIN indexes exist on partitions only: on the parent they would
forbid other storage for old partitions. The set below is the lean one of a partition that is
being written: what is nearly free to keep.

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

import asyncpg
import structlog

from fernando_telemetry.domain.calendar import PartitionLength, midnight, span_end, span_start
from fernando_telemetry.domain.limits import PARTITION_HORIZON_DAYS
from fernando_telemetry.storage.sessions import Connection, ControlPool
from fernando_telemetry.storage.statements import load

log = structlog.get_logger(__name__)
sql = load("partitions")

BEGINNING = datetime.min.replace(tzinfo=UTC)


def _bloom(column: str, operators: str, distinct: int) -> str:
    """Give an index that finds equal values by reading little: one small BRIN bloom per column.

    `distinct` is the number of distinct values expected in 64 pages; too small a number makes
    the filter useless, too large a one makes it big.
    """
    return (
        f"USING brin ({column} {operators}(n_distinct_per_range = {distinct})) "
        "WITH (pages_per_range = 64, autosummarize = on)"
    )


FLUSH_ID_INDEX = "USING brin (flush_id int8_minmax_multi_ops) WITH (autosummarize = on)"


@dataclass(frozen=True, slots=True)
class PartitionedTable:
    """A table cut along `time_column`, with the lean index set of each of its partitions."""

    name: str
    time_column: str
    length: PartitionLength
    indexes: tuple[str, ...] = ()


def raw_tables(length: PartitionLength = "day") -> tuple[PartitionedTable, ...]:
    """List the raw tables; `length` is that of the fast ones, KPIs are cut by month."""
    return (
        PartitionedTable(
            "telemetry_events",
            "event_timestamp",
            length,
            (
                "(event_timestamp)",
                FLUSH_ID_INDEX,
                _bloom("event_id", "uuid_bloom_ops", 2000),
                _bloom("user_id", "text_bloom_ops", 500),
                _bloom("license_id", "text_bloom_ops", 100),
                _bloom("session_id", "text_bloom_ops", 1000),
                _bloom("event_name", "text_bloom_ops", 100),
                _bloom("trace_id", "text_bloom_ops", 2000),
            ),
        ),
        PartitionedTable(
            "metric_samples",
            "time",
            length,
            (
                "(time)",
                FLUSH_ID_INDEX,
                "USING brin (series_id, time) WITH (pages_per_range = 8, autosummarize = on)",
            ),
        ),
        PartitionedTable(
            "metric_distributions",
            "time",
            length,
            (
                "(time)",
                FLUSH_ID_INDEX,
                "USING brin (series_id, time) WITH (pages_per_range = 8, autosummarize = on)",
            ),
        ),
        PartitionedTable(
            "business_metric_versions",
            "period_end",
            "month",
            ("(period_start)", "(identity_hash, period_start)", FLUSH_ID_INDEX),
        ),
        PartitionedTable(
            "traces",
            "start_time",
            length,
            (
                "(start_time)",
                FLUSH_ID_INDEX,
                _bloom("trace_id", "text_bloom_ops", 1000),
                _bloom("user_id", "text_bloom_ops", 500),
                _bloom("license_id", "text_bloom_ops", 100),
                _bloom("session_id", "text_bloom_ops", 1000),
                _bloom("service_name", "text_bloom_ops", 100),
            ),
        ),
    )


FLUSHES = PartitionedTable("flushes", "committed_on", "day")


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
        self._tables = {table.name: table for table in (*tables, FLUSHES)}
        self._known: dict[str, list[_Range]] = {}
        self._floor = BEGINNING
        self._making = asyncio.Lock()

    def forget(self) -> None:
        """Let the next `ensure` read the catalogue anew."""
        self._known.clear()

    async def ensure(self, needed: dict[str, Sequence[datetime]]) -> None:
        """Make the partitions that rows of these times need; free of I/O when they are known.

        Args:
            needed: Times (aware, UTC) by table name; equal spans may repeat.

        Raises:
            DatabaseUnavailable: They could not be made now.
        """
        if not any(self._missing(needed)):
            return
        async with self._making, self._control.transaction() as connection:
            await connection.execute(sql.lock)
            await self._read(connection)
            for table, time in list(self._missing(needed)):
                await self._make(connection, table, time)

    async def ensure_ahead(self, now: datetime, days: int) -> None:
        """Make the partitions of today and the `days` that follow."""
        moments = [midnight(now) + timedelta(days=day) for day in range(days + 1)]
        # The running span as well, where spans are shorter than a day.
        moments.append(now.astimezone(UTC))
        await self.ensure(dict.fromkeys(self._tables, moments))

    def is_within_one(self, table: str, first: datetime, last: datetime) -> bool:
        """Tell whether a known partition holds both times, and so all between them."""
        return self._is_within_one(self._tables[table], first, last)

    def _missing(
        self, needed: dict[str, Sequence[datetime]]
    ) -> Iterable[tuple[PartitionedTable, datetime]]:
        for name, times in needed.items():
            table = self._tables[name]
            # The rule: all rows of a flush lie in one partition, which two looks can tell.
            if times and self._is_within_one(table, min(times), max(times)):
                continue
            for time in times:
                if self._gap(table, time) is not None:
                    yield table, time

    def _is_within_one(self, table: PartitionedTable, first: datetime, last: datetime) -> bool:
        known = self._known.get(table.name, [])
        place = bisect.bisect_right(known, first, key=lambda item: item.start)
        return place > 0 and last < known[place - 1].end

    def _gap(self, table: PartitionedTable, time: datetime) -> _Range | None:
        """Give the free range around `time`, or None where a partition covers it."""
        known = self._known.get(table.name, [])
        place = bisect.bisect_right(known, time, key=lambda item: item.start)
        before = known[place - 1] if place else None
        if before is not None and time < before.end:
            return None
        after = known[place] if place < len(known) else None
        return _Range(
            before.end if before else BEGINNING,
            after.start if after else datetime.max.replace(tzinfo=UTC),
        )

    async def _read(self, connection: Connection) -> None:
        installed_at: datetime = await connection.fetchval(sql.installed_at)
        self._floor = midnight(installed_at) - timedelta(days=PARTITION_HORIZON_DAYS)
        known: dict[str, list[_Range]] = {name: [] for name in self._tables}
        for row in await connection.fetch(sql.existing, list(self._tables)):
            known[row["parent"]].append(_Range(*parse_bounds(row["bounds"])))
        self._known = {name: sorted(ranges) for name, ranges in known.items()}

    async def _make(self, connection: Connection, table: PartitionedTable, time: datetime) -> None:
        gap = self._gap(table, time)
        if gap is None:  # made by an earlier turn
            return
        floor = span_start(self._floor, table.length)
        if time < floor:
            wanted = _Range(BEGINNING, floor)
        else:
            start = span_start(time, table.length)
            wanted = _Range(start, span_end(start, table.length))
        # Next to partitions of another length only the gap between them is left.
        made = _Range(max(wanted.start, gap.start), min(wanted.end, gap.end))
        await self._create(connection, table, made)
        bisect.insort(self._known[table.name], made)

    async def _create(self, connection: Connection, table: PartitionedTable, made: _Range) -> None:
        name = f"{table.name}_{_label(made)}"
        like = "INCLUDING DEFAULTS INCLUDING CONSTRAINTS INCLUDING GENERATED INCLUDING STORAGE"
        statements = [f"CREATE TABLE {name} (LIKE {table.name} {like})"]
        if table is not FLUSHES:
            statements.append(f"ALTER TABLE {name} REPLICA IDENTITY FULL")
        statements += [f"CREATE INDEX ON {name} {index}" for index in table.indexes]
        statements.append(
            f"ALTER TABLE {table.name} ATTACH PARTITION {name} "
            f"FOR VALUES FROM ({_bound(made.start)}) TO ({_bound(made.end)})"
        )
        try:
            await connection.execute(";\n".join(statements))
        except asyncpg.InvalidObjectDefinitionError as error:
            raise ValueError(f"partition {name}: {error}") from error
        log.debug("partition_made", table=table.name, partition=name)


def _label(made: _Range) -> str:
    if made.start == BEGINNING:
        return f"before_p{made.end:%Y%m%d}"
    return (
        f"p{made.start:%Y%m%d}"
        if made.start == midnight(made.start)
        else (f"p{made.start:%Y%m%d_%H%M}")
    )


def _bound(moment: datetime) -> str:
    return "MINVALUE" if moment == BEGINNING else f"'{moment:%Y-%m-%d %H:%M:%S+00}'"
