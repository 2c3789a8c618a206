"""The cursor under kills, through real servers: every row seen exactly once.

Two servers on one database are killed and started anew at random, their writers' sessions are
terminated, their commits held up and cut, and rows refused so that numbers are rolled back on
lanes that live on. The leader, one of the two at a time, closes dead lanes. Meanwhile cursors
read, on the primary and on a physical replica, and begin again from their texts.
"""

from __future__ import annotations

import asyncio
import contextlib
import random
from collections import Counter
from collections.abc import AsyncIterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import asyncpg
import pytest
from grpc import aio

from fernando.telemetry.v1 import (
    Event,
    EventType,
    IngestServiceStub,
    IngestTelemetryRequest,
    TelemetryRecords,
)
from fernando_telemetry.embedded import EmbeddedPostgres
from fernando_telemetry.settings import Settings
from tests.conftest import share
from tests.faults.cursor_reader import CursorReader
from tests.faults.numbered_producer import NumberedProducer
from tests.faults.proxy import Cut, Proxy, proxied
from tests.faults.server_process import DEADLINE_SECONDS, ServerProcess, serve, until
from tests.faults.stored_once import assert_stored_once
from tests.faults.test_flush_torture import KILL, MOMENTS
from tests.replica import replica_of

SEED = 20_240_617
SERVERS = 2
PRODUCERS = 10
# What has to happen in a run.
LEAST = {"servers killed": 2, "writers killed": 3, "rows refused": 3}
# Numbers that were rolled back on lanes that went on.
HOLES = """
SELECT coalesce(sum(highest - flushes), 0)::int FROM (
    SELECT count(*) AS flushes, max(flush_id & ((1::int8 << 40) - 1)) AS highest
    FROM flushes GROUP BY flush_id >> 40) AS lanes
"""
CUTS = [*[Cut.NONE] * 60, Cut.BEFORE, Cut.RACE, Cut.AFTER]
DELAYS = [*[0.0] * 40, 0.005, 0.05, 0.3]


@dataclass
class Fleet:
    """The servers that run at present; each is told apart from its successor."""

    folder: Path
    dsn: str
    chance: random.Random
    running: dict[int, tuple[ServerProcess, asyncio.Event]] = field(default_factory=dict)
    counts: Counter[str] = field(default_factory=Counter)
    logs: list[ServerProcess] = field(default_factory=list)

    async def keep(self, place: int, stop: asyncio.Event) -> None:
        """Run one server after the other in a place; each but the last is killed."""
        turn = 0
        while not stop.is_set():
            folder = self.folder / f"server-{place}"
            folder.mkdir(exist_ok=True)
            log = self.folder / f"log-{place}-{turn}"
            async with serve(
                folder, log, dsn=self.dsn, database_command_timeout_seconds=5
            ) as server:
                leaving = asyncio.Event()
                self.running[place] = server, leaving
                self.logs.append(server)
                await _until_set(stop, 2.0 + self.chance.random() * 4)
                del self.running[place]
                leaving.set()
                if stop.is_set():
                    assert await server.stop() == 0
                else:
                    await server.kill()
                    self.counts["servers killed"] += 1
                server.assert_no_traceback()
            turn += 1

    async def produce(self, producer: NumberedProducer, stop: asyncio.Event) -> None:
        """Let a producer stream to whichever server there is."""
        while not stop.is_set():
            if not self.running:
                await asyncio.sleep(0.02)
                continue
            server, leaving = self.chance.choice(list(self.running.values()))
            with contextlib.suppress(aio.UsageError):
                await producer.run(server.address, leaving)

    async def refuse(self, stop: asyncio.Event) -> None:
        """Send rows that PostgreSQL refuses beside good ones: their flush is rolled back."""
        kind = EventType.EVENT_TYPE_USER_ACTION
        records = TelemetryRecords(
            events=[Event(event_name=name, event_type=kind) for name in ("beside", "poison")]
        )
        while not stop.is_set():
            await _until_set(stop, 0.3)
            for server, _ in list(self.running.values()):
                with contextlib.suppress(aio.AioRpcError):
                    async with aio.insecure_channel(server.address) as channel:
                        request = IngestTelemetryRequest(records=records)
                        stub = IngestServiceStub(channel)
                        answer = await stub.IngestTelemetry(request, timeout=5)
                        self.counts["rows refused"] += answer.result.rejected_count


async def _until_set(event: asyncio.Event, seconds: float) -> None:
    """Let time pass, the length of a run or a life; ends early with the event."""
    with contextlib.suppress(TimeoutError):
        async with asyncio.timeout(seconds):
            await event.wait()


async def _kill_writers(
    dsn: str, chance: random.Random, counts: Counter[str], stop: asyncio.Event
) -> None:
    connection = await asyncpg.connect(dsn)
    await connection.execute(KILL)
    while not stop.is_set():
        wanted = chance.choice(MOMENTS)
        counts["writers killed"] += await connection.fetchval("SELECT kill_a_writer($1)", wanted)
        await _until_set(stop, chance.random() * 0.6)
    await connection.close()


async def _cut_commits(proxy: Proxy, chance: random.Random, stop: asyncio.Event) -> None:
    proxy.commit_delay = lambda: chance.choice(DELAYS)
    while not stop.is_set():
        if not proxy.cuts:
            proxy.cuts = chance.choices(CUTS, k=10)
        await _until_set(stop, 0.05)
    proxy.cuts, proxy.commit_delay = [], None


@contextlib.asynccontextmanager
async def _running(*loops: Any) -> AsyncIterator[None]:
    """Run loops beside; they have been told to end when the block does."""
    async with asyncio.TaskGroup() as group:
        for loop in loops:
            group.create_task(loop)
        yield


@pytest.mark.faults
@pytest.mark.timeout(400)
async def test_cursors_see_every_row_once_while_servers_are_killed(
    postgres: EmbeddedPostgres,
    database: str,
    connection: Any,
    tmp_path: Path,
    request: pytest.FixtureRequest,
) -> None:
    seconds = share(request, "faults", 12, 60)
    chance = random.Random(SEED)
    await connection.execute(
        "ALTER TABLE telemetry_events ADD CONSTRAINT no_poison CHECK (event_name <> 'poison')"
    )
    producers = [
        NumberedProducer(f"producer-{n}", random.Random(chance.random())) for n in range(PRODUCERS)
    ]
    disturbed, read = asyncio.Event(), asyncio.Event()
    (tmp_path / "replica").mkdir()
    async with (
        replica_of(postgres, tmp_path / "replica") as replica,
        proxied(database) as (proxy, through_proxy),
    ):
        await replica.catch_up()
        dsns = (database, database, replica.dsn_of(database))
        readers = [CursorReader(dsn, random.Random(chance.random())) for dsn in dsns]
        fleet = Fleet(tmp_path, through_proxy, chance)
        counts = fleet.counts
        async with _running(*(reader.run(read) for reader in readers)):
            async with _running(
                *(fleet.keep(place, disturbed) for place in range(SERVERS)),
                *(fleet.produce(producer, disturbed) for producer in producers),
                fleet.refuse(disturbed),
                _kill_writers(database, chance, counts, disturbed),
                _cut_commits(proxy, chance, disturbed),
            ):
                # The length of the run, and as long as too little has happened.
                await asyncio.sleep(seconds)
                await until(
                    lambda: (
                        all(counts[name] >= least for name, least in LEAST.items())
                        and all(map(_began_again, readers))
                    )
                )
                # A refused row leaves none where its lane ends with it.
                async with asyncio.timeout(DEADLINE_SECONDS):
                    while not await connection.fetchval(HOLES):  # noqa: ASYNC110
                        await asyncio.sleep(0.05)
                disturbed.set()
            # One more server, left alone: producers end their work, dead lanes are closed.
            async with serve(tmp_path / "server-0", tmp_path / "log", dsn=database) as server:
                for producer in producers:
                    await producer.finish(server.address)
                open_lanes = "SELECT count(*) FROM lanes WHERE last_number IS NULL"
                own = Settings()
                living = own.writers + own.quick_writers
                async with asyncio.timeout(60):
                    while await connection.fetchval(open_lanes) > living:  # noqa: ASYNC110
                        await asyncio.sleep(0.05)
                assert await server.stop() == 0
                server.assert_no_traceback()
            await replica.catch_up()
            read.set()
        stored = await assert_stored_once(connection, producers)
        await _check(connection, readers, counts)
    counts["lanes closed"] = sum(one.count("lane_closed") for one in [*fleet.logs, server])
    counts["leaders"] = sum(one.count("leader_became") for one in [*fleet.logs, server])
    counts.update(f"commits cut {cut.name.lower()}" for cut in proxy.done)
    duplicates = sum(sum(one.ledger.duplicates.values()) for one in producers)
    print(f"\n{seconds} s: {dict(counts)}; {duplicates} duplicates; {stored}")
    for reader, where in zip(readers, ("primary", "primary", "replica"), strict=True):
        print(f"{where}: {len(reader.seen)} rows once, none twice or missed; widest cursor")
        print(f"  {reader.width} lanes; {dict(reader.counts)}")
    # A run in which nothing happened proves nothing.
    assert min(counts["lanes closed"], counts["holes"], counts["leaders"] - 1) > 0, counts
    assert all(map(_began_again, readers))


def _began_again(reader: CursorReader) -> bool:
    """Tell whether a reader went on from its text, and took again what it had been given."""
    return reader.counts["given up"] > 0 and reader.counts["starts"] > 1


async def _check(connection: Any, readers: list[CursorReader], counts: Counter[str]) -> None:
    rows = await connection.fetch("SELECT event_id FROM telemetry_events")
    wanted = {row["event_id"] for row in rows}
    assert len(rows) == len(wanted)
    for reader in readers:
        twice = [one for one, times in reader.seen.items() if times > 1]
        missed = wanted - reader.seen.keys()
        assert (len(twice), len(missed)) == (0, 0)
        assert reader.seen.keys() == wanted
    counts["holes"] = await connection.fetchval(HOLES)
