"""Calls that end before their commit does: the server goes on, and a repeat is a repeat."""

from __future__ import annotations

import asyncio
from typing import Any

from grpc import StatusCode, aio

from fernando_telemetry.app import Application
from tests.integration.ingest.ingest_call import (
    IngestCall,
    batch,
    hello,
    ingest,
    ingest_failure,
    request,
)
from tests.integration.ingest.locks import (
    DEADLINE_SECONDS,
    a_writer_waits,
    all_batches_wait,
    becomes,
    held,
)
from tests.integration.ingest.records import event, field

COUNT = "SELECT count(*) FROM telemetry_events"
REQUEST_ID = "0198a3b2-0000-7000-8000-000000000001"


async def test_a_deadline_in_mid_commit(channel: aio.Channel, connection: Any) -> None:
    data = request(event(), request_id=REQUEST_ID)
    async with held(connection):
        # Long enough that it passes behind the begin of the flush, however busy the machine is.
        call = asyncio.create_task(ingest_failure(channel, data, timeout=3))
        await a_writer_waits(connection)
        assert (await call).code is StatusCode.DEADLINE_EXCEEDED
        await a_writer_waits(connection)
    await becomes(connection, COUNT, 1)
    answer = await ingest(channel, data)
    assert (answer.duplicate, answer.result.accepted_count) == (True, 1)
    assert await connection.fetchval(COUNT) == 1


async def test_a_cancel_in_mid_batch(
    server: Application, channel: aio.Channel, connection: Any
) -> None:
    async with held(connection):
        async with IngestCall(channel) as stream:
            await stream.welcome()
            await stream.send(batch(1, event()), batch(2, event()))
            await both_are_accepted(server)
            await all_batches_wait(server, connection)
        await no_stream_is_open(server)
    await becomes(connection, COUNT, 2)
    async with IngestCall(channel) as stream:
        assert (await stream.welcome()).last_sequence == 2
        await stream.send(batch(1, event()), batch(2, event()), batch(3, event()))
        outcomes = [ack.WhichOneof("outcome") for ack in await stream.acks(3)]
        await stream.end()
    assert outcomes == ["duplicate", "duplicate", "committed"]
    assert await connection.fetchval(COUNT) == 3


async def test_a_connection_lost_in_mid_batch(
    server: Application, channel: aio.Channel, connection: Any
) -> None:
    async with held(connection):
        lost = aio.insecure_channel(server.address, options=[("grpc.use_local_subchannel_pool", 1)])
        stream = IngestCall(lost)
        await stream.welcome()
        await stream.send(batch(1, event()))
        await a_writer_waits(connection)
        await lost.close()
        await no_stream_is_open(server)
    await becomes(connection, COUNT, 1)
    async with IngestCall(channel) as again:
        assert (await again.welcome()).last_sequence == 1


async def test_cancels_at_every_stage_leave_nothing_behind(
    server: Application, channel: aio.Channel, connection: Any
) -> None:
    opening: list[list[bytes]] = [
        [],
        [hello("a")],
        [hello("a"), batch(1, event())],
        [hello("b"), *(batch(sequence, *[event()] * 500) for sequence in range(1, 30))],
    ]
    for messages in opening:
        for read_first in (False, True):
            async with IngestCall(channel) as stream:
                if messages:
                    await stream.send(messages[0])
                    if read_first:
                        await stream.read()
                writing = asyncio.create_task(stream.send(*messages[1:]))
                await asyncio.sleep(0)
                stream.call.cancel()
                await asyncio.gather(writing, return_exceptions=True)
    await no_stream_is_open(server)
    assert (await ingest(channel, request(event()))).result.accepted_count == 1


async def test_half_a_message_is_no_batch(channel: aio.Channel, connection: Any) -> None:
    """A batch cut off inside its records is refused; a message cut off before them ends it."""
    whole = batch(1, event(), event())
    data = whole[2:]
    async with IngestCall(channel) as stream:
        await stream.welcome()
        await stream.send(field(2, data[:2] + field(2, data[4:-3])))
        assert (await stream.ack()).WhichOneof("outcome") == "refused"
        await stream.send(whole[:-3])
        assert (await stream.failure()).reason == "UNDECODABLE"
    assert await connection.fetchval(COUNT) == 0


async def both_are_accepted(server: Application) -> None:
    """Wait until the server has read the second batch of its only stream."""
    ingest_service = server._ingest
    assert ingest_service is not None
    (stream,) = ingest_service._streams
    async with asyncio.timeout(DEADLINE_SECONDS):
        while stream._accepted < 2:  # noqa: ASYNC110 - a state of the server
            await asyncio.sleep(0.01)


async def no_stream_is_open(server: Application) -> None:
    """Wait until the server has let go of every stream."""
    ingest_service = server._ingest
    assert ingest_service is not None
    async with asyncio.timeout(DEADLINE_SECONDS):
        while ingest_service.counters.open_streams:  # noqa: ASYNC110 - a state of the server
            await asyncio.sleep(0.01)
