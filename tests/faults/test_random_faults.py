"""Faults at random under streams and calls of all kinds of records: exactly once, come what may.

A fault is a `kill -9` of the server, of PostgreSQL's postmaster or of one of its backends, a
SIGTERM, or connections that are cut, of clients or of the server to its database. FAULTS_SEED
repeats the choices of a run (not its timing).
"""

from __future__ import annotations

import asyncio
import contextlib
import os
import random
import signal
from collections import Counter
from collections.abc import AsyncIterator
from datetime import UTC, datetime
from pathlib import Path

import asyncpg
import pytest

from fernando_telemetry.embedded import EmbeddedPostgres
from fernando_telemetry.settings import Settings
from tests.conftest import share
from tests.faults.mixed_records import MIXED_ROWS, mixed_batches
from tests.faults.numbered_producer import NumberedProducer
from tests.faults.server_process import ServerProcess, serve, until
from tests.faults.stored_once import Stored, assert_stored_once
from tests.faults.unary_caller import UnaryCaller
from tests.faults.wire import Wire, socket_of, through, wired

pytestmark = [
    pytest.mark.faults,
    pytest.mark.timeout(600),
    pytest.mark.skipif(not Path("/proc/self/stat").exists(), reason="needs /proc"),
]
FAULTS = (
    "server_killed",
    "server_told_to_stop",
    "postmaster_killed",
    "backend_killed",
    "clients_cut",
    "database_cut",
)
WRITERS = (
    "SELECT pid FROM pg_stat_activity WHERE application_name LIKE 'fernando-telemetry %' "
    "AND datname = current_database()"
)
ACKS_BETWEEN_FAULTS = 8
STREAMED = MIXED_ROWS.format(condition="LIKE 'stream-%'")


class World:
    """A server, its PostgreSQL, and the wires to both."""

    def __init__(
        self, folder: Path, postgres: EmbeddedPostgres, to_server: Wire, to_database: Wire
    ) -> None:
        self.to_server = to_server
        self._folder = folder
        self._postgres = postgres
        self._to_database = to_database
        self._running = contextlib.AsyncExitStack()
        self._server: ServerProcess | None = None
        self._servers = 0
        self.retried = 0

    async def start_server(self) -> None:
        self._servers += 1
        self._server = await self._running.enter_async_context(
            serve(
                self._folder / "server",
                self._folder / f"log-{self._servers}",
                dsn=through(self._to_database, self._postgres.dsn),
            )
        )
        self.to_server.target = self._server.address

    async def _end_server(self, *, killed: bool) -> None:
        """End the server; its log has no traceback, however it ended."""
        assert self._server is not None
        server, self._server = self._server, None
        if killed:
            await server.kill()
        else:
            assert await server.stop() == 0
        server.assert_no_traceback()
        self.retried += server.count("flush_retried")
        self.to_server.target = ""
        await self._running.aclose()

    async def close(self) -> None:
        if self._server is not None:
            await self._end_server(killed=False)
        await self._running.aclose()

    async def strike(self, fault: str, chance: random.Random) -> None:
        """Let one fault happen; returns when what it ended has been started again."""
        match fault:
            case "server_killed" | "server_told_to_stop":
                await self._end_server(killed=fault == "server_killed")
                await self.start_server()
            case "postmaster_killed":
                os.kill(self._postgres.postmaster_pid, signal.SIGKILL)
            case "backend_killed":
                with contextlib.suppress(OSError, asyncpg.PostgresError):
                    async with self.session() as connection:
                        rows = await connection.fetch(WRITERS)
                        # PostgreSQL ends all other sessions with it, and recovers.
                        os.kill(chance.choice(rows)["pid"], signal.SIGKILL)
            case "clients_cut":
                self.to_server.cut()
            case _:
                assert fault == "database_cut"
                self._to_database.cut()

    @contextlib.asynccontextmanager
    async def session(self) -> AsyncIterator[asyncpg.Connection[asyncpg.Record]]:
        connection = await asyncpg.connect(self._postgres.dsn, server_settings={"TimeZone": "UTC"})
        try:
            yield connection
        finally:
            connection.terminate()


@contextlib.asynccontextmanager
async def _world(folder: Path) -> AsyncIterator[World]:
    settings = Settings(data_dir=folder / "pg", pg_fsync=False, pg_shared_buffers_mib=16)
    async with (
        EmbeddedPostgres(settings) as postgres,
        wired() as to_server,
        wired(socket_of(postgres.dsn)) as to_database,
    ):
        world = World(folder, postgres, to_server, to_database)
        await world.start_server()
        try:
            yield world
        finally:
            await world.close()


class Clients:
    """Streams and calls, all through one wire."""

    def __init__(self, chance: random.Random) -> None:
        at = datetime.now(UTC).replace(minute=0, second=0, microsecond=0)
        self.producers = [
            NumberedProducer(
                f"stream-{number}",
                random.Random(chance.random()),
                spoil=number % 2 == 0,
                make=mixed_batches(at),
            )
            for number in range(6)
        ]
        self.callers = [
            UnaryCaller(f"unary-{number}", at, random.Random(chance.random()), named=number < 2)
            for number in range(4)
        ]

    @contextlib.asynccontextmanager
    async def running(self, address: str) -> AsyncIterator[None]:
        stop = asyncio.Event()
        async with asyncio.TaskGroup() as tasks:
            for producer in self.producers:
                tasks.create_task(producer.run(address, stop))
            for caller in self.callers:
                tasks.create_task(caller.run(address, stop))
            yield
            stop.set()

    async def flow(self) -> None:
        """Wait until each got some further acks."""

        def acks() -> list[int]:
            streams = [one.ledger.acks for one in self.producers]
            return streams + [4 * len(one.acknowledged) for one in self.callers]

        wanted = [count + ACKS_BETWEEN_FAULTS for count in acks()]
        await until(lambda: all(a >= b for a, b in zip(acks(), wanted, strict=True)))

    async def finish(self, world: World) -> tuple[Stored, int]:
        """Hold what is stored against what was told, before and after the last resend."""
        async with world.session() as connection:
            await assert_stored_once(connection, self.producers, STREAMED)
            for producer in self.producers:
                await producer.finish(world.to_server.address)
            stored = await assert_stored_once(connection, self.producers, STREAMED)
            called = [await one.assert_stored(connection) for one in self.callers]
            return stored, sum(called)


async def test_what_is_acknowledged_is_stored_once_whatever_happens(
    tmp_path: Path, request: pytest.FixtureRequest
) -> None:
    rounds = share(request, "faults", 3, 30)
    seed = int(os.environ.get("FAULTS_SEED") or random.SystemRandom().randrange(1 << 32))
    print(f"\nFAULTS_SEED={seed}")
    chance = random.Random(seed)
    deck: list[str] = []
    struck: Counter[str] = Counter()
    clients = Clients(chance)
    async with _world(tmp_path) as world:
        async with clients.running(world.to_server.address):
            await clients.flow()
            for _ in range(rounds):
                # At random, and each as often as the others.
                deck = deck or chance.sample(FAULTS, len(FAULTS))
                fault = deck.pop()
                # A moment at random; not a wait for a state.
                await asyncio.sleep(chance.random() * 0.1)
                await world.strike(fault, chance)
                struck[fault] += 1
                await clients.flow()
        stored, called_rows = await clients.finish(world)
    ledgers = [one.ledger for one in clients.producers]
    ends = sum((Counter(ledger.ends) for ledger in ledgers), Counter[str]())
    duplicates = sum(sum(ledger.duplicates.values()) for ledger in ledgers)
    named = [one for one in clients.callers if one.named]
    unnamed = [one for one in clients.callers if not one.named]
    print(f"{rounds} rounds: {dict(struck)}")
    print(
        f"streams: {sum(ledger.streams for ledger in ledgers)}, ends {dict(ends)}; "
        f"{sum(ledger.acks for ledger in ledgers)} acks, {duplicates} of them duplicates; "
        f"{world.retried} flushes retried; {stored}"
    )
    for words, callers in (("with request_id", named), ("without", unnamed)):
        print(
            f"calls {words}: {sum(len(one.acknowledged) for one in callers)} acknowledged, "
            f"{sum(one.duplicates for one in callers)} of them duplicates, "
            f"{sum(one.failures for one in callers)} failed"
        )
    print(f"{called_rows} rows of calls; nothing lost, nothing doubled")
    assert stored.batches == sum(len(ledger.offered) for ledger in ledgers)
