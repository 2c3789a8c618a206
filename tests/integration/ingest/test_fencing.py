"""A second hello of one producer: the older stream ends at its next commit, and only that."""

from __future__ import annotations

import asyncio
import time
from collections import Counter
from typing import Any

import asyncpg
from grpc import StatusCode, aio

from fernando.telemetry.v1 import RecordDefaults
from fernando_telemetry.settings import Settings
from fernando_telemetry.storage.statements import load
from tests.conftest import Serving
from tests.integration.ingest.ingest_call import IngestCall, batch, hello
from tests.integration.ingest.locks import (
    DEADLINE_SECONDS,
    a_writer_waits,
    are_queued,
    becomes,
    held,
)
from tests.integration.ingest.records import event
from tests.integration.transport.failures import expected, summary

COUNT = "SELECT count(*) FROM telemetry_events"
NAMES = "SELECT array_agg(event_name ORDER BY event_name) FROM telemetry_events"


def fenced(producer_id: str = "producer", epoch: int = 1) -> Any:
    metadata = {"producer_id": producer_id, "producer_epoch": str(epoch)}
    return expected(StatusCode.ABORTED, "PRODUCER_FENCED", metadata)


async def test_error_producer_fenced(channel: aio.Channel, connection: Any) -> None:
    async with IngestCall(channel) as older, IngestCall(channel) as newer:
        assert (await older.welcome()).producer_epoch == 1
        await older.commit(1, event("a"))
        welcome = await newer.welcome()
        assert (welcome.producer_epoch, welcome.last_sequence) == (2, 1)
        await older.send(batch(2, event("stolen")))
        failure = await older.failure()
        await newer.commit(2, event("b"))
        await newer.end()
    assert summary(failure) == fenced()
    assert failure.retry_after_seconds is None
    assert await connection.fetchval(NAMES) == ["a", "b"]
    assert await connection.fetchval("SELECT count(*) FROM claims") == 0


async def test_it_holds_over_servers(
    settings: Settings, channel: aio.Channel, serving: Serving, connection: Any
) -> None:
    async with (
        serving(settings) as other,
        aio.insecure_channel(other.address) as elsewhere,
        IngestCall(channel) as older,
        IngestCall(elsewhere) as newer,
    ):
        await older.welcome()
        await older.commit(1, event("a"))
        assert (await newer.welcome()).last_sequence == 1
        await older.send(batch(2, event("stolen")))
        assert summary(await older.failure()) == fenced()
        await newer.commit(2, event("b"))
    assert await connection.fetchval(NAMES) == ["a", "b"]


async def test_a_repeat_on_the_older_stream_is_fenced_as_well(channel: aio.Channel) -> None:
    async with IngestCall(channel) as first:
        await first.welcome()
        await first.commit(1, event())
        await first.end()
    async with IngestCall(channel) as older, IngestCall(channel) as newer:
        await older.welcome()
        await newer.welcome()
        await older.send(batch(1, event()))
        assert summary(await older.failure()) == fenced(epoch=2)


async def test_other_batches_of_the_group_are_not_disturbed(
    settings: Settings, serving: Serving, connection: Any
) -> None:
    """One flush with a fenced batch between two others: these are committed by that very flush."""
    one_writer = settings.model_copy(update={"writers": 1, "quick_writers": 0})
    async with (
        serving(one_writer) as server,
        aio.insecure_channel(server.address) as channel,
        IngestCall(channel) as before,
        IngestCall(channel) as older,
        IngestCall(channel) as newer,
        IngestCall(channel) as behind,
        IngestCall(channel) as holder,
    ):
        await before.welcome("a")
        await older.welcome("b")
        await behind.welcome("c")
        await holder.welcome("holder")
        async with held(connection):
            await holder.send(batch(1, event("holder")))
            await a_writer_waits(connection)
            await newer.welcome("b")
            await before.send(batch(1, event("before")))
            await older.send(batch(1, event("fenced")))
            await newer.send(batch(1, event("newer")))
            await behind.send(batch(1, event("behind")))
            await are_queued(server, 4)
        acks = [await stream.ack() for stream in (holder, before, newer, behind)]
        assert summary(await older.failure()) == fenced("b")
        # It was one group.
        tokens = [ack.committed.commit_token for ack in acks]
        assert len(set(tokens)) == 2
        assert len(set(tokens[1:])) == 1
        # The others' streams live on.
        await before.commit(2, event("z"))
    names = await connection.fetchval(NAMES)
    assert names == ["before", "behind", "holder", "newer", "z"]


async def test_a_hello_waits_for_the_flush_that_runs_and_resumes_behind_it(
    channel: aio.Channel, connection: Any
) -> None:
    async with IngestCall(channel) as older, IngestCall(channel) as newer:
        await older.welcome()
        async with held(connection):
            await older.send(batch(1, event("a")))
            await a_writer_waits(connection)
            await newer.send(hello())
            await becomes(connection, "SELECT count(*) FROM claims", 1)
            reading = asyncio.create_task(newer.read())
            # It got past its claim and no further: the flush holds the producer.
            waiting = (
                "SELECT count(*) FROM pg_stat_activity WHERE wait_event_type = 'Lock' "
                "AND datname = current_database() AND query LIKE '%INSERT INTO producers%'"
            )
            await becomes(connection, waiting, 1)
            assert not reading.done()
        answer = await reading
        assert answer is not None
        assert (answer.welcome.producer_epoch, answer.welcome.last_sequence) == (2, 1)
        assert (await older.ack()).HasField("committed")
        await older.send(batch(2, event("stolen")))
        assert summary(await older.failure()) == fenced()
    assert await connection.fetchval(NAMES) == ["a"]


async def test_the_claim_alone_fences(channel: aio.Channel, connection: Any) -> None:
    """A hello that came to nothing: the older stream ends, the next hello cleans up."""
    async with IngestCall(channel) as older:
        await older.welcome()
        await older.commit(1, event("a"))
        await connection.execute(
            "INSERT INTO claims SELECT shard, license_id, producer_id, 2, now() FROM producers"
        )
        await older.send(batch(2, event("stolen")))
        assert summary(await older.failure()) == fenced()
    async with IngestCall(channel) as stream:
        welcome = await stream.welcome()
        assert (welcome.producer_epoch, welcome.last_sequence) == (3, 1)
        await stream.commit(2, event("b"))
    assert await connection.fetchval("SELECT count(*) FROM claims") == 0
    assert await connection.fetchval(NAMES) == ["a", "b"]


async def test_the_older_stream_does_not_say_where_numbers_begin(
    channel: aio.Channel, connection: Any
) -> None:
    """Nothing is known of the producer, and each of its streams wants to begin elsewhere."""
    async with IngestCall(channel) as older, IngestCall(channel) as newer:
        await older.welcome()
        await newer.welcome()
        await older.send(batch(500, event("stolen")))
        assert summary(await older.failure()) == fenced()
        await newer.commit(1, event("a"))
    assert await connection.fetchval(NAMES) == ["a"]


async def test_another_licence_is_not_fenced(channel: aio.Channel) -> None:
    async with IngestCall(channel) as one, IngestCall(channel) as other:
        await one.welcome(defaults=RecordDefaults(license_id="acme"))
        await other.welcome(defaults=RecordDefaults(license_id="globex"))
        await one.commit(1, event())
        await other.commit(1, event())


async def test_hellos_at_once_leave_one_stream(channel: aio.Channel, connection: Any) -> None:
    """All say hello at one moment: one can write afterwards, however they were ordered."""

    async def greet_and_send(mark: int) -> str:
        async with IngestCall(channel) as stream:
            await stream.send(hello())
            try:
                answer = await stream.read()
                assert answer is not None
                epochs.append(answer.welcome.producer_epoch)
                greeted.set() if len(epochs) + fenced_at_hello[0] == count else None
                async with asyncio.timeout(DEADLINE_SECONDS):
                    await greeted.wait()
                await stream.send(batch(1, event(f"event-{mark}")))
                return (await stream.ack()).WhichOneof("outcome") or ""
            except aio.AioRpcError as error:
                if not greeted.is_set():
                    fenced_at_hello[0] += 1
                    greeted.set() if len(epochs) + fenced_at_hello[0] == count else None
                return error.code().name

    count, epochs, fenced_at_hello = 12, list[int](), [0]
    greeted = asyncio.Event()
    ends = Counter(await asyncio.gather(*(greet_and_send(mark) for mark in range(count))))
    assert ends == {"committed": 1, "ABORTED": count - 1}
    assert len(set(epochs)) == len(epochs)
    assert await connection.fetchval(COUNT) == 1
    assert await connection.fetchval("SELECT epoch FROM producers") == max(epochs)
    assert await connection.fetchval("SELECT count(*) FROM claims") == 0


async def test_a_hello_does_not_starve_behind_overlapping_flushes(
    database: str, settings: Settings, serving: Serving, connection: Any
) -> None:
    """Eight writers hold the producer by turns, so that it is never free; see flush.md.

    The bound is loose, for a loaded machine; without the claim no hello came through here before
    its time-out.
    """
    slow = settings.model_copy(update={"writers": 1})
    async with serving(slow) as server, aio.insecure_channel(server.address) as channel:
        async with IngestCall(channel) as stream:
            await stream.welcome()
        stop = asyncio.Event()
        flushes = [asyncio.create_task(_overlapping(database, number, stop)) for number in range(8)]
        try:
            await becomes(connection, HOLDERS, value=True)
            waits: list[float] = []
            for _ in range(5):
                begun = time.monotonic()
                async with IngestCall(channel) as stream:
                    await stream.welcome()
                waits.append(time.monotonic() - begun)
                # All holders go on with the epoch that is the producer's now.
                await becomes(connection, HOLDERS, value=True)
        finally:
            stop.set()
            held_for = sum(await asyncio.gather(*flushes))
    print(f"\nhellos took {[round(seconds * 1000) for seconds in waits]} ms")
    assert held_for > 40
    assert max(waits) < DEADLINE_SECONDS


HOLDERS = """
SELECT count(*) >= 4 FROM pg_stat_activity WHERE datname = current_database()
    AND application_name = 'overlapping' AND state = 'active'
    AND query LIKE '-- held%'
"""


async def _overlapping(database: str, number: int, stop: asyncio.Event) -> int:
    """Hold the producer's row as a flush does, for 20 to 60 ms at a time; gives how often."""
    sql = load("marks")
    connection = await asyncpg.connect(
        database, server_settings={"application_name": "overlapping", "lock_timeout": "10s"}
    )
    times = 0
    while not stop.is_set():
        row = await connection.fetchrow("SELECT shard, producer_id, epoch FROM producers")
        assert row is not None
        async with connection.transaction():
            marked = await connection.fetch(
                sql.mark_batches,
                [row["shard"]],
                [""],
                [row["producer_id"]],
                [row["epoch"]],
                [1 + number + 100 * times],
                [None],
                [0],
                [0],
                [0],
                [None],
                1,
            )
            if marked[0]["held"]:
                times += 1
                await connection.execute("-- held\nSELECT pg_sleep($1)", 0.02 + 0.005 * number)
    await connection.close()
    return times
