"""The flush under kills, through the real server: exactly once, whole, in its order.

Producers stream, resend what was acknowledged, cut their streams and come back with very old
numbers, while writer sessions are killed in COPY, in COMMIT and between two statements, marks
are trimmed to the last few, and rivals take producers over from a second server and try to slip
other content under known numbers. Modelled on the rough version that the protocol was decided
with.
"""

from __future__ import annotations

import asyncio
import contextlib
import random
from collections import Counter
from pathlib import Path
from typing import Any

import asyncpg
import pytest
from grpc import aio

from fernando.telemetry.v1 import (
    BatchAck,
    BatchRefusalReason,
    IngestServiceStub,
    StreamHello,
    StreamTelemetryRequest,
)
from fernando_telemetry.storage.producers import ProducerKey
from fernando_telemetry.storage.statements import load
from tests.conftest import share
from tests.faults.numbered_producer import RECONNECT_QUICKLY, NumberedProducer, batch_of
from tests.faults.server_process import ServerProcess, serve, until
from tests.faults.stored_once import assert_stored_once

SEED = 20_240_611
PRODUCERS = 12
MARKS_LEFT = 3

# Looks for a writer in the wanted moment from inside the server, as such moments last a
# millisecond; gives up after a while.
KILL = """
CREATE FUNCTION kill_a_writer(wanted text) RETURNS bool LANGUAGE plpgsql AS $$
DECLARE victim int; until timestamptz := clock_timestamp() + interval '300 ms';
BEGIN
    WHILE clock_timestamp() < until LOOP
        PERFORM pg_stat_clear_snapshot();
        SELECT pid INTO victim FROM pg_stat_activity
        WHERE application_name = 'fernando-telemetry writer' AND datname = current_database()
            AND CASE wanted WHEN 'idle in transaction' THEN state = wanted
                WHEN 'any' THEN true ELSE state = 'active' AND query LIKE '%' || wanted || '%' END
        ORDER BY random() LIMIT 1;
        IF victim IS NOT NULL THEN RETURN pg_terminate_backend(victim); END IF;
        PERFORM pg_sleep(0.0003);
    END LOOP;
    RETURN false;
END $$
"""
MOMENTS = ("COPY", "COMMIT", "idle in transaction", "INSERT INTO batch_marks", "any")


async def _kill_writers(dsn: str, chance: random.Random, kills: Counter[str]) -> None:
    connection = await asyncpg.connect(dsn)
    await connection.execute(KILL)
    try:
        while True:
            wanted = chance.choice(MOMENTS)
            kills[wanted] += await connection.fetchval("SELECT kill_a_writer($1)", wanted)
            await asyncio.sleep(chance.random() * 0.2)
    finally:
        connection.terminate()


async def _trim(dsn: str, producers: list[NumberedProducer], trims: Counter[str]) -> None:
    """Trim marks as a stream's server does, only closer behind the last acknowledged one."""
    sql = load("producers")
    connection = await asyncpg.connect(dsn, server_settings={"TimeZone": "UTC"})
    try:
        while True:
            for producer in producers:
                through = producer.ledger.done_through - MARKS_LEFT
                if through < 1:
                    continue
                key = ProducerKey("", producer.name)
                where = (key.shard, key.license_id, key.producer_id, through)
                async with connection.transaction():
                    now = await connection.fetchval("SELECT now()")
                    await connection.execute(sql.raise_progress, *where, now)
                    done: str = await connection.execute(sql.trim_marks, *where)
                trims["trimmed"] += int(done.split()[1])
            await asyncio.sleep(0.05)
    finally:
        connection.terminate()


async def _take_over(
    address: str, producers: list[NumberedProducer], chance: random.Random, rivals: Counter[str]
) -> None:
    """Say hello in a producer's name, and send other content under a number it knows is taken."""
    async with aio.insecure_channel(address, options=RECONNECT_QUICKLY) as channel:
        while True:
            await asyncio.sleep(chance.random() * 0.1)
            producer = chance.choice(producers)
            taken = producer.ledger.done_through
            call = IngestServiceStub(channel).StreamTelemetry()
            try:
                hello = StreamHello(producer_id=producer.name)
                await call.write(StreamTelemetryRequest(hello=hello))
                responses = call.__aiter__()
                assert (await anext(responses)).HasField("welcome")
                rivals["hellos"] += 1
                if taken and chance.random() < 0.7:
                    other = producer.ledger.offered[taken] + 1
                    await call.write(batch_of(producer.name, taken, other))
                    ack = (await anext(responses)).ack
                    rivals[_refusal_of(ack)] += 1
            except (aio.AioRpcError, aio.UsageError, asyncio.InvalidStateError):
                rivals["ended"] += 1  # fenced in its turn, or the database was killed under it
            finally:
                call.cancel()


def _refusal_of(ack: BatchAck) -> str:
    """Tell how other content was answered: as a conflict, or where the mark is gone as old."""
    if ack.HasField("refused"):
        assert ack.refused.reason == BatchRefusalReason.BATCH_REFUSAL_REASON_SEQUENCE_CONFLICT
        return "conflicts"
    assert ack.HasField("duplicate"), ack
    assert not ack.duplicate.commit_token, ack
    return "old repeats"


def _happened(
    server: ServerProcess, producers: list[NumberedProducer], counts: Counter[str]
) -> dict[str, int]:
    """Count what has to happen in a run."""
    ledgers = [producer.ledger for producer in producers]
    moments = ("COPY", "idle in transaction", "trimmed", "hellos", "conflicts")
    return {moment: counts[moment] for moment in moments} | {
        "duplicates": sum(sum(ledger.duplicates.values()) for ledger in ledgers),
        "fenced": sum(ledger.ends.get("ABORTED PRODUCER_FENCED", 0) for ledger in ledgers),
        "retried": server.count("flush_retried"),
    }


async def _torture(
    server: ServerProcess, other: ServerProcess, dsn: str, chance: random.Random, seconds: float
) -> tuple[list[NumberedProducer], Counter[str]]:
    producers = [
        NumberedProducer(f"producer-{number}", random.Random(chance.random()))
        for number in range(PRODUCERS)
    ]
    counts: Counter[str] = Counter()
    stop = asyncio.Event()
    disturbers = [
        asyncio.create_task(_kill_writers(dsn, chance, counts)),
        asyncio.create_task(_trim(dsn, producers, counts)),
        asyncio.create_task(_take_over(other.address, producers, chance, counts)),
    ]
    try:
        async with asyncio.TaskGroup() as running:
            for producer in producers:
                running.create_task(producer.run(server.address, stop))
            # The length of the run, and as long as too little has happened.
            await asyncio.wait(disturbers, timeout=seconds, return_when=asyncio.FIRST_COMPLETED)
            await until(
                lambda: (
                    any(task.done() for task in disturbers)
                    or all(_happened(server, producers, counts).values())
                )
            )
            stop.set()
    finally:
        for task in disturbers:
            task.cancel()
        for task in disturbers:
            with contextlib.suppress(asyncio.CancelledError):
                await task
    return producers, counts


@pytest.mark.faults
@pytest.mark.timeout(300)
async def test_acknowledged_batches_are_stored_exactly_once_while_writers_are_killed(
    database: str, connection: Any, tmp_path: Path, request: pytest.FixtureRequest
) -> None:
    seconds = share(request, "faults", 10, 60)
    chance = random.Random(SEED)
    async with (
        serve(tmp_path / "data", tmp_path / "log", dsn=database, writers=3) as server,
        serve(tmp_path / "data2", tmp_path / "log2", dsn=database, writers=1) as other,
    ):
        producers, counts = await _torture(server, other, database, chance, seconds)
        for producer in producers:
            await producer.finish(server.address)
        stored = await assert_stored_once(connection, producers)
        for process in (server, other):
            assert await process.stop() == 0
            process.assert_no_traceback()
        happened = _happened(server, producers, counts)
    ledgers = [producer.ledger for producer in producers]
    ends = sum((Counter(ledger.ends) for ledger in ledgers), Counter[str]())
    print(f"\n{seconds} s: {dict(counts)}; {sum(ledger.streams for ledger in ledgers)} streams,")
    print(f"ends {dict(ends)}; {sum(ledger.acks for ledger in ledgers)} acks,")
    print(f"{happened}; {stored}")
    offered = sum(len(ledger.offered) for ledger in ledgers)
    assert stored.batches == offered
    # A run in which nothing happened proves nothing.
    assert all(happened.values()), happened
    assert stored.lanes > 3
