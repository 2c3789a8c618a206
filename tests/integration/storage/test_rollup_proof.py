"""Verify finds hours that are not what the raw rows say; rebuild mends them and nothing else."""

from __future__ import annotations

import random
from collections.abc import AsyncIterator
from datetime import UTC, datetime, timedelta
from typing import Any

import asyncpg
import pytest
from grpc import aio

from fernando_telemetry.app import Application
from fernando_telemetry.domain.calendar import EPOCH
from fernando_telemetry.domain.limits import EVENT_NAMES_PER_HOUR
from fernando_telemetry.domain.retention import Retention
from fernando_telemetry.domain.time_range import TimeRange
from fernando_telemetry.storage.event_rollup import EVENT_ROLLUP
from fernando_telemetry.storage.fold import Fold
from fernando_telemetry.storage.rollup import RollupTerms
from fernando_telemetry.storage.rollup_proof import Finding, RollupProof
from fernando_telemetry.storage.rollups import ROLLUPS
from fernando_telemetry.storage.sessions import ControlPool
from tests.conftest import session_settings
from tests.integration.ingest.ingest_call import ingest, request
from tests.integration.ingest.records import event, stamp
from tests.integration.queries.rows import copy, make_partition
from tests.integration.queries.rows import event as event_row
from tests.integration.queries.test_summarize_events import END, HOUR, START, made_up

TERMS = RollupTerms(30, 400)
NOW = datetime.now(UTC)
RETENTION = Retention.of_days(90, 180, 180, 30)
# Sums of doubles, whatever order they were added up in.
TYPE_ROWS = (
    "SELECT hour, event_type, event_count, duration_count, round(duration_sum::numeric, 3),"
    " duration_buckets, duration_counts FROM event_type_hours ORDER BY 1, 2"
)
ROWS = "SELECT * FROM event_hours ORDER BY 1, 2, 3, 4, 5, 6, 7"


@pytest.fixture
async def proof(database: str) -> AsyncIterator[RollupProof]:
    async with RollupProof.opened(
        session_settings(database), TERMS.oldest(datetime.now(UTC))
    ) as opened:
        yield opened


@pytest.fixture
def fold(control: ControlPool, database: str) -> Fold:
    return Fold(control, session_settings(database), TERMS)


@pytest.fixture(autouse=True)
def _fold_by_hand(monkeypatch: pytest.MonkeyPatch) -> None:
    """Let the tests say what is folded; the server's own duty does not come to it."""
    monkeypatch.setattr("fernando_telemetry.upkeep.FOLD_FIRST_AFTER_SECONDS", 3600.0)


async def prove(proof: RollupProof, *, mends: bool = False) -> list[Finding]:
    """Take all hours of the test's range; gives the findings that differ."""
    found: list[Finding] = []
    for step in await proof.steps(ROLLUPS, TimeRange(START - HOUR, END + HOUR), NOW, RETENTION):
        found += await proof.take(step, mends=mends)
    assert {one.table for one in found} >= {"event_hours"}
    return [one for one in found if one.differences]


async def some_events(channel: aio.Channel, fold: Fold) -> None:
    """Store events of six hours, half of them folded."""
    chance = random.Random(3)
    for _ in range(2):
        await fold.fold(datetime.now(UTC))
        await ingest(channel, request(*made_up(chance, 300)))


@pytest.mark.usefixtures("server")
async def test_what_the_server_writes_is_equal(
    channel: aio.Channel, fold: Fold, proof: RollupProof
) -> None:
    await some_events(channel, fold)
    # On the edges of buckets, where one logarithm may round up and another down.
    edges = [1.04**power for power in range(-200, 400)] + [0.0, 1.0816, 5e-324, 1e300]
    at = stamp(START)
    await ingest(channel, request(*(event(duration_ms=one, event_timestamp=at) for one in edges)))
    assert await prove(proof) == []
    await fold.fold(datetime.now(UTC))
    assert await prove(proof) == []


@pytest.mark.usefixtures("server")
async def test_names_beyond_the_cap_are_equal_folded_or_not(
    channel: aio.Channel, connection: Any, fold: Fold, proof: RollupProof
) -> None:
    names = [f"n{number:05}" for number in range(EVENT_NAMES_PER_HOUR + 30)]
    at = stamp(START)
    for _ in range(2):
        await ingest(channel, request(*(event(name, event_timestamp=at) for name in names)))
        assert await prove(proof) == []
        await fold.fold(datetime.now(UTC))
        assert await prove(proof) == []
    await connection.execute("DELETE FROM event_hours")
    found = {one.table: one.differences for one in await prove(proof, mends=True)}
    assert found == {"event_hours": EVENT_NAMES_PER_HOUR + 1, "event_type_hours": 1}
    assert await prove(proof) == []
    assert (
        await connection.fetchval(
            "SELECT event_count FROM event_hours WHERE event_name = '__other__'"
        )
        == 60
    )


EVENT_HOURS = ("event_hours",)
BOTH_HOURS = ("event_hours", "event_type_hours")
USERS = ("event_user_hours", "event_type_user_hours")


@pytest.mark.parametrize(
    ("tables", "damage"),
    [
        (BOTH_HOURS, "UPDATE event_hours SET event_count = event_count + 1 WHERE {one}"),
        (BOTH_HOURS, "UPDATE event_hours SET duration_sum = duration_sum + 1 WHERE {one}"),
        (
            BOTH_HOURS,
            "UPDATE event_hours SET duration_buckets[1] = duration_buckets[1] + 1 WHERE {one}",
        ),
        (EVENT_HOURS, "UPDATE event_hours SET source = 'other' WHERE {one}"),
        (BOTH_HOURS, "DELETE FROM event_hours WHERE {one}"),
        (BOTH_HOURS[1:], "DELETE FROM event_type_hours WHERE hour = {hour}"),
        (BOTH_HOURS[1:], "UPDATE event_type_hours SET event_count = 1 WHERE hour = {hour}"),
        (BOTH_HOURS[1:], "UPDATE event_type_hours SET duration_sum = 1 WHERE hour = {hour}"),
        (
            BOTH_HOURS[1:],
            "UPDATE event_type_hours SET duration_counts[1] = 1000000 WHERE hour = {hour}",
        ),
        (EVENT_HOURS, "DELETE FROM event_deltas WHERE hour = {hour}"),
        (
            (*EVENT_HOURS, USERS[0]),
            (
                "DELETE FROM telemetry_events WHERE event_timestamp >= {hour}"
                " AND event_timestamp < {hour} + interval '1 hour'"
            ),
        ),
        (USERS, "DELETE FROM event_user_hours WHERE hour = {hour}"),
        (USERS, "UPDATE event_user_hours SET user_bits[1] = 3 WHERE hour = {hour}"),
        (USERS[1:], "UPDATE event_type_user_hours SET user_bits[1] = 3 WHERE hour = {hour}"),
        (USERS[1:], "DELETE FROM event_type_user_hours WHERE hour = {hour}"),
    ],
)
@pytest.mark.usefixtures("server")
async def test_a_damaged_hour_is_found_and_mended(
    channel: aio.Channel,
    connection: Any,
    fold: Fold,
    proof: RollupProof,
    tables: tuple[str, ...],
    damage: str,
) -> None:
    await some_events(channel, fold)
    hour = START + 2 * HOUR
    one = (
        "ctid = (SELECT ctid FROM event_hours WHERE duration_count > 0"
        f" AND hour = '{hour}' ORDER BY 1 LIMIT 1)"
    )
    await connection.execute(damage.format(one=one, hour=f"'{hour}'::timestamptz"))
    others = f"SELECT * FROM event_hours WHERE hour <> '{hour}' ORDER BY 1, 2, 3, 4, 5, 6, 7"
    before = await connection.fetch(others)
    found = await prove(proof)
    assert {(one.table, one.hour) for one in found} == {(table, hour) for table in tables}
    assert await prove(proof, mends=True) == found
    assert await prove(proof) == []
    assert await connection.fetch(others) == before
    # The deltas of other hours are still there and fold as ever.
    await fold.fold(datetime.now(UTC))
    assert await prove(proof) == []


@pytest.mark.usefixtures("server")
async def test_rows_of_before_are_brought_in_as_the_fold_would_have(
    channel: aio.Channel, connection: Any, fold: Fold, proof: RollupProof
) -> None:
    await some_events(channel, fold)
    await fold.fold(datetime.now(UTC))
    folded = await connection.fetch(ROWS)
    by_type = await connection.fetch(TYPE_ROWS)
    assert by_type
    await connection.execute("TRUNCATE event_hours, event_hour_names, event_type_hours")
    assert len(await prove(proof, mends=True)) == 6
    assert await connection.fetch(TYPE_ROWS) == by_type
    rebuilt = await connection.fetch(ROWS)
    for was, now in zip(folded, rebuilt, strict=True):
        assert now["duration_sum"] == pytest.approx(was["duration_sum"], rel=1e-9)
        assert dict(now) | {"duration_sum": 0} == dict(was) | {"duration_sum": 0}


@pytest.mark.usefixtures("server")
async def test_what_commits_beside_a_rebuild_keeps_its_deltas(
    channel: aio.Channel,
    connection: Any,
    database: str,
    control: ControlPool,
    proof: RollupProof,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    await make_partition(control, "telemetry_events", START)
    await copy(connection, "telemetry_events", [event_row(START)])
    compare = RollupProof._compare

    async def beside(self: RollupProof, *given: Any) -> Finding:
        found = await compare(self, *given)
        if found.differences:
            await ingest(channel, request(event(event_timestamp=stamp(START))))
            # The fold waits until the hour is written.
            held = "SELECT NOT pg_try_advisory_xact_lock(1179603533, 9)"
            assert await connection.fetchval(held)
        return found

    monkeypatch.setattr(RollupProof, "_compare", beside)
    (found,) = await prove(proof, mends=True)
    assert found.raw_rows == 1
    monkeypatch.undo()
    assert await prove(proof) == []
    sums = "SELECT sum(event_count) FROM "
    assert await connection.fetchval(sums + "event_hours") == 1
    assert await connection.fetchval(sums + "event_deltas") == 1


async def test_a_rebuild_meets_hours_that_are_being_deleted(
    server: Application,
    connection: Any,
    database: str,
    proof: RollupProof,
    channel: aio.Channel,
    fold: Fold,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    await some_events(channel, fold)
    await connection.execute("UPDATE event_hours SET event_count = event_count + 1")
    compare = RollupProof._compare
    left = [1]

    async def beside(self: RollupProof, *given: Any) -> Finding:
        found = await compare(self, *given)
        if found.differences and left:
            left.clear()
            await connection.execute("DELETE FROM event_hours WHERE hour = $1", found.hour)
        return found

    monkeypatch.setattr(RollupProof, "_compare", beside)
    found = await prove(proof, mends=True)
    assert [one.table for one in found].count("event_hours") == 6
    assert await prove(proof) == []


@pytest.mark.usefixtures("server")
async def test_hours_whose_raw_rows_are_gone_are_left_alone(
    channel: aio.Channel, connection: Any, fold: Fold, proof: RollupProof
) -> None:
    await some_events(channel, fold)
    await fold.fold(datetime.now(UTC))
    before = await connection.fetch(ROWS)
    partitions = await connection.fetch(
        "SELECT inhrelid::regclass::text AS name FROM pg_inherits"
        " WHERE inhparent = 'telemetry_events'::regclass"
    )
    for row in partitions:
        await connection.execute(f"DROP TABLE {row['name']}")
    rollup = [EVENT_ROLLUP]
    assert await proof.steps(rollup, TimeRange(START, END), NOW, RETENTION) == []
    # And what retention is about to take is not looked at either. A midnight may lie between.
    ends = (START, END - HOUR)
    await ingest(channel, request(*(event(event_timestamp=stamp(end)) for end in ends)))
    later = START + timedelta(days=90, minutes=30)
    steps = await proof.steps(rollup, TimeRange(EPOCH, END), later, RETENTION)
    assert [step.hour for step in steps] == [START + n * HOUR for n in range(2, 6)]
    assert await connection.fetch(ROWS) == before


@pytest.mark.usefixtures("server")
async def test_a_licence_whose_raw_rows_are_gone_is_left_alone(
    channel: aio.Channel, connection: Any, fold: Fold, proof: RollupProof
) -> None:
    await some_events(channel, fold)
    await fold.fold(datetime.now(UTC))
    of_l1 = "SELECT * FROM event_hours WHERE license_id = 'l1' ORDER BY 1, 2, 3, 4, 5, 6, 7"
    before = await connection.fetch(of_l1)
    await connection.execute("DELETE FROM telemetry_events WHERE license_id = 'l1'")
    rollup = [EVENT_ROLLUP]
    # Its policy is two days shorter than that of the others.
    await connection.execute(
        "INSERT INTO retention_policies (kind, license_id, days, updated_at)"
        " VALUES ('event', 'l1', 88, now())"
    )
    later = START + timedelta(days=88) + 4 * HOUR
    steps = await proof.steps(rollup, TimeRange(START, END), later, RETENTION)
    assert [step.aside for step in steps] == [("l1",)] * 5 + [()]
    await connection.execute("UPDATE event_hours SET event_count = 0 WHERE license_id <> 'l1'")
    for step in steps[:5]:
        await proof.take(step, mends=True)
        found = await proof.take(step, mends=False)
        assert [one.differences for one in found] == [0] * len(found)
    hours = [row for row in before if row["hour"] < START + 5 * HOUR]
    assert hours
    assert (await connection.fetch(of_l1))[: len(hours)] == hours


@pytest.mark.usefixtures("server")
async def test_a_killed_rebuild_leaves_all_as_it_was(
    channel: aio.Channel,
    connection: Any,
    fold: Fold,
    proof: RollupProof,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    await some_events(channel, fold)
    await connection.execute("UPDATE event_hours SET event_count = event_count + 1")
    before = await connection.fetch(ROWS)
    deltas = await connection.fetchval("SELECT count(*) FROM event_deltas")
    execute = asyncpg.Connection.execute

    async def killed(self: Any, statement: str, *given: Any, **options: Any) -> Any:
        answer = await execute(self, statement, *given, **options)
        if "INSERT INTO event_hour_names" in statement:
            pid = self.get_server_pid()
            await connection.fetchval("SELECT pg_terminate_backend($1, 20000)", pid)
        return answer

    monkeypatch.setattr(asyncpg.Connection, "execute", killed)
    with pytest.raises((asyncpg.PostgresError, asyncpg.InterfaceError, OSError)):
        await prove(proof, mends=True)
    monkeypatch.undo()
    assert await connection.fetch(ROWS) == before
    assert await connection.fetchval("SELECT count(*) FROM event_deltas") == deltas
