"""Leaving in good order: GoAway, the remaining acks, no new work."""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

import pytest
from grpc import StatusCode, aio
from grpc_health.v1 import health_pb2

from fernando_telemetry.app import Application
from fernando_telemetry.settings import Settings
from tests.conftest import Serving
from tests.integration.ingest.ingest_call import IngestCall, batch, ingest_failure, request
from tests.integration.ingest.locks import DEADLINE_SECONDS, a_writer_waits, held
from tests.integration.ingest.records import event
from tests.integration.transport.failures import expected, summary

COUNT = "SELECT count(*) FROM telemetry_events"
HEALTH = "/grpc.health.v1.Health/"


@asynccontextmanager
async def stopping(settings: Settings) -> AsyncIterator[tuple[Application, aio.Channel]]:
    """A server that the test itself stops."""
    server = Application(settings)
    await server.start()
    try:
        async with aio.insecure_channel(server.address) as channel:
            yield server, channel
    finally:
        await server.stop()


async def health_becomes(watch: Any, status: int) -> None:
    async with asyncio.timeout(DEADLINE_SECONDS):
        while (await watch.read()).status != status:
            pass


def watch_health(channel: aio.Channel, service: str = "") -> Any:
    method: Any = channel.unary_stream(
        HEALTH + "Watch",
        request_serializer=health_pb2.HealthCheckRequest.SerializeToString,
        response_deserializer=health_pb2.HealthCheckResponse.FromString,
    )
    return method(health_pb2.HealthCheckRequest(service=service))


async def test_a_drain_answers_what_was_accepted_and_takes_nothing_new(
    settings: Settings, connection: Any
) -> None:
    response = health_pb2.HealthCheckResponse
    async with stopping(settings) as (server, channel), IngestCall(channel) as stream:
        watch = watch_health(channel, "fernando.telemetry.v1.IngestService")
        await health_becomes(watch, response.SERVING)
        await stream.welcome()
        await stream.commit(1, event())
        async with held(connection):
            await stream.send(batch(2, event()), batch(3, event()))
            await a_writer_waits(connection)
            stop = asyncio.create_task(server.stop())
            await health_becomes(watch, response.NOT_SERVING)
            failure = await ingest_failure(channel, request(event()))
            assert summary(failure) == expected(StatusCode.UNAVAILABLE, "DRAINING")
            async with IngestCall(channel) as late:
                assert (await late.failure()).reason == "DRAINING"
            assert not stop.done()
        replies = [await stream.read() for _ in range(3)]
        assert await stream.read() is None
        await stop
        arms = [reply.WhichOneof("message") or "" for reply in replies if reply is not None]
        assert sorted(arms) == ["ack", "ack", "go_away"]
        by_kind = {reply.WhichOneof("message"): reply for reply in replies if reply is not None}
        assert by_kind["go_away"].go_away.last_accepted_sequence == 3
        acks = [reply.ack for reply in replies if reply is not None and reply.HasField("ack")]
        assert [ack.sequence for ack in acks] == [2, 3]
        assert all(ack.HasField("committed") for ack in acks)
    assert await connection.fetchval(COUNT) == 3


async def test_a_stream_without_hello_does_not_hold_the_drain(settings: Settings) -> None:
    async with stopping(settings) as (server, channel), IngestCall(channel) as silent:
        async with IngestCall(channel) as idle:
            await idle.welcome()
            # Where the idle stream is known, so is the silent one, which came before.
            begun = time.monotonic()
            stop = asyncio.create_task(server.stop())
            assert (await idle.go_away()).last_accepted_sequence == 0
            assert await idle.read() is None
            failure = await silent.failure()
            await stop
        assert summary(failure) == expected(StatusCode.UNAVAILABLE, "DRAINING")
        assert failure.retry_after_seconds is not None
        assert time.monotonic() - begun < settings.drain_seconds / 2


async def test_a_stream_is_sent_away_at_its_age(
    settings: Settings, serving: Serving, connection: Any
) -> None:
    aged = settings.model_copy(update={"stream_age_seconds": 2.0})
    async with (
        serving(aged) as server,
        aio.insecure_channel(server.address) as channel,
        IngestCall(channel) as stream,
    ):
        limits = (await stream.welcome()).limits
        assert limits.max_stream_age.ToMilliseconds() == 2_000
        await stream.send(batch(1, event()))
        # Where the commit takes long, the ack may be the later one.
        replies = [await stream.read() for _ in range(2)]
        by_kind = {reply.WhichOneof("message"): reply for reply in replies if reply is not None}
        assert by_kind["ack"].ack.HasField("committed")
        go_away = by_kind["go_away"].go_away
        assert (go_away.last_accepted_sequence, go_away.reconnect_after.ToMilliseconds()) == (1, 0)
        assert await stream.read() is None
        async with IngestCall(channel) as again:
            assert (await again.welcome()).last_sequence == 1
            await again.commit(2, event())
    assert await connection.fetchval(COUNT) == 2


@pytest.mark.parametrize("repeat_below", [1, 2])
async def test_a_go_away_names_the_last_number_of_its_stream(
    settings: Settings, repeat_below: int
) -> None:
    async with stopping(settings) as (server, channel):
        async with IngestCall(channel) as stream:
            await stream.welcome()
            for sequence in (1, 2, 3):
                await stream.commit(sequence, event())
            await stream.end()
        async with IngestCall(channel) as stream:
            await stream.welcome()
            await stream.send(batch(repeat_below, event()))
            assert (await stream.ack()).HasField("duplicate")
            stop = asyncio.create_task(server.stop())
            assert (await stream.go_away()).last_accepted_sequence == repeat_below
            assert await stream.read() is None
            await stop
