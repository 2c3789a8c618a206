"""The database goes away under streams and comes back: what every such test looks at."""

from __future__ import annotations

import asyncio
import contextlib
import json
import random
import time
from collections import Counter
from collections.abc import AsyncIterator, Awaitable, Callable

import asyncpg
import pytest
from grpc import StatusCode, aio

from fernando.telemetry.client.errors import RpcFailed, decode_error
from fernando.telemetry.v1 import (
    Event,
    EventType,
    IngestServiceStub,
    IngestTelemetryRequest,
    TelemetryRecords,
)
from tests.faults.numbered_producer import NumberedProducer
from tests.faults.server_process import ServerProcess, until
from tests.faults.stored_once import assert_stored_once

WAIT_SECONDS = 2.0
# For a busy machine. What keeps to another time than the one that was set ends behind it: waits of
# a stream are 30 s by default, and so is the deadline of calls here.
SLACK_SECONDS = 20.0
IN_FLIGHT = 16
AWAY = "UNAVAILABLE DATABASE_UNAVAILABLE"


@contextlib.asynccontextmanager
async def streaming(
    address: str, producers: list[NumberedProducer]
) -> AsyncIterator[asyncio.Event]:
    stop = asyncio.Event()
    async with asyncio.TaskGroup() as running:
        for producer in producers:
            running.create_task(producer.run(address, stop))
        await flowing(producers)
        yield stop
        stop.set()


async def flowing(producers: list[NumberedProducer]) -> None:
    """Wait until every producer got an ack of a batch that it sent from now on."""
    wanted = [producer.ledger.acks + IN_FLIGHT + 1 for producer in producers]
    await until(
        lambda: all(
            producer.ledger.acks >= enough
            for producer, enough in zip(producers, wanted, strict=True)
        )
    )


async def failing_call(address: str) -> tuple[RpcFailed, float]:
    """Send one event that must fail; gives the failure and the seconds it took."""
    event = Event(
        event_type=EventType.EVENT_TYPE_USER_ACTION,
        event_name="unary",
        # More than the pages of a full disk may still have room for: a small row finds some.
        event_data=json.dumps({"noise": random.Random(0).randbytes(100_000).hex()}),
    )
    request = IngestTelemetryRequest(records=TelemetryRecords(events=[event]))
    begun = time.monotonic()
    async with aio.insecure_channel(address) as channel:
        with pytest.raises(aio.AioRpcError) as failed:
            await IngestServiceStub(channel).IngestTelemetry(request, timeout=30)
    return decode_error(failed.value), time.monotonic() - begun


async def goes_away_and_comes_back(
    server: ServerProcess,
    producers: list[NumberedProducer],
    stop_database: Callable[[], Awaitable[None]],
    start_database: Callable[[], Awaitable[None]],
) -> Counter[str]:
    """Stop the database under streams, look how they and new ones end, start it again."""
    async with streaming(server.address, producers):
        flowed = time.monotonic()
        await flowing(producers)
        await stop_database()
        gone = time.monotonic()
        failure, took = await failing_call(server.address)
        assert (failure.code, failure.reason) == (StatusCode.UNAVAILABLE, "DATABASE_UNAVAILABLE")
        assert failure.retry_after_seconds is not None
        assert failure.retry_after_seconds <= 2
        assert took <= WAIT_SECONDS + SLACK_SECONDS
        # Twice: the streams that were open, and those that said hello to no database.
        await until(
            lambda: all(
                sum(ended > gone for _begun, ended, _end in one.ledger.lives) >= 2
                for one in producers
            ),
            3 * (WAIT_SECONDS + SLACK_SECONDS),
        )
        back = time.monotonic()
        await start_database()
        await flowing(producers)
    ends = Counter[str]()
    for one in producers:
        # By the time before: stopping may itself take longer than a stream is held.
        open_then = [life for life in one.ledger.lives if life[0] < flowed < life[1]]
        assert [end for _begun, _ended, end in open_then] == [AWAY]
        # Held for as long as was set, from the last commit on, which was behind the first look.
        assert open_then[0][1] - flowed >= WAIT_SECONDS
        assert open_then[0][1] - gone <= WAIT_SECONDS + SLACK_SECONDS
        ends.update(end for _begun, ended, end in one.ledger.lives if gone < ended < back)
        for begun, ended, _end in one.ledger.lives:
            if gone < begun and ended < back:
                assert ended - begun <= WAIT_SECONDS + SLACK_SECONDS
    assert set(ends) == {AWAY}
    return ends


async def check(dsn: str, producers: list[NumberedProducer], server: ServerProcess) -> str:
    for producer in producers:
        await producer.finish(server.address)
    connection = await asyncpg.connect(dsn, server_settings={"TimeZone": "UTC"})
    try:
        stored = await assert_stored_once(connection, producers)
    finally:
        await connection.close()
    assert stored.batches == sum(len(one.ledger.offered) for one in producers)
    assert await server.stop() == 0
    server.assert_no_traceback()
    duplicates = sum(sum(one.ledger.duplicates.values()) for one in producers)
    acks = sum(one.ledger.acks for one in producers)
    return f"{acks} acks, {duplicates} duplicates; {stored}"
