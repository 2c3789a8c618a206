"""What tails read of flushes: several filters at once, shares, counts, and by which index."""

from __future__ import annotations

import random
from collections.abc import Sequence
from datetime import datetime, timedelta
from functools import partial
from operator import eq
from typing import Any

import pytest

from fernando_telemetry.domain.cursor import Cursor
from fernando_telemetry.domain.errors import DatabaseUnavailable, QueryTooExpensive
from fernando_telemetry.domain.filter_columns import EVENT_COLUMNS
from fernando_telemetry.domain.filters import parse
from fernando_telemetry.domain.flush_ids import flush_id_of
from fernando_telemetry.storage.committed import CommittedReading
from fernando_telemetry.storage.event_tail import TailedEvents
from fernando_telemetry.storage.lists import Row
from fernando_telemetry.storage.sessions import ReaderPool
from tests.integration.queries.rows import copy, event
from tests.integration.storage.lanes import flush, noon, open_lane

SECOND = timedelta(seconds=1)
# What they take of the events below, in Python's words.
FILTERS: dict[str, Any] = {
    "": lambda _: True,
    "license_id = l0": lambda number: number % 3 == 0,
    "event_data.n = 7": lambda number: number == 7,
    "event_data.n < 20 OR event_data.n >= 90": lambda number: number < 20 or number >= 90,
    "license_id = absent": lambda _: False,
    "license_id = l2 AND event_data.n < 50": lambda number: number % 3 == 2 and number < 50,
    **{f"event_name = e{number}": partial(eq, number) for number in range(0, 90, 7)},
    "NOT license_id = l1": lambda number: number % 3 != 1,
}


class Kept:
    """Takes up to so many events of each filter."""

    def __init__(self, filters: int, most: int = 10**6) -> None:
        self.names: list[list[str]] = [[] for _ in range(filters)]
        self._most = most
        self.added = 0

    def add(self, row: Row, filters: Sequence[int]) -> None:
        self.added += 1
        for place in filters:
            if len(self.names[place]) < self._most:
                self.names[place].append(row["event_name"])

    def has_room(self, filters: Sequence[int]) -> bool:
        return any(len(self.names[place]) < self._most for place in filters)


async def stored(connection: Any, now: datetime) -> list[str]:
    """Store a hundred events in four flushes of two lanes; gives names in their order."""
    for lane in (1, 2):
        await open_lane(connection, lane)
    order: list[str] = []
    for place, (lane, number) in enumerate([(1, 1), (2, 5), (1, 2), (2, 6)]):
        flush_id = await flush(connection, lane, number, at=now + place * SECOND)
        numbers = list(range(place * 25, place * 25 + 25))
        # Stored in another order than that of their times.
        times = {n: now - timedelta(milliseconds=(n * 37) % 1000) for n in numbers}
        rows = [
            event(
                times[n],
                flush_id=flush_id,
                event_name=f"e{n}",
                license_id=f"l{n % 3}",
                event_data=f'{{"n": {n}}}',
            )
            for n in numbers
        ]
        await copy(connection, "telemetry_events", rows)
        await connection.execute(
            "UPDATE flushes SET event_count = $2, event_min_time = $3, event_max_time = $4 "
            "WHERE flush_id = $1",
            *(flush_id, len(rows), min(times.values()), max(times.values())),
        )
        order += [f"e{n}" for n in sorted(numbers, key=times.__getitem__)]
    return order


async def read(
    connection: Any, texts: Sequence[tuple[str, int | None]], most: int, kept: Kept
) -> list[int]:
    """Read all that is there."""
    reading = await CommittedReading.begin(connection)
    step = await reading.next(Cursor(), max_flushes=100, max_rows=10**6)
    filters = [(parse(text, EVENT_COLUMNS), limit) for text, limit in texts]
    return await TailedEvents().read(connection, step.flushes, filters, most, kept)


async def test_each_filter_has_its_events_in_order(readers: ReaderPool, connection: Any) -> None:
    order = await stored(connection, noon())
    for count in range(1, len(FILTERS) + 1):
        texts = list(FILTERS)[-count:]
        kept = Kept(len(texts))
        async with readers.snapshot() as lent:
            counts = await read(lent, [(text, None) for text in texts], 1000, kept)
        wanted = [[name for name in order if FILTERS[text](int(name[1:]))] for text in texts]
        assert kept.names == wanted
        assert counts == [len(names) for names in wanted]


async def test_of_too_many_each_filter_has_its_share_and_all_are_counted(
    readers: ReaderPool, connection: Any
) -> None:
    order = await stored(connection, noon())
    draw = random.Random(1)
    for _ in range(40):
        texts = draw.sample(list(FILTERS), draw.randint(1, len(FILTERS)))
        limits = [draw.choice([None, None, 3]) for _ in texts]
        most, room = draw.randrange(120), draw.choice([5, 10**6])
        kept = Kept(len(texts), room)
        async with readers.snapshot() as lent:
            counts = await read(lent, list(zip(texts, limits, strict=True)), most, kept)
        assert kept.added <= most
        due = most // len(texts)
        for text, limit, names, count in zip(texts, limits, kept.names, counts, strict=True):
            wanted = [name for name in order if FILTERS[text](int(name[1:]))]
            assert count == len(wanted)
            # In order, each once, and no fewer than its share.
            assert names == [name for name in wanted if name in set(names)]
            assert len(names) >= min(len(wanted), due, room, limit if limit is not None else due)


async def test_only_where_few_rows_are_of_the_time_it_is_what_leads_to_them(
    readers: ReaderPool, connection: Any
) -> None:
    """A late event beside one of now: the flush's pages are read, not all of the hour between."""
    now = noon()
    await open_lane(connection, 1)
    early = now - timedelta(hours=1)
    for number in range(20):
        times = [early + timedelta(milliseconds=place) for place in range(500)]
        await flush(connection, 1, number + 1, *times)
    await flush(connection, 1, 21, early, now)
    await flush(connection, 1, 22, now, now)
    events = TailedEvents()
    assert await indexes_used(readers, events, flush_id_of(1, 21)) == {"flush_brin"}
    # What came before its first look is not known to be little.
    assert await indexes_used(readers, events, flush_id_of(1, 22)) == {"flush_brin"}
    events.note(now, ())
    assert await indexes_used(readers, events, flush_id_of(1, 21)) == {"flush_brin"}
    assert await indexes_used(readers, events, flush_id_of(1, 22)) == {"time"}
    events.forget()
    assert await indexes_used(readers, events, flush_id_of(1, 22)) == {"flush_brin"}


async def indexes_used(readers: ReaderPool, events: TailedEvents, flush_id: int) -> set[str]:
    """Read the two events of a flush; gives by which indexes of the partitions."""
    async with readers.snapshot() as lent:
        reading = await CommittedReading.begin(lent)
        step = await reading.only(Cursor(), flush_id)
        filters = [(parse(text, EVENT_COLUMNS), None) for text in ("", "user_id = nobody")]
        before = await scans(lent)
        assert await events.read(lent, step.flushes, filters, 100, Kept(2)) == [2, 0]
        after = await scans(lent)
    return {name.split("_", 3)[3] for name, count in after.items() if count > before[name]}


async def scans(connection: Any) -> dict[str, int]:
    """Tell how often the session has used each index of the partitions lately."""
    found = await connection.fetch(
        "SELECT indexrelid::regclass::text AS name, pg_stat_get_xact_numscans(indexrelid) AS count "
        "FROM pg_index WHERE indrelid::regclass::text LIKE 'telemetry_events_p%'"
    )
    return {row["name"]: row["count"] for row in found}


async def test_a_filter_that_takes_too_long_is_told(readers: ReaderPool, connection: Any) -> None:
    await stored(connection, noon())
    async with readers.snapshot() as lent, connection.transaction():
        reading = await CommittedReading.begin(lent)
        step = await reading.next(Cursor(), max_flushes=100, max_rows=10**6)
        # Waits for what never comes.
        await connection.execute("LOCK TABLE telemetry_events IN ACCESS EXCLUSIVE MODE")
        await lent.execute("SET LOCAL statement_timeout = 50")
        with pytest.raises(QueryTooExpensive):
            await TailedEvents().read(lent, step.flushes, [((), None)], 10, Kept(1))


async def test_a_partition_that_goes_meanwhile_is_looked_for_again(
    readers: ReaderPool, connection: Any
) -> None:
    await stored(connection, noon())
    events = TailedEvents()
    filters = [((), None)]

    async def count() -> list[int]:
        async with readers.snapshot() as lent:
            reading = await CommittedReading.begin(lent)
            step = await reading.next(Cursor(), max_flushes=100, max_rows=10**6)
            return await events.read(lent, step.flushes, filters, 1000, Kept(1))

    assert await count() == [100]
    name = await connection.fetchval("SELECT tableoid::regclass::text FROM telemetry_events")
    await connection.execute(f"ALTER TABLE {name} RENAME TO another_name")
    with pytest.raises(DatabaseUnavailable):
        await count()
    assert await count() == [100]
