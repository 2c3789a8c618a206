"""A slow database: nothing is lost, memory is bounded, and calls are told soon."""

from __future__ import annotations

import asyncio
import random
import time
from collections import Counter
from pathlib import Path
from typing import Any

import pytest
from grpc import aio

from fernando.telemetry.client.errors import decode_error
from fernando.telemetry.v1 import (
    Event,
    EventType,
    IngestServiceStub,
    IngestTelemetryRequest,
    TelemetryRecords,
)
from tests.faults.going_away import (
    AWAY,
    WAIT_SECONDS,
    check,
    flowing,
    goes_away_and_comes_back,
    streaming,
)
from tests.faults.numbered_producer import NumberedProducer
from tests.faults.server_process import DEADLINE_SECONDS, serve, until
from tests.faults.stored_once import assert_stored_once
from tests.faults.wire import socket_of, through, wired

pytestmark = [pytest.mark.faults, pytest.mark.timeout(240)]
MIB = 1024 * 1024
UNARY_WAIT_SECONDS = 3.0
# For a busy machine; one after the other the calls would take far longer.
BUSY_SECONDS = 6.0
# A flush takes six exchanges or more, each with the delay twice.
SLOW_SECONDS = 0.02
TOO_SLOW_SECONDS = 1.0
# Many flushes of a slow database, on a busy machine too.
FLUSHES_WAIT_SECONDS = 10.0


@pytest.fixture
def producers() -> list[NumberedProducer]:
    return [NumberedProducer(f"slow-{n}", random.Random(n), spoil=False) for n in range(6)]


async def test_a_slow_database_slows_streams_down_and_ends_none(
    database: str, tmp_path: Path, producers: list[NumberedProducer]
) -> None:
    async with (
        wired(socket_of(database)) as wire,
        serve(
            tmp_path,
            tmp_path / "log",
            dsn=through(wire, database),
            database_wait_seconds=FLUSHES_WAIT_SECONDS,
        ) as server,
    ):
        async with streaming(server.address, producers):
            wire.delay_seconds = SLOW_SECONDS
            await flowing(producers)
            await flowing(producers)
            wire.delay_seconds = 0
            await flowing(producers)
            assert not any(one.ledger.lives for one in producers), "all streams went on"
        assert server.count("flush_retried") == 0
        print(f"\n{await check(database, producers, server)}")


async def test_a_database_too_slow_to_commit_in_time(
    database: str, tmp_path: Path, producers: list[NumberedProducer]
) -> None:
    """What was given up may be committed all the same: its repeat is told so."""
    async with (
        wired(socket_of(database)) as wire,
        serve(
            tmp_path,
            tmp_path / "log",
            dsn=through(wire, database),
            database_wait_seconds=WAIT_SECONDS,
        ) as server,
    ):

        async def slow_down() -> None:
            wire.delay_seconds = TOO_SLOW_SECONDS

        async def speed_up() -> None:
            wire.delay_seconds = 0

        ends = await goes_away_and_comes_back(server, producers, slow_down, speed_up)
        print(f"\n{ends}; {await check(database, producers, server)}")


async def test_a_stop_under_a_slow_database_answers_what_was_accepted(
    database: str, connection: Any, tmp_path: Path, producers: list[NumberedProducer]
) -> None:
    async with (
        wired(socket_of(database)) as wire,
        serve(tmp_path, tmp_path / "log", dsn=through(wire, database)) as server,
    ):
        stop = asyncio.Event()
        streams = [asyncio.create_task(one.run(server.address, stop)) for one in producers]
        await flowing(producers)
        wire.delay_seconds = SLOW_SECONDS
        await flowing(producers)
        stopping = asyncio.create_task(server.stop())
        # Each stream's acks go up to the number its GoAway promised: the producer asserts it.
        await until(lambda: all(len(one.ledger.went_away) == 1 for one in producers))
        assert await stopping == 0
        stop.set()
        await asyncio.gather(*streams)
        server.assert_no_traceback()
    assert all(one.ledger.ends.get("OK") == 1 for one in producers), "none was broken off"
    stored = await assert_stored_once(connection, producers)
    assert stored.batches == sum(len(one.ledger.committed) for one in producers)


def _large_call(name: str) -> IngestTelemetryRequest:
    event = Event(event_type=EventType.EVENT_TYPE_USER_ACTION, event_name=name, tags=["x" * 200])
    return IngestTelemetryRequest(records=TelemetryRecords(events=[event] * 400))


async def _call(stub: Any, name: str) -> tuple[str, float, float | None]:
    """Call once; gives how it ended, the seconds it took, and the hint."""
    begun = time.monotonic()
    try:
        await stub.IngestTelemetry(_large_call(name), timeout=30)
    except aio.AioRpcError as error:
        failure = decode_error(error)
        end = f"{failure.code.name} {failure.reason}"
        return end, time.monotonic() - begun, failure.retry_after_seconds
    return "OK", time.monotonic() - begun, None


async def _until_ok(stub: Any, name: str) -> None:
    """Call until one is stored: a call by itself waits no longer than it may."""
    async with asyncio.timeout(DEADLINE_SECONDS):
        while (await _call(stub, name))[0] != "OK":
            pass


async def test_calls_beyond_what_a_slow_database_takes_are_told_soon(
    database: str, connection: Any, tmp_path: Path
) -> None:
    """Commits go on, so the database is not away; still no call waits longer than it may.

    The buffers hold a part of the calls; those behind it are overloaded as well.
    """
    async with (
        wired(socket_of(database)) as wire,
        serve(
            tmp_path,
            tmp_path / "log",
            dsn=through(wire, database),
            writers=1,
            flush_batches=1,
            admitted_bytes=4 * MIB,
            unary_wait_seconds=UNARY_WAIT_SECONDS,
        ) as server,
        aio.insecure_channel(server.address) as channel,
    ):
        stub = IngestServiceStub(channel)
        await _until_ok(stub, "warm")
        wire.delay_seconds = SLOW_SECONDS
        at_rest = server.memory_bytes()
        found = await asyncio.gather(*(_call(stub, f"slow-{turn}") for turn in range(100)))
        ends = Counter(end for end, _took, _hint in found)
        assert ends["OK"] > 0, ends
        assert ends["RESOURCE_EXHAUSTED OVERLOADED"] > 0, ends
        assert set(ends) <= {"OK", "RESOURCE_EXHAUSTED OVERLOADED", AWAY}
        for end, took, hint in found:
            assert took <= 2 * UNARY_WAIT_SECONDS + BUSY_SECONDS
            assert end == "OK" or (hint is not None and hint <= 2)
        grown = server.memory_bytes() - at_rest
        assert grown < 150 * MIB
        wire.delay_seconds = 0
        await _until_ok(stub, "back")
        names = [f"slow-{turn}" for turn, (end, _took, _hint) in enumerate(found) if end == "OK"]
        await _stored_once(connection, names)
        longest = max(took for _end, took, _hint in found)
        print(f"\n{ends}; the longest took {longest:.1f} s; memory grew by {grown // MIB} MiB")
        assert await server.stop() == 0
        server.assert_no_traceback()


async def _stored_once(connection: Any, acknowledged: list[str]) -> None:
    """What was acknowledged is stored once; what was not, once at most."""
    rows = await connection.fetch(
        "SELECT event_name, count(*) AS rows FROM telemetry_events "
        "WHERE event_name LIKE 'slow-%' GROUP BY 1"
    )
    stored = {row["event_name"]: row["rows"] for row in rows}
    assert set(stored.values()) == {400}
    assert set(acknowledged) <= set(stored)


async def test_a_full_queue_of_a_database_that_is_away_is_told_soon(
    database: str, tmp_path: Path
) -> None:
    """No commit at all: the calls that wait get UNAVAILABLE, those without room OVERLOADED."""
    async with (
        wired(socket_of(database)) as wire,
        serve(
            tmp_path,
            tmp_path / "log",
            dsn=through(wire, database),
            admitted_bytes=MIB,
            unary_wait_seconds=UNARY_WAIT_SECONDS,
            database_connect_timeout_seconds=1,
        ) as server,
        aio.insecure_channel(server.address) as channel,
    ):
        stub = IngestServiceStub(channel)
        await _until_ok(stub, "before")
        wire.target = ""
        wire.cut()
        found = await asyncio.gather(*(_call(stub, f"away-{turn}") for turn in range(40)))
        ends = Counter(end for end, _took, _hint in found)
        assert set(ends) <= {AWAY, "RESOURCE_EXHAUSTED OVERLOADED"}
        assert ends[AWAY] > 0
        for _end, took, hint in found:
            assert took <= 2 * UNARY_WAIT_SECONDS + BUSY_SECONDS
            assert hint is not None
            assert hint <= 2
        wire.target = socket_of(database)
        await _until_ok(stub, "back")
        print(f"\n{ends}")
        assert await server.stop() == 0
        server.assert_no_traceback()
