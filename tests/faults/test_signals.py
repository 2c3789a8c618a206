"""SIGTERM and SIGINT under load: everybody is told to go, what was accepted is answered, exit 0."""

from __future__ import annotations

import asyncio
import random
import signal
import time
from pathlib import Path
from typing import Any

import pytest
from grpc import aio

from fernando.telemetry.client.errors import decode_error
from fernando.telemetry.v1 import (
    AdminServiceStub,
    GetServerInfoRequest,
    IngestServiceStub,
    StreamHello,
    StreamTelemetryRequest,
)
from tests.faults.numbered_producer import NumberedProducer
from tests.faults.server_process import DEADLINE_SECONDS, serve, until
from tests.faults.stored_once import assert_stored_once

pytestmark = [pytest.mark.faults, pytest.mark.timeout(240)]
# Far longer than a drain takes that works, on a busy machine too.
DRAIN_SECONDS = 30.0


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT], ids=lambda n: n.name)
async def test_a_signal_under_load_drains(
    number: signal.Signals, database: str, connection: Any, tmp_path: Path
) -> None:
    producers = [NumberedProducer(f"told-{n}", random.Random(n), spoil=False) for n in range(12)]
    stop = asyncio.Event()
    async with serve(
        tmp_path, tmp_path / "log", dsn=database, drain_seconds=DRAIN_SECONDS
    ) as server:
        streams = [asyncio.create_task(one.run(server.address, stop)) for one in producers]
        await until(lambda: all(one.ledger.acks >= 20 for one in producers))
        begun = time.monotonic()
        code = await server.stop(number)
        took = time.monotonic() - begun
        stop.set()
        await asyncio.gather(*streams)
        server.assert_no_traceback()
    assert code == 0
    assert took < DRAIN_SECONDS, "a drain that works does not use its time up"
    # Each stream's acks went up to the number its GoAway had promised: the producer asserts it.
    for one in producers:
        assert len(one.ledger.went_away) == 1, one.ledger
        assert one.ledger.ends.get("OK") == 1, one.ledger.ends
    acknowledged = sum(len(one.ledger.committed) for one in producers)
    stored = await assert_stored_once(connection, producers)
    # What was accepted was answered: nothing is stored that its producer was not told of.
    assert stored.batches == acknowledged
    unread = sum(len(one.ledger.offered) - one.ledger.done_through for one in producers)
    async with serve(tmp_path, tmp_path / "log2", dsn=database) as server:
        for one in producers:
            await one.finish(server.address)
        assert await server.stop() == 0
    stored = await assert_stored_once(connection, producers)
    assert stored.batches == sum(len(one.ledger.offered) for one in producers)
    print(f"\n{number.name}: {took:.2f} s, {acknowledged} batches acknowledged, {unread} resumed")


async def test_a_drain_does_not_wait_for_streams_without_a_hello(
    database: str, tmp_path: Path
) -> None:
    async with (
        serve(tmp_path, tmp_path / "log", dsn=database, drain_seconds=DRAIN_SECONDS) as server,
        aio.insecure_channel(server.address) as channel,
    ):
        call = IngestServiceStub(channel).StreamTelemetry()
        await AdminServiceStub(channel).GetServerInfo(GetServerInfoRequest())
        await _until_open(channel, 1)
        begun = time.monotonic()
        assert await server.stop() == 0
        assert time.monotonic() - begun < DRAIN_SECONDS
        with pytest.raises(aio.AioRpcError) as ended:
            await call.read()
        assert decode_error(ended.value).reason == "DRAINING"
        server.assert_no_traceback()


async def test_a_drain_sends_idle_streams_away(database: str, tmp_path: Path) -> None:
    async with (
        serve(tmp_path, tmp_path / "log", dsn=database, drain_seconds=DRAIN_SECONDS) as server,
        aio.insecure_channel(server.address) as channel,
    ):
        call = IngestServiceStub(channel).StreamTelemetry()
        await call.write(StreamTelemetryRequest(hello=StreamHello(producer_id="idle")))
        welcome: Any = await call.read()
        assert welcome.HasField("welcome")
        begun = time.monotonic()
        assert await server.stop() == 0
        assert time.monotonic() - begun < DRAIN_SECONDS
        told: Any = await call.read()
        assert told.HasField("go_away")
        assert told.go_away.last_accepted_sequence == 0
        assert await call.read() is aio.EOF


async def _until_open(channel: aio.Channel, streams: int) -> None:
    admin = AdminServiceStub(channel)
    async with asyncio.timeout(DEADLINE_SECONDS):
        while True:
            info = await admin.GetServerInfo(GetServerInfoRequest())
            if info.open_streams == streams:
                return
            await asyncio.sleep(0.01)
