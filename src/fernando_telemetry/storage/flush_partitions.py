"""Leads to the rows of flushes by their ids, partition by partition, whatever the planner believes.

Rows of a flush lie between its first and its last time, but one late row makes that hours or days,
and in a partition that is being written the planner takes any range of times, and all later
flushes, for a few rows: it would read all of them. So partitions are read by name, each by the BRIN
of `flush_id` for the flushes whose times meet it, behind a fence: no other condition of the
statement, no join and no order gets below it, so that no other index can be taken.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import datetime
from itertools import pairwise
from typing import Final, Protocol

import asyncpg

from fernando_telemetry.domain.errors import DatabaseUnavailable
from fernando_telemetry.domain.flush_ids import lane_of
from fernando_telemetry.storage.list_statement import Parameters
from fernando_telemetry.storage.partitions import parse_bounds
from fernando_telemetry.storage.rows import RawTable
from fernando_telemetry.storage.sessions import Connection
from fernando_telemetry.storage.statements import load

sql = load("committed")

# Each is a search that reads the whole BRIN, some 3 ms in a partition of 4 million rows.
MOST_RANGES: Final = 16
RETRY_SECONDS: Final = 1.0


class Extent(Protocol):
    """How many rows of a table a flush has, and the range of their times, both ends included."""

    @property
    def min_time(self) -> datetime | None:
        """The first; None: it has no rows."""

    @property
    def max_time(self) -> datetime | None:
        """The last; None: it has no rows."""


class Flush(Protocol):
    """A flush whose rows are wanted."""

    @property
    def flush_id(self) -> int:
        """Its id."""

    @property
    def extents(self) -> Mapping[str, Extent]:
        """Its rows by name of the raw table."""


@dataclass(frozen=True, slots=True)
class FlushPartitions:
    """The partitions of some raw tables, as a snapshot has them. Get them by `shown`.

    Args:
        by_table: Start, end (excluded) and quoted name, by name of the table.
    """

    by_table: Mapping[str, Sequence[tuple[datetime, datetime, str]]]

    @classmethod
    async def shown(cls, connection: Connection, tables: Iterable[RawTable]) -> FlushPartitions:
        """Look them up.

        Args:
            connection: In the snapshot that shows the flushes.
            tables: The tables.
        """
        by_table: dict[str, list[tuple[datetime, datetime, str]]] = {
            table.name: [] for table in tables
        }
        for row in await connection.fetch(sql.partitions, list(by_table)):
            by_table[row["parent"]].append((*parse_bounds(row["bounds"]), row["partition"]))
        return cls(by_table)

    def leading(
        self, tables: Iterable[RawTable], flushes: Iterable[Flush], parameters: Parameters
    ) -> str | None:
        """Give the WITH clause that makes the tables' names stand for the flushes' rows.

        Rows of other flushes may be among them: the statement has to ask for the flushes as well.

        Args:
            tables: The statement names all of them.
            flushes: Their rows are wanted.
            parameters: The clause's values are added.

        Returns:
            None where there are no partitions that any of the flushes has rows in.
        """
        wanted = list(flushes)
        conditions: dict[tuple[int, ...], str] = {}
        clauses = []
        is_met = False
        for table in tables:
            parts = []
            for start, end, name in self.by_table[table.name]:
                ids = _meeting(table, wanted, start, end)
                if not ids:
                    continue
                if ids not in conditions:
                    conditions[ids] = _within(_ranges(ids), parameters)
                parts.append(f"SELECT * FROM {name} WHERE {conditions[ids]}")  # noqa: S608
            is_met |= bool(parts)
            # Made LIKE their table, partitions have its columns in its order.
            rows = " UNION ALL ".join(parts) or f"SELECT * FROM {table.name} WHERE false"  # noqa: S608
            clauses.append(f"{table.name} AS NOT MATERIALIZED ({rows} OFFSET 0)")
        return f"WITH {', '.join(clauses)}\n" if is_met else None


@contextmanager
def dropped_meanwhile() -> Iterator[None]:
    """Tell of a partition that was dropped between the look for it and the reading of it.

    Raises:
        DatabaseUnavailable: It was; the next look will not find it.
    """
    try:
        yield
    except asyncpg.UndefinedTableError as error:
        raise DatabaseUnavailable(
            "A partition was dropped while it was read.", RETRY_SECONDS
        ) from error


def _meeting(
    table: RawTable, flushes: Iterable[Flush], start: datetime, end: datetime
) -> tuple[int, ...]:
    """Give the ids of flushes, in order, whose times meet a partition's."""
    ids = []
    for flush in flushes:
        extent = flush.extents[table.name]
        if extent.min_time is None or extent.max_time is None:
            continue
        if extent.min_time < end and extent.max_time >= start:
            ids.append(flush.flush_id)
    return tuple(sorted(ids))


def _ranges(ids: Sequence[int]) -> list[tuple[int, int]]:
    """Give at most MOST_RANGES ranges that hold all ids, given in order.

    A step has the flushes of a lane without a gap, so each lane is one range. Where there are many,
    lanes that were opened one behind the other share one.
    """
    starts = [at for at in range(1, len(ids)) if lane_of(ids[at - 1]) != lane_of(ids[at])]
    starts.sort(key=lambda at: ids[at - 1] - ids[at])
    cuts = [0, *sorted(starts[: MOST_RANGES - 1]), len(ids)]
    return [(ids[first], ids[behind - 1]) for first, behind in pairwise(cuts)]


def _within(ranges: Iterable[tuple[int, int]], parameters: Parameters) -> str:
    parts = [
        f"flush_id BETWEEN {parameters.add(first, 'bigint')} AND {parameters.add(last, 'bigint')}"
        for first, last in ranges
    ]
    return f"({' OR '.join(parts)})"
