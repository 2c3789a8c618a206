"""Reads the events of some flushes for several filters at once, in one pass where they are few.

The planner finds them by their time: in a partition that is being written it takes any range of
times for a few rows. That is right where the flushes before tell that they are few. But one late
event makes the range of its flush hours wide; then the partitions are read by name, where the index
on time is none for the planner, and BRIN leads to the pages of the flushes
(storage/hot_partitions.py). BRIN alone would cost too much: a search of it reads all of the index.

No more rows are read than may be given; of what is beyond only the number is found out.
"""

from __future__ import annotations

from collections.abc import Sequence
from contextlib import aclosing
from dataclasses import replace
from datetime import datetime
from itertools import groupby, pairwise
from typing import TYPE_CHECKING, Final, Protocol, cast

import asyncpg

from fernando_telemetry.domain.calendar import MICROSECOND
from fernando_telemetry.domain.errors import DatabaseUnavailable
from fernando_telemetry.domain.fair_shares import fair_shares
from fernando_telemetry.domain.filter_columns import ColumnType
from fernando_telemetry.domain.filters import Comparison, Condition, Filter
from fernando_telemetry.domain.flush_ids import lane_of
from fernando_telemetry.storage import rows
from fernando_telemetry.storage.committed import CommittedFlush
from fernando_telemetry.storage.hot_partitions import without_time_index
from fernando_telemetry.storage.list_statement import Parameters, compiled, filtered
from fernando_telemetry.storage.lists import EVENTS, Row, slices
from fernando_telemetry.storage.partitions import parse_bounds
from fernando_telemetry.storage.recent_flushes import RecentFlushes
from fernando_telemetry.storage.sessions import Connection, translated
from fernando_telemetry.storage.statements import load

if TYPE_CHECKING:
    from collections.abc import AsyncGenerator

sql = load("event_tail")

TABLES: Final = (rows.EVENTS,)
# Of one statement: its parameters are at most 32,767.
MOST_FILTERS: Final = 100
# Read by time as long as they are no more, or no more than so many times those that are wanted.
FEW_ROWS: Final = 10_000
MOST_TIMES: Final = 4


class Taker(Protocol):
    """Takes what is read; filters go by their places among those that were given."""

    def add(self, row: Row, filters: Sequence[int]) -> None:
        """Take an event for the filters that take it, as far as there is room."""

    def has_room(self, filters: Sequence[int]) -> bool:
        """Tell whether there is room for any of these filters."""


class TailedEvents:
    """Reads events for tails, in the order of flushes, those of a flush by time."""

    def __init__(self) -> None:
        # By their bounds; kept from one reading to the next.
        self._partitions: list[tuple[datetime, datetime, str]] = []
        self._recent = RecentFlushes()

    def forget(self) -> None:
        """Forget the flushes that were noted: others went by meanwhile."""
        self._recent = RecentFlushes()

    def note(self, began_at: datetime, flushes: Sequence[CommittedFlush]) -> None:
        """Take note of flushes that are read as they come; each is to come once.

        Args:
            began_at: When the snapshot that shows them began.
            flushes: All there are since those of the time before.
        """
        extents = [flush.extents[rows.EVENTS.name] for flush in flushes]
        self._recent.note(
            began_at,
            [
                (one.min_time, one.max_time, one.count)
                for one in extents
                if one.min_time is not None and one.max_time is not None
            ],
        )

    async def read(
        self,
        connection: Connection,
        flushes: Sequence[CommittedFlush],
        filters: Sequence[tuple[Filter, int | None]],
        most_rows: int,
        taker: Taker,
    ) -> list[int]:
        """Read the events of flushes that filters take, and count them.

        Args:
            connection: In the snapshot that the flushes come from, without whole scans.
            flushes: In order of arrival.
            filters: At most MOST_FILTERS, each with the most events wanted for it; None: any
                number.
            most_rows: Most events to read. Where there are more, each filter has its share.
            taker: Where they go.

        Returns:
            How many events each filter takes.

        Raises:
            QueryTooExpensive: It ran past its time-out.
            DatabaseUnavailable: The session was lost, or a partition was dropped meanwhile.
        """
        having = [flush for flush in flushes if flush.row_count(TABLES)]
        if not having:
            return [0] * len(filters)
        try:
            with translated(query=True):
                names = None
                if not self._are_few_by_time(having):
                    names = await self._overlapping(connection, *_time_range(having))
                reading = _Reading(connection, having, filters, names, taker)
                return await reading.run(most_rows)
        except asyncpg.UndefinedTableError as error:
            self._partitions = []
            raise DatabaseUnavailable("A partition was dropped while it was read.", 1.0) from error

    def _are_few_by_time(self, flushes: Sequence[CommittedFlush]) -> bool:
        """Tell whether few rows but those of flushes have their time in the range of theirs."""
        within = self._recent.rows_within(*_time_range(flushes))
        wanted = sum(flush.row_count(TABLES) for flush in flushes)
        return within is not None and within <= max(FEW_ROWS, MOST_TIMES * wanted)

    async def _overlapping(
        self, connection: Connection, start: datetime, end: datetime
    ) -> list[str]:
        """Give the partitions that a time range meets."""
        for is_last in (False, True):
            met = [one for one in self._partitions if one[0] < end and one[1] > start]
            if is_last or _cover(met, start, end):
                break
            found = await connection.fetch(sql.partitions)
            self._partitions = sorted(
                (*parse_bounds(row["bounds"]), row["partition"]) for row in found
            )
        return [name for _, _, name in met]


class _Reading:
    """One reading; filters go by their places.

    Args:
        connection: In the snapshot.
        flushes: They have events.
        filters: As read() has them.
        partitions: To read by name; None: by time.
        taker: Where events go.
    """

    def __init__(
        self,
        connection: Connection,
        flushes: Sequence[CommittedFlush],
        filters: Sequence[tuple[Filter, int | None]],
        partitions: Sequence[str] | None,
        taker: Taker,
    ) -> None:
        self._connection = connection
        self._flushes = flushes
        self._filters = [conditions for conditions, _ in filters]
        self._limits = [limit for _, limit in filters]
        self._partitions = partitions
        self._taker = taker
        self._counts = [0] * len(filters)
        self._read = 0

    async def run(self, most_rows: int) -> list[int]:
        """Read, and give how many events each filter takes."""
        if self._partitions is not None and not self._partitions:
            return self._counts
        whole = [place for place, one in enumerate(self._filters) if not one]
        others = [place for place, one in enumerate(self._filters) if one]
        if others:
            await self._with_filters(others, most_rows * len(others) // len(self._filters))
        if whole:
            await self._whole(whole, most_rows - self._read)
        return self._counts

    def _wanted(self, place: int, most_rows: int) -> int:
        """Give how many events to read for a filter, of so many at most."""
        limit = self._limits[place]
        return most_rows if limit is None else min(most_rows, limit)

    async def _whole(self, places: list[int], most_rows: int) -> None:
        """Read all events: how many there are is known, those beyond the limit are not read."""
        most_rows = max(self._wanted(place, most_rows) for place in places)
        asked, count = [], 0
        for flush in self._flushes:
            if count >= most_rows:
                break
            asked.append(flush)
            count += flush.row_count(TABLES)
        if asked:
            await self._hand_over(asked, places, most_rows)
        for place in places:
            self._counts[place] = sum(flush.row_count(TABLES) for flush in self._flushes)

    async def _with_filters(self, places: list[int], most_rows: int) -> None:
        most = self._wanted(places[0], most_rows) if len(places) == 1 else most_rows
        given = await self._hand_over(self._flushes, places, most)
        if given is None:
            given = await self._count(places)
            if len(places) > 1:
                await self._in_shares(places, given, most_rows)
        for place, count in zip(places, given, strict=True):
            self._counts[place] = count

    async def _in_shares(self, places: list[int], counts: list[int], most_rows: int) -> None:
        """Read what is due to each filter; those that get all they take go together."""
        wanted = [self._wanted(place, count) for place, count in zip(places, counts, strict=True)]
        shares = dict(zip(places, fair_shares(wanted, most_rows), strict=True))
        few = [
            place for place, count in zip(places, counts, strict=True) if 0 < count == shares[place]
        ]
        if few:
            await self._hand_over(self._flushes, few, sum(shares[place] for place in few))
        for place, share in shares.items():
            if share and place not in few:
                await self._hand_over(self._flushes, [place], share)

    async def _hand_over(
        self, flushes: Sequence[CommittedFlush], places: list[int], most_rows: int
    ) -> list[int] | None:
        """Hand over the events that any of some filters takes.

        Returns:
            How many each takes; None where not all were handed over. Of one filter there were
            then as many as may be, of several, among which they would have to be shared, none.
        """
        text, parameters = self._statement(flushes, places, most_rows)
        counts = dict.fromkeys(places, 0)
        read = 0
        found = slices(self._connection, text, parameters)
        async with aclosing(cast("AsyncGenerator[list[Row], None]", found)) as some:
            async for events in some:
                is_beyond = events[0]["found"] > most_rows
                if is_beyond and len(places) > 1:
                    return None
                for event in events:
                    if read == most_rows:
                        return None
                    takers = _takers(event, places)
                    for place in takers:
                        counts[place] += 1
                    self._taker.add(event, takers)
                    read += 1
                    self._read += 1
                    if not self._taker.has_room(places):
                        return None
        return list(counts.values())

    async def _count(self, places: list[int]) -> list[int]:
        """Count what each of some filters takes."""
        parameters = Parameters(*_time_range(self._flushes))
        takes = [self._compiled(place, parameters) for place in places]
        counts = ", ".join(f"count(*) FILTER (WHERE {one})" for one in takes)
        base = sql.count_events.replace("ARRAY[count(*)]", f"ARRAY[{counts}]")
        first = self._needed(places, takes, parameters)
        text = self._of_flushes(base, self._flushes, parameters, first)
        found: list[int] = await self._connection.fetchval(text, *parameters.values)
        return found

    def _statement(
        self, flushes: Sequence[CommittedFlush], places: list[int], most_rows: int
    ) -> tuple[str, Parameters]:
        """Give the statement of events that any of some filters takes, one more than wanted.

        Which events come where there are too many is left to the database: the first ones by time
        would have to be picked out of all.
        """
        parameters = Parameters(*_time_range(flushes))
        takes = [self._compiled(place, parameters) for place in places]
        base = sql.events
        if len(takes) > 1 and all(takes):
            base = base.replace("NULL::boolean[]", f"ARRAY[{', '.join(takes)}]")
        any_takes = []
        if all(takes):
            any_takes = [*self._needed(places, takes, parameters), _any_of(takes)]
        text = self._of_flushes(base, flushes, parameters, any_takes)
        limit = parameters.add(most_rows + 1, "bigint")
        ids = parameters.add([flush.flush_id for flush in flushes], "bigint[]")
        keys = ", ".join([f"array_position({ids}, flush_id)", *(key.sql for key in EVENTS.keys)])
        some = f"SELECT *, count(*) OVER () AS found FROM ({text} LIMIT {limit}) AS events"  # noqa: S608
        return f"{some}\nORDER BY {keys}", parameters

    def _of_flushes(
        self,
        base: str,
        flushes: Sequence[CommittedFlush],
        parameters: Parameters,
        conditions: list[str],
    ) -> str:
        """Add the flushes and other conditions to a statement's base, and read by partitions."""
        ranges = []
        # A step has the flushes of a lane without a gap; each range is one search of the index.
        ids = sorted(flush.flush_id for flush in flushes)
        for _, run in groupby(ids, key=lane_of):
            first, *others = run
            last = parameters.add(others[-1] if others else first, "bigint")
            ranges.append(f"flush_id BETWEEN {parameters.add(first, 'bigint')} AND {last}")
        of_flushes = f"({' OR '.join(ranges)})"
        if self._partitions is None:
            # IS TRUE: no index is for it.
            return filtered(base, [f"{of_flushes} IS TRUE", *conditions])
        base = without_time_index(replace(EVENTS, base=base), self._partitions)
        return filtered(base, [of_flushes, *conditions])

    def _needed(self, places: list[int], takes: list[str], parameters: Parameters) -> list[str]:
        """Give what any of some filters needs, cheaper than all of them where they are many.

        Of those that ask for a column's equal text PostgreSQL makes one search in a hash table.
        """
        texts: dict[str, list[object]] = {}
        others = []
        for place, one in zip(places, takes, strict=True):
            equal = next(filter(_is_equal_text, self._filters[place]), None)
            if isinstance(equal, Comparison):
                texts.setdefault(EVENTS.expression(equal.column.name), []).append(equal.value)
            else:
                others.append(one)
        if len(texts) + len(others) == len(places):
            return []
        equals = [
            f"{column} = ANY ({parameters.add(values, 'text[]')})"
            for column, values in texts.items()
        ]
        return [_any_of([*equals, *others])]

    def _compiled(self, place: int, parameters: Parameters) -> str:
        """Give a filter as one condition; "" where it takes everything."""
        conditions = compiled(self._filters[place], EVENTS, parameters)
        return f"({' AND '.join(conditions)})" if conditions else ""


def _is_equal_text(condition: Condition) -> bool:
    """Tell whether a condition asks for a column's equal text."""
    return (
        isinstance(condition, Comparison)
        and condition.column.type is ColumnType.TEXT
        and condition.operator == "="
        and condition.value is not None
        and not condition.path
    )


def _any_of(conditions: Sequence[str]) -> str:
    """Join conditions by OR, so that no index is for them: blooms would be read whole as well."""
    return f"({' OR '.join(conditions)}) IS TRUE"


def _cover(
    partitions: Sequence[tuple[datetime, datetime, str]], start: datetime, end: datetime
) -> bool:
    """Tell whether partitions, sorted, cover a time range without a gap."""
    return (
        bool(partitions)
        and partitions[0][0] <= start
        and partitions[-1][1] >= end
        and all(one[1] == other[0] for one, other in pairwise(partitions))
    )


def _takers(event: Row, places: list[int]) -> list[int]:
    """Give the filters that take an event, which one of them at least does."""
    takers = event["takers"]
    if takers is None:
        return places
    return [place for place, takes in zip(places, takers, strict=True) if takes]


def _time_range(flushes: Sequence[CommittedFlush]) -> tuple[datetime, datetime]:
    """Give the time range of the events of flushes, the end excluded."""
    extents = [flush.extents[rows.EVENTS.name] for flush in flushes]
    start = min(one.min_time for one in extents if one.min_time is not None)
    last = max(one.max_time for one in extents if one.max_time is not None)
    return start, last + MICROSECOND
