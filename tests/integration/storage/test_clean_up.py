"""What a clean-up takes and leaves, what it waits for, and how it goes on after it was cut."""

from __future__ import annotations

import asyncio
from datetime import timedelta
from typing import Any

import asyncpg
import pytest

from fernando_telemetry.domain.cursor import Cursor
from fernando_telemetry.domain.errors import DatabaseUnavailable
from fernando_telemetry.domain.retention import CleanedUp, Retention, RetentionPolicy
from fernando_telemetry.storage import clean_up as module
from fernando_telemetry.storage import retention_deletes
from fernando_telemetry.storage.clean_up import TABLES as TABLES_OF_KINDS
from fernando_telemetry.storage.clean_up import CleanUp
from fernando_telemetry.storage.committed import CommittedReading
from fernando_telemetry.storage.dropping import MARK
from fernando_telemetry.storage.partitions import Partitions, raw_tables
from fernando_telemetry.storage.retention_policies import RetentionPolicies
from fernando_telemetry.storage.rows import EVENTS as EVENTS_TABLE
from fernando_telemetry.storage.sessions import ControlPool, ReaderPool
from fernando_telemetry.storage.statements import load
from tests.conftest import session_settings
from tests.integration.ingest.records import now
from tests.integration.storage.lanes import flush, open_lane
from tests.integration.storage.retained_rows import (
    ROWS,
    TABLES,
    add_rows,
    ago,
    left,
    rows_left,
)

EVENTS = "telemetry_events"
KPIS = "business_metric_versions"
KIND_OF = {table.name: kind for kind, tables in TABLES_OF_KINDS.items() for table in tables}
SHORT, LONG, EVER = "short", "long", "ever"
ALL = ("", SHORT, LONG, EVER, "other")


@pytest.fixture
def policies(control: ControlPool) -> RetentionPolicies:
    return RetentionPolicies(control, Retention.of_days(0, 0, 0, 0))


@pytest.fixture
def known(control: ControlPool) -> Partitions:
    return Partitions(control, raw_tables())


@pytest.fixture
def cleaner(database: str, policies: RetentionPolicies, known: Partitions) -> CleanUp:
    return CleanUp(session_settings(database), policies, known)


async def put(policies: RetentionPolicies, kind: str, **days: int) -> None:
    """Set the policies of a kind; `general` is that of all."""
    for license_id, term in days.items():
        name = "" if license_id == "general" else license_id
        await policies.put(RetentionPolicy(kind, name, term))


def taken(results: list[CleanedUp], kind: str) -> dict[str, tuple[int, int]]:
    """Give partitions and rows by licence, of one kind."""
    return {one.license_id: (one.partitions, one.rows) for one in results if one.kind == kind}


@pytest.mark.parametrize("table", [name for name in TABLES if name != KPIS])
async def test_partitions_past_the_term_are_dropped(
    cleaner: CleanUp,
    policies: RetentionPolicies,
    control: ControlPool,
    connection: Any,
    table: str,
) -> None:
    await add_rows(control, connection, table, ALL, [0, 1, 9, 10, 11, 12, 40])
    await put(policies, KIND_OF[table], general=10)
    would = await cleaner.preview(now())
    assert taken(would, KIND_OF[table]) == {"": (3, 0)}
    assert sum(one.partition_bytes for one in would) > 0
    assert len(await left(connection, table)) == 7 * len(ALL)
    assert await cleaner.clean_up(now()) == would
    assert await left(connection, table) == {(who, day) for who in ALL for day in (0, 1, 9, 10)}
    assert taken(await cleaner.clean_up(now()), KIND_OF[table]) == {"": (0, 0)}
    for other in set(TABLES) - {table}:
        assert await left(connection, other) == set()


@pytest.mark.parametrize("table", TABLES)
async def test_each_licence_goes_by_its_own_term(
    cleaner: CleanUp,
    policies: RetentionPolicies,
    control: ControlPool,
    connection: Any,
    table: str,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """`other` and those without one go by the general term; for ever means no partition goes."""
    monkeypatch.setattr(retention_deletes, "BLOCKS_A_STEP", 1)
    days = [0, 4, 5, 6, 19, 20, 21, 299, 300, 301, 380]
    await add_rows(control, connection, table, ALL, days)
    await put(policies, KIND_OF[table], general=20, short=5, long=300, ever=0)
    terms = {"": 20, "other": 20, SHORT: 5, LONG: 300, EVER: 1_000}
    expected = {(who, day) for who, term in terms.items() for day in days if day <= term}
    gone = {
        "": (0, 2 * ROWS * 5),
        SHORT: (0, ROWS * 8),
        LONG: (0, ROWS * 2),
    }
    would = await cleaner.preview(now())
    assert taken(would, KIND_OF[table]) == gone
    assert len(await left(connection, table)) == len(ALL) * len(days)
    assert await cleaner.clean_up(now()) == would
    assert await left(connection, table) == expected
    older_than = {one.license_id: one.older_than for one in would if one.kind == KIND_OF[table]}
    assert older_than == {"": ago(20), SHORT: ago(5), LONG: ago(300)}


async def test_the_longest_term_of_all_lets_partitions_go(
    cleaner: CleanUp, policies: RetentionPolicies, control: ControlPool, connection: Any
) -> None:
    await add_rows(control, connection, EVENTS, ALL, [1, 30, 100])
    await put(policies, "event", general=20, long=50)
    results = await cleaner.clean_up(now())
    assert taken(results, "event") == {"": (1, 4 * ROWS), LONG: (0, 0)}
    assert await left(connection, EVENTS) == {(who, 1) for who in ALL} | {(LONG, 30)}


async def test_for_ever_is_for_ever(
    cleaner: CleanUp, policies: RetentionPolicies, control: ControlPool, connection: Any
) -> None:
    await add_rows(control, connection, EVENTS, ALL, [0, 5_000])
    assert await cleaner.preview(now()) == []
    assert await cleaner.clean_up(now()) == []
    assert len(await left(connection, EVENTS)) == 2 * len(ALL)


async def test_kpis_go_by_the_end_of_their_period_within_a_month(
    cleaner: CleanUp, policies: RetentionPolicies, control: ControlPool, connection: Any
) -> None:
    days = list(range(30, 75))
    await add_rows(control, connection, KPIS, ["", LONG], days)
    await put(policies, "business_metric", general=45)
    await cleaner.clean_up(now())
    assert await left(connection, KPIS) == {
        (who, day) for who in ("", LONG) for day in range(30, 46)
    }


async def test_samples_whose_series_is_gone_go_by_the_general_term(
    cleaner: CleanUp, policies: RetentionPolicies, control: ControlPool, connection: Any
) -> None:
    await add_rows(control, connection, "metric_samples", ["", LONG], [30])
    await connection.execute("DELETE FROM metric_series WHERE license_id IS NULL")
    await put(policies, "system_metric", general=20, long=50)
    await cleaner.clean_up(now())
    assert await connection.fetchval("SELECT count(*) FROM metric_samples") == ROWS
    assert await left(connection, "metric_samples") == {(LONG, 30)}


async def test_a_reader_is_waited_for_a_moment_and_then_passed_over(
    cleaner: CleanUp,
    policies: RetentionPolicies,
    control: ControlPool,
    connection: Any,
    database: str,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """New queries do without the partition meanwhile, and other kinds are cleaned up."""
    monkeypatch.setattr(module, "PAUSE_SECONDS", 0.01)
    monkeypatch.setattr(module, "DROP_LOCK_SECONDS", 0.1)
    cleaner = CleanUp(session_settings(database), policies, Partitions(control, raw_tables()))
    for table in (EVENTS, "traces"):
        await add_rows(control, connection, table, ALL, [1, 50, 60])
    await put(policies, "event", general=20)
    await put(policies, "span", general=20)
    reading = await asyncpg.connect(database)
    await reading.execute(f"BEGIN; SELECT count(*) FROM {EVENTS}")
    with pytest.raises(DatabaseUnavailable, match="2 partitions are being read"):
        await cleaner.clean_up(now())
    assert await left(connection, EVENTS) == {(who, day) for who in ALL for day in (1, 50)}
    assert await left(connection, "traces") == {(who, 1) for who in ALL}
    assert await reading.fetchval(f"SELECT count(*) FROM {EVENTS}_p{ago(60):%Y%m%d}") == 5 * ROWS
    await reading.execute("COMMIT")
    await reading.close()
    results = await cleaner.clean_up(now())
    assert taken(results, "event") == {"": (2, 0)}
    assert await left(connection, EVENTS) == {(who, 1) for who in ALL}
    assert (
        await connection.fetchval("SELECT to_regclass($1)", f"{EVENTS}_p{ago(60):%Y%m%d}") is None
    )


async def test_a_detached_table_that_was_not_dropped_goes(
    cleaner: CleanUp, control: ControlPool, connection: Any
) -> None:
    await add_rows(control, connection, EVENTS, ALL, [50])
    name = f"{EVENTS}_p{ago(50):%Y%m%d}"
    await connection.execute(f"COMMENT ON TABLE {name} IS '{MARK}'")
    await connection.execute(f"ALTER TABLE {EVENTS} DETACH PARTITION {name}")
    await cleaner.clean_up(now())
    assert await connection.fetchval("SELECT to_regclass($1)", name) is None


async def test_one_clean_up_at_a_time(
    cleaner: CleanUp,
    policies: RetentionPolicies,
    control: ControlPool,
    connection: Any,
    database: str,
) -> None:
    """The leader's passes; one that was asked for waits its turn."""
    await add_rows(control, connection, EVENTS, ALL, [50])
    await put(policies, "event", general=20)
    holding = await asyncpg.connect(database)
    assert await holding.fetchval(module.sql.try_lock)
    await cleaner.run(now())
    asked = asyncio.create_task(cleaner.clean_up(now()))
    await asyncio.wait([asked], timeout=1.0)
    assert not asked.done()
    assert len(await left(connection, EVENTS)) == len(ALL)
    await holding.close()
    assert taken(await asked, "event") == {"": (1, 0)}


async def test_late_rows_go_on_while_rows_of_their_partition_are_deleted(
    cleaner: CleanUp,
    policies: RetentionPolicies,
    control: ControlPool,
    connection: Any,
    database: str,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(retention_deletes, "BLOCKS_A_STEP", 1)
    await add_rows(control, connection, EVENTS, [SHORT, "other"], [30], rows=2_000)
    await put(policies, "event", general=100, short=10)
    writing = await asyncpg.connect(database)
    cleaning = asyncio.create_task(cleaner.clean_up(now()))
    written = 0
    while not cleaning.done():
        await add_rows(control, writing, EVENTS, ["other"], [30], rows=10)
        written += 10
    await writing.close()
    assert taken(await cleaning, "event") == {"": (0, 0), SHORT: (0, 2_000)}
    assert await rows_left(connection, EVENTS) == {("other", 30): 2_000 + written}
    assert written > 10


async def test_what_was_cut_in_the_middle_is_finished_by_the_next(
    cleaner: CleanUp,
    policies: RetentionPolicies,
    control: ControlPool,
    connection: Any,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(retention_deletes, "BLOCKS_A_STEP", 1)
    monkeypatch.setattr(module, "LEAST_STEP_PAUSE_SECONDS", 0.05)
    await add_rows(control, connection, EVENTS, [SHORT, "other"], [30], rows=2_000)
    await put(policies, "event", general=100, short=10)
    cleaning = asyncio.create_task(cleaner.clean_up(now()))
    async with asyncio.timeout(30):
        while (await rows_left(connection, EVENTS))[SHORT, 30] == 2_000:
            pass
    cleaning.cancel()
    await asyncio.gather(cleaning, return_exceptions=True)
    some = (await rows_left(connection, EVENTS)).get((SHORT, 30), 0)
    assert 0 < some < 2_000
    monkeypatch.setattr(module, "LEAST_STEP_PAUSE_SECONDS", 0.0)
    assert 0 < taken(await cleaner.clean_up(now()), "event")[SHORT][1] <= some
    assert await rows_left(connection, EVENTS) == {("other", 30): 2_000}


async def test_what_is_clean_is_not_read_again_until_terms_change(
    cleaner: CleanUp,
    policies: RetentionPolicies,
    control: ControlPool,
    connection: Any,
) -> None:
    """An hour after terms and midnight, a partition found clean is left alone."""
    await add_rows(control, connection, EVENTS, ["other"], [30])
    await put(policies, "event", general=100, short=10)
    noon = ago(0) + timedelta(hours=12)
    await cleaner.clean_up(noon)
    await add_rows(control, connection, EVENTS, [SHORT], [30])
    await cleaner.clean_up(noon + timedelta(minutes=59))
    assert await left(connection, EVENTS) == {("other", 30)}
    await cleaner.clean_up(noon + timedelta(hours=1))
    await add_rows(control, connection, EVENTS, [SHORT], [30])
    await cleaner.clean_up(noon + timedelta(hours=2))
    assert await left(connection, EVENTS) == {("other", 30), (SHORT, 30)}
    await put(policies, "event", short=11)
    await cleaner.clean_up(noon + timedelta(hours=3))
    assert await left(connection, EVENTS) == {("other", 30)}


async def test_a_cursor_from_before_goes_on_with_what_is_left(
    cleaner: CleanUp,
    policies: RetentionPolicies,
    known: Partitions,
    connection: Any,
    readers: ReaderPool,
) -> None:
    await known.ensure({EVENTS: [ago(50), now()]})
    await open_lane(connection, 1)
    for number, times in enumerate(([ago(50)] * 3, [ago(50), now()], [now()]), 1):
        await flush(connection, 1, number, *times)
    await put(policies, "event", general=20)
    await cleaner.clean_up(now())
    async with readers.snapshot() as opened:
        reading = await CommittedReading.begin(opened)
        step = await reading.next(Cursor(), max_flushes=10, max_rows=100)
        found = [
            sum([len(rows) async for rows in reading.rows(one, EVENTS_TABLE)])
            for one in step.flushes
        ]
    assert (found, step.is_last) == ([0, 1, 1], True)


@pytest.mark.parametrize(
    ("statement", "arguments"),
    [
        (load("partitions").existing, [[EVENTS]]),
        (load("sealing").unsealed, [[EVENTS], ["mark"]]),
        (load("fold").delta_partitions, [EVENTS]),
    ],
)
async def test_a_partition_that_is_being_dropped_keeps_no_list_waiting(
    known: Partitions,
    connection: Any,
    database: str,
    statement: str,
    arguments: list[Any],
) -> None:
    """Neither a flush that looks for its partition, nor sealing, nor the fold."""
    await known.ensure({EVENTS: [ago(50)]})
    partition = f"{EVENTS}_p{ago(50):%Y%m%d}"
    dropping = await asyncpg.connect(database)
    await dropping.execute(f"BEGIN; LOCK TABLE {partition} IN ACCESS EXCLUSIVE MODE")
    await connection.execute("SET lock_timeout = '10ms'")
    rows = await connection.fetch(statement, *arguments)
    assert any(f"'{ago(50):%Y-%m-%d}" in row["bounds"] for row in rows)
    await dropping.close()
