"""Expiry: what is old goes, what is in use stays, and a producer that comes back is whole."""

from __future__ import annotations

import asyncio
from datetime import UTC, datetime
from typing import Any

import pytest
from grpc import aio

from fernando_telemetry.app import Application
from fernando_telemetry.domain.retention import Retention
from fernando_telemetry.storage import expiry as module
from fernando_telemetry.storage.expiry import Expired, Expiry
from fernando_telemetry.storage.producers import ProducerKey, Producers
from fernando_telemetry.storage.sessions import ControlPool
from fernando_telemetry.storage.statements import load
from tests.conftest import share
from tests.integration.ingest.ingest_call import IngestCall, batch, ingest, request
from tests.integration.ingest.locks import becomes
from tests.integration.ingest.records import event, now

COUNT = "SELECT count(*) FROM telemetry_events"
TABLES = ("producers", "progress", "claims", "batch_marks")
KEY = ProducerKey("", "producer")
WHERE = (KEY.shard, KEY.license_id, KEY.producer_id)
# Producers are kept for 2 days here: a retention of none, and the margin.
AGE = "UPDATE {} SET updated_at = now() - interval '3 days'"
sql = load("producers")


@pytest.fixture
def expiry(control: ControlPool) -> Expiry:
    return Expiry(control, lambda: 0)


async def age(connection: Any) -> None:
    """Let every producer look unused for three days."""
    await connection.execute(AGE.format("producers"))
    await connection.execute(AGE.format("progress"))
    await connection.execute("UPDATE claims SET created_at = now() - interval '3 days'")


async def rows(connection: Any) -> dict[str, int]:
    return {name: await connection.fetchval(f"SELECT count(*) FROM {name}") for name in TABLES}


async def test_requests_are_forgotten_after_seven_days_in_steps(
    connection: Any, expiry: Expiry, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(module, "REQUESTS_A_STEP", 3)
    await connection.execute(
        "INSERT INTO request_marks SELECT n % 64, '', gen_random_uuid(), NULL, 1, 0, 0, NULL, n, "
        "now() - make_interval(hours => n * 12) FROM generate_series(1, 24) AS n"
    )
    assert (await expiry.expire(now())).requests == 11
    oldest = await connection.fetchval("SELECT now() - min(created_at) FROM request_marks")
    assert oldest.days == 6
    assert await connection.fetchval("SELECT count(*) FROM request_marks") == 13


async def test_a_forgotten_request_id_may_be_used_again(
    channel: aio.Channel, connection: Any, expiry: Expiry
) -> None:
    named = request(event(), request_id="0198a3b2-0000-7000-8000-000000000001")
    await ingest(channel, named)
    await connection.execute("UPDATE request_marks SET created_at = now() - interval '6.9 days'")
    assert await expiry.expire(now()) == Expired()
    assert (await ingest(channel, named)).duplicate
    await connection.execute("UPDATE request_marks SET created_at = now() - interval '7.1 days'")
    assert await expiry.expire(now()) == Expired(requests=1)
    assert not (await ingest(channel, named)).duplicate


async def test_unused_producers_are_forgotten_as_a_whole(
    channel: aio.Channel, connection: Any, expiry: Expiry, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(module, "PRODUCERS_A_STEP", 2)
    for name in "abcde":
        async with IngestCall(channel) as stream:
            await stream.welcome(name)
            await stream.commit(5, event(name))
            await stream.end()
    await age(connection)
    await connection.execute("UPDATE producers SET updated_at = now() WHERE producer_id = 'c'")
    await connection.execute("INSERT INTO claims VALUES (3, '', 'first hello', 1, '2020-01-01')")
    assert await expiry.expire(now()) == Expired(producers=4, claims=1)
    for name in TABLES:
        left = await connection.fetch(f"SELECT producer_id FROM {name}")
        assert [row["producer_id"] for row in left] == ([] if name == "claims" else ["c"])
    assert await connection.fetchval(COUNT) == 5
    async with IngestCall(channel) as stream:
        welcome = await stream.welcome("a")
        assert (welcome.producer_epoch, welcome.last_sequence) == (1, 0)


@pytest.mark.parametrize("fresh", ["producers", "progress", "claims"])
async def test_any_sign_of_use_keeps_a_producer(
    channel: aio.Channel, connection: Any, expiry: Expiry, fresh: str
) -> None:
    async with IngestCall(channel) as stream:
        await stream.welcome()
        await stream.commit(5, event())
        await stream.end()
    await connection.execute("INSERT INTO claims VALUES ($1, $2, $3, 2, now())", *WHERE)
    before = await rows(connection)
    await age(connection)
    column = "created_at" if fresh == "claims" else "updated_at"
    await connection.execute(f"UPDATE {fresh} SET {column} = now() - interval '1.9 days'")
    assert await expiry.expire(now()) == Expired()
    assert await rows(connection) == before
    await age(connection)
    assert await expiry.expire(now()) == Expired(producers=1)
    assert set((await rows(connection)).values()) == {0}


async def test_an_open_stream_notes_its_use(
    channel: aio.Channel,
    connection: Any,
    expiry: Expiry,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr("fernando_telemetry.ingest.stream.KEEP_EVERY_SECONDS", 0.05)
    async with IngestCall(channel) as stream:
        await stream.welcome()
        await becomes(connection, "SELECT count(*) FROM progress", 1)
        await age(connection)
        kept = "SELECT bool_and(updated_at > now() - interval '1 day') FROM progress"
        await becomes(connection, kept, value=True)
        assert await expiry.expire(now()) == Expired()
        # It says nothing of numbers: the producer may still begin anywhere.
        await stream.commit(7, event())


async def test_a_producer_in_a_flush_is_passed_over(
    channel: aio.Channel, connection: Any, control: ControlPool, expiry: Expiry
) -> None:
    await Producers(control).hello(KEY, fresh=False, now=datetime.now(UTC))
    await age(connection)
    async with control.transaction() as flush:
        assert await flush.fetchval(sql.hold_epoch, *WHERE, 1) == 1
        assert await expiry.expire(now()) == Expired()
    assert await expiry.expire(now()) == Expired(producers=1)


async def test_a_producer_in_a_hello_is_passed_over(
    connection: Any, control: ControlPool, expiry: Expiry
) -> None:
    """At both of its stages: while it claims, between, and while it raises the epoch."""
    now = datetime.now(UTC)
    await Producers(control).hello(KEY, fresh=False, now=now)
    await age(connection)
    async with control.transaction() as hello:
        epoch = await hello.fetchval(sql.claim, *WHERE, now)
        assert await expiry.expire(now) == Expired()
    assert await expiry.expire(now) == Expired()
    async with control.transaction() as hello:
        assert await hello.fetchval(sql.raise_epoch, *WHERE, epoch, now) == epoch
        await hello.execute(sql.drop_claims, *WHERE, epoch)
        assert await expiry.expire(now) == Expired()
    assert await expiry.expire(now) == Expired()
    assert await connection.fetchval("SELECT epoch FROM producers") == 2


async def test_a_hello_waits_for_the_expiry_of_its_producer(
    connection: Any, control: ControlPool, expiry: Expiry
) -> None:
    producers = Producers(control)
    await producers.hello(KEY, fresh=False, now=datetime.now(UTC))
    await producers.start_at(KEY, 1, 100, datetime.now(UTC))
    await age(connection)
    statements = load("expiry")
    async with control.transaction() as session:
        before = datetime.now(UTC)
        await connection.execute("UPDATE progress SET updated_at = '2020-01-01'")
        await connection.execute("UPDATE producers SET updated_at = '2020-01-01'")
        locked = await session.fetch(statements.lock_unused_producers, before, 10)
        assert len(locked) == 1
        hello = asyncio.create_task(producers.hello(KEY, fresh=False, now=datetime.now(UTC)))
        waiting = (
            "SELECT count(*) FROM pg_stat_activity WHERE wait_event_type = 'Lock' "
            "AND datname = current_database() AND query LIKE '%FOR KEY SHARE%'"
        )
        await becomes(connection, waiting, 1)
        keys = [KEY.shard], [KEY.license_id], [KEY.producer_id]
        assert await session.fetch(statements.still_unused, before, *keys)
        await session.execute(statements.expire_progress, *keys)
        await session.execute(statements.expire_producers, *keys)
    state = await hello
    assert (state.epoch, state.last_sequence, state.known) == (1, 0, False)


async def test_one_server_expires_at_a_time(connection: Any, expiry: Expiry) -> None:
    await connection.execute("INSERT INTO claims VALUES (3, '', 'old', 1, '2020-01-01')")
    async with connection.transaction():
        assert await connection.fetchval(load("expiry").try_hold_expiry)
        assert await expiry.expire(now()) == Expired()
    assert await expiry.expire(now()) == Expired(claims=1)


STEP = 12


@pytest.mark.faults
async def test_a_producer_that_comes_back_while_it_expires_stays_exactly_once(
    channel: aio.Channel,
    server: Application,
    connection: Any,
    expiry: Expiry,
    request: pytest.FixtureRequest,
) -> None:
    """What is acknowledged beside an expiry is a repeat afterwards, whichever came first."""
    rounds = share(request, "faults", 60, 1_000)
    came_first = {"stream": 0, "expiry": 0}
    lead = 0
    for sequence in range(1, rounds + 1):
        await age(connection)

        async def come_back(sequence: int, yields: int) -> None:
            for _ in range(yields):
                await asyncio.sleep(0)
            async with IngestCall(channel) as stream:
                await stream.welcome()
                await stream.commit(sequence, event(f"event-{sequence}"))
                await stream.end()

        async def expire(yields: int) -> int:
            for _ in range(yields):
                await asyncio.sleep(0)
            return (await expiry.expire(now())).producers

        _, gone = await asyncio.gather(come_back(sequence, max(0, lead)), expire(max(0, -lead)))
        came_first["expiry" if gone else "stream"] += 1
        # Whoever lost has a better start the next time: the race stays close on any machine.
        lead += -STEP if gone else STEP
        async with IngestCall(channel) as stream:
            assert (await stream.welcome()).last_sequence == sequence
            await stream.send(batch(sequence, event(f"event-{sequence}")))
            assert (await stream.ack()).HasField("duplicate")
            await stream.end()
    assert await connection.fetchval(COUNT) == rounds
    print(f"\n{rounds} rounds; came first: {came_first}")
    # A run in which one of them always came first proves nothing.
    assert min(came_first.values()) > 0


@pytest.mark.parametrize(
    ("days", "oldest"),
    [((90, 180, 180, 30), 180), ((0, 180, 180, 30), 400), ((90, 500, 0, 30), 500)],
)
def test_producers_are_kept_for_as_long_as_records_are_accepted(
    days: tuple[int, int, int, int], oldest: int
) -> None:
    assert Retention.of_days(*days).accepted_days == oldest
