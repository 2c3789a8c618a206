"""COMMIT without an answer: stored exactly once, and acknowledged as what it is."""

from __future__ import annotations

import asyncio
import random
from collections import Counter
from pathlib import Path
from typing import Any
from uuid import uuid4

import pytest
from grpc import aio

from fernando.telemetry.v1 import (
    Event,
    EventType,
    IngestServiceStub,
    IngestTelemetryRequest,
    IngestTelemetryResponse,
    TelemetryRecords,
)
from tests.conftest import share
from tests.faults.numbered_producer import NumberedProducer
from tests.faults.proxy import Cut, proxied
from tests.faults.server_process import serve, until
from tests.faults.stored_once import assert_stored_once

pytestmark = [pytest.mark.faults, pytest.mark.timeout(240)]

LOST = [Cut.BEFORE, Cut.RACE, Cut.AFTER, Cut.SILENCE]


def _request(name: str, request_id: str = "") -> IngestTelemetryRequest:
    event = Event(event_type=EventType.EVENT_TYPE_USER_ACTION, event_name=name)
    return IngestTelemetryRequest(
        request_id=request_id, records=TelemetryRecords(events=[event, event])
    )


async def _ingest(address: str, request: IngestTelemetryRequest) -> IngestTelemetryResponse:
    async with aio.insecure_channel(address) as channel:
        stub = IngestServiceStub(channel)
        answer: IngestTelemetryResponse = await stub.IngestTelemetry(request, timeout=30)
        return answer


@pytest.mark.parametrize("named", [False, True], ids=["without_request_id", "with_request_id"])
@pytest.mark.parametrize("cut", LOST, ids=lambda cut: cut.name.lower())
async def test_a_unary_call_is_stored_once(
    cut: Cut, named: bool, database: str, connection: Any, tmp_path: Path
) -> None:
    request = _request("once", str(uuid4()) if named else "")
    async with (
        proxied(database) as (proxy, dsn),
        # Its own time-out is what a session notices silence by.
        serve(
            tmp_path,
            tmp_path / "log",
            dsn=dsn,
            database_command_timeout_seconds=2,
            unary_wait_seconds=20,
        ) as server,
    ):
        await _ingest(server.address, _request("before"))
        proxy.cuts = [cut]
        answer = await _ingest(server.address, request)
        assert proxy.done == [cut]
        assert not answer.duplicate
        assert answer.result.accepted_count == 2
        stored = await connection.fetch("SELECT * FROM telemetry_events WHERE event_name = 'once'")
        assert len(stored) == 2
        assert {f"{row['flush_id']:x}" for row in stored} == {f"{stored[0]['flush_id']:x}"}
        await _ingest(server.address, _request("behind"))
        assert await server.stop() == 0
        server.assert_no_traceback()


async def test_streams_are_stored_once_while_commits_are_cut(
    database: str, connection: Any, tmp_path: Path, request: pytest.FixtureRequest
) -> None:
    wanted = share(request, "faults", 20, 200)
    chance = random.Random(7)
    producers = [NumberedProducer(f"cut-{n}", random.Random(n), spoil=False) for n in range(6)]
    async with (
        proxied(database) as (proxy, dsn),
        # A server has to start within it too.
        serve(tmp_path, tmp_path / "log", dsn=dsn, database_command_timeout_seconds=2) as server,
    ):
        stop = asyncio.Event()
        async with asyncio.TaskGroup() as running:
            for producer in producers:
                running.create_task(producer.run(server.address, stop))
            while len(proxy.done) < wanted:
                kept = [Cut.NONE] * chance.randint(0, 5)
                proxy.cuts = [*kept, chance.choices(LOST, [5, 5, 5, 1])[0]]
                await until(lambda: not proxy.cuts)
            stop.set()
        for producer in producers:
            await producer.finish(server.address)
        stored = await assert_stored_once(connection, producers)
        assert await server.stop() == 0
        server.assert_no_traceback()
    # What the server itself sent again is told as committed: nobody else repeated anything.
    assert not any(producer.ledger.duplicates for producer in producers)
    committed = sum(len(producer.ledger.committed) for producer in producers)
    assert committed == stored.batches
    print(f"\ncut {Counter(cut.name for cut in proxy.done)}; {committed} acks; {stored}")
