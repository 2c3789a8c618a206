"""Two live clients under one producer_id: one stops, and they do not fence each other for ever."""

from __future__ import annotations

import asyncio
from pathlib import Path
from typing import Any

import pytest

from fernando.telemetry.client import ProducerFenced, TelemetryProducer
from fernando.telemetry.v1 import Event, EventType, TelemetryRecords
from tests.conftest import share
from tests.faults.server_process import DEADLINE_SECONDS, serve

pytestmark = [pytest.mark.faults, pytest.mark.timeout(240)]

COUNTS = "SELECT event_name, count(*) FROM telemetry_events GROUP BY 1"


@pytest.mark.parametrize(("servers", "workers"), [(1, 1), (2, 1), (1, 2)])
async def test_one_of_two_live_clients_stops(
    servers: int,
    workers: int,
    database: str,
    connection: Any,
    tmp_path: Path,
    request: pytest.FixtureRequest,
) -> None:
    """It stops for good; the other is not even interrupted. On one server, two, and workers."""
    seconds = share(request, "faults", 3, 10)
    async with (
        serve(tmp_path / "1", tmp_path / "log1", dsn=database, workers=workers) as one,
        serve(tmp_path / "2", tmp_path / "log2", dsn=database) as two,
    ):
        under_way, over = asyncio.Event(), asyncio.Event()

        async def run(name: str, address: str) -> tuple[int, bool]:
            event = Event(event_type=EventType.EVENT_TYPE_USER_ACTION, event_name=name)
            records = TelemetryRecords(events=[event])
            sent = 0
            try:
                async with TelemetryProducer(address, "one-id") as producer:
                    while not over.is_set():
                        await producer.submit(records)
                        sent += 1
                        if sent == 20:
                            under_way.set()
            except ProducerFenced:
                return sent, True
            return sent, False

        first = asyncio.create_task(run("first", one.address))
        async with asyncio.timeout(DEADLINE_SECONDS):
            await under_way.wait()
        other = two if servers == 2 else one
        second = asyncio.create_task(run("second", other.address))
        async with asyncio.timeout(DEADLINE_SECONDS):
            sent, stopped = await first
        # For how long the other one is looked at; not a wait for a state.
        await asyncio.wait([second], timeout=seconds)
        over.set()
        sent_by_second, second_stopped = await second
        assert (stopped, second_stopped) == (True, False)
        assert await connection.fetchval("SELECT epoch FROM producers") == 2
        # What the first had in flight when it was fenced was not stored.
        stored = dict(await connection.fetch(COUNTS))
        assert stored == {"first": sent, "second": sent_by_second}
        one.assert_no_traceback()
        two.assert_no_traceback()
    print(f"\n{seconds} s: {sent} batches of the first until it stopped, {sent_by_second} then")
