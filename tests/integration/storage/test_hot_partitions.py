"""Lists in hot partitions take a plan that does not depend on stale statistics, and lose no row."""

from __future__ import annotations

from collections.abc import AsyncIterator
from datetime import timedelta
from typing import Any

import pytest

from fernando_telemetry.domain.filter_columns import EVENT_COLUMNS
from fernando_telemetry.domain.filters import parse
from fernando_telemetry.domain.paging import Position
from fernando_telemetry.domain.time_range import TimeRange
from fernando_telemetry.storage.hot_partitions import (
    SMALL_BYTES,
    Plan,
    is_sooner_by_blooms,
    stretches,
)
from fernando_telemetry.storage.list_statement import Parameters, Selection, statement
from fernando_telemetry.storage.lists import EVENTS, listed
from fernando_telemetry.storage.sessions import ControlPool
from tests.integration.storage.partition_rows import PAST, fill, make_partition, sealer

HOUR = timedelta(hours=1)
# Two sealed ones and a hot one.
STARTS = (PAST, PAST + HOUR, PAST + 2 * HOUR)
ROWS = (400, 400, 100_000)
WHOLE = TimeRange(PAST, PAST + 3 * HOUR)


def selection(
    text: str, *, descending: bool = True, after: Position | None = None, limit: int = 101
) -> Selection:
    return Selection(WHOLE, parse(text, EVENT_COLUMNS), descending, after, limit)


@pytest.fixture
async def three_hours(database: str, control: ControlPool, connection: Any) -> AsyncIterator[Any]:
    for start, rows in zip(STARTS[:2], ROWS[:2], strict=True):
        await make_partition(control, start)
        await fill(connection, rows, start)
    sealing = sealer(database, control)
    while await sealing.seal_due(STARTS[2]):
        pass
    name = await make_partition(control, STARTS[2])
    await fill(connection, ROWS[2], STARTS[2])
    assert await connection.fetchval("SELECT pg_relation_size($1::text)", name) >= SMALL_BYTES
    await connection.execute("SET plan_cache_mode = force_custom_plan")
    async with connection.transaction(readonly=True, isolation="repeatable_read"):
        yield connection


async def test_the_hot_part_is_read_by_what_a_sample_shows(three_hours: Any) -> None:
    for text, plan in (
        ("license_id = l", Plan.ALONG_TIME),
        ('license_id = l AND event_name = "x"', Plan.ALONG_TIME),
        ("user_id = nobody", Plan.BY_BLOOMS),
        # Twenty rows side by side: whether their page is in the sample or not.
        ('user_id = "user-77"', Plan.BY_BLOOMS),
        ("license_id = nobody", Plan.BY_BLOOMS),
        ("license_id = l AND session_id = none", Plan.BY_BLOOMS),
    ):
        found = await stretches(three_hours, EVENTS, selection(text))
        assert [(one.time_range, one.plan) for one in found] == [
            (TimeRange(STARTS[2], WHOLE.end), plan),
            (TimeRange(WHOLE.start, STARTS[2]), Plan.PLANNERS),
        ]
        parameters = Parameters(STARTS[2], WHOLE.end)
        async with found[0].planned(three_hours):
            made = statement(found[0].source, selection(text), parameters)
            rows = await three_hours.fetch("EXPLAIN " + made, *parameters.values)
        lines = "\n".join(row[0] for row in rows)
        assert ("Bitmap Index Scan" in lines) == (plan is Plan.BY_BLOOMS), lines
        assert ("00_time" in lines) == (plan is Plan.ALONG_TIME), lines
        assert "Seq Scan" not in lines
    # And the next statement is the planner's again.
    assert await three_hours.fetchval("SHOW enable_seqscan") == "on"
    assert await three_hours.fetchval("SHOW enable_indexscan") == "on"


async def test_what_no_bloom_answers_is_left_as_it_is(three_hours: Any) -> None:
    for text in (
        "",
        'event_data.text = "y"',
        "event_name > a",
        'user_id != "user-77"',
        "NOT license_id = l",
        "license_id = l OR user_id = none",
        'user_id = ""',
    ):
        (found,) = await stretches(three_hours, EVENTS, selection(text))
        assert (found.time_range, found.source, found.plan) == (WHOLE, EVENTS, None), text


async def test_pages_give_every_row_once_in_order(three_hours: Any) -> None:
    for text, condition in (
        # In all three partitions; in the hot one alone; nowhere; by a payload as well.
        ('user_id = "user-7"', "user_id = 'user-7'"),
        ('user_id = "user-4000"', "user_id = 'user-4000'"),
        ('user_id = "user-none"', "user_id = 'user-none'"),
        ("license_id = l AND event_data.n = 390", "event_data @> '{\"n\": 390}'"),
    ):
        for descending in (True, False):
            direction = "DESC" if descending else "ASC"
            rows = await three_hours.fetch(
                f"SELECT event_id FROM telemetry_events WHERE {condition} "
                f"ORDER BY event_timestamp {direction}, event_id {direction}"
            )
            paged = await every_page(three_hours, text, descending=descending)
            assert paged == [row["event_id"] for row in rows], (text, direction)


async def every_page(connection: Any, text: str, *, descending: bool) -> list[Any]:
    """Read a list in pages of seven."""
    ids: list[Any] = []
    after: Position | None = None
    while True:
        asked = selection(text, descending=descending, after=after, limit=7)
        page = [found async for found in listed(connection, EVENTS, asked)]
        ids += [row["event_id"] for _, row in page]
        if len(page) < asked.limit:
            return ids
        after = page[-1][0]


async def test_a_place_in_the_sealed_part_leaves_the_hot_one_out(three_hours: Any) -> None:
    place = (STARTS[1] + timedelta(milliseconds=300), None)
    (found,) = await stretches(three_hours, EVENTS, selection("license_id = l", after=place))
    assert (found.time_range, found.plan) == (WHOLE, None)


def test_the_way_that_reads_fewer_rows_is_chosen() -> None:
    # 10,000 of two million rows: a value of every row, of one in a thousand, of one in the sample.
    assert not is_sooner_by_blooms(10_000, 10_000, 0.005, 101)
    assert not is_sooner_by_blooms(10_000, 10, 0.005, 101)
    assert is_sooner_by_blooms(10_000, 1, 0.005, 101)
    assert is_sooner_by_blooms(10_000, 0, 0.005, 101)
    # A page of one row is found along the time index sooner.
    assert not is_sooner_by_blooms(10_000, 1, 0.005, 1)
    assert not is_sooner_by_blooms(0, 0, 0.005, 101)
