"""`kill -9` of the server with streams open: no orphan, and nothing acknowledged is lost."""

from __future__ import annotations

import asyncio
import random
from pathlib import Path

import asyncpg
import pytest

from fernando_telemetry.embedded.owner_lock import running_server
from tests.conftest import share
from tests.faults.numbered_producer import NumberedProducer
from tests.faults.server_process import serve, until
from tests.faults.stored_once import assert_stored_once
from tests.integration.embedded.processes import living_postgres, until_none_lives

pytestmark = [
    pytest.mark.faults,
    pytest.mark.timeout(300),
    pytest.mark.skipif(not Path("/proc/self/stat").exists(), reason="needs /proc"),
]
ACKS_A_ROUND = 40


async def test_a_killed_server_leaves_no_orphan_and_loses_nothing(
    tmp_path: Path, run_folder: dict[str, str], request: pytest.FixtureRequest
) -> None:
    rounds = share(request, "faults", 3, 12)
    data_dir = tmp_path / "data"
    producers = [NumberedProducer(f"kept-{n}", random.Random(n), spoil=False) for n in range(4)]
    seconds_to_serve = []

    def acks() -> int:
        return sum(producer.ledger.acks for producer in producers)

    for turn in range(rounds):
        begun = asyncio.get_running_loop().time()
        async with serve(
            data_dir, tmp_path / f"log-{turn}", environment=run_folder, pg_shared_buffers_mib=16
        ) as server:
            seconds_to_serve.append(asyncio.get_running_loop().time() - begun)
            wanted = acks() + ACKS_A_ROUND
            stop = asyncio.Event()
            streams = [
                asyncio.create_task(producer.run(server.address, stop)) for producer in producers
            ]
            await until(lambda wanted=wanted: acks() >= wanted)  # type: ignore[misc]
            assert living_postgres(data_dir), "the check for orphans would prove nothing"
            await server.kill()
            stop.set()
            await asyncio.gather(*streams)
            await until_none_lives(data_dir)
            server.assert_no_traceback()
    async with serve(
        data_dir, tmp_path / "log", environment=run_folder, pg_shared_buffers_mib=16
    ) as server:
        told = running_server(data_dir)
        assert told is not None
        connection = await asyncpg.connect(told.dsn, server_settings={"TimeZone": "UTC"})
        await assert_stored_once(connection, producers)
        in_flight = sum(len(one.ledger.offered) - one.ledger.done_through for one in producers)
        for producer in producers:
            await producer.finish(server.address)
        stored = await assert_stored_once(connection, producers)
        assert stored.batches == sum(len(producer.ledger.offered) for producer in producers)
        await connection.close()
        assert await server.stop() == 0
    assert not living_postgres(data_dir)
    took = ", ".join(f"{seconds:.1f}" for seconds in seconds_to_serve)
    duplicates = sum(sum(one.ledger.duplicates.values()) for one in producers)
    print(f"\n{rounds} kills; {acks()} acks, {duplicates} duplicates; {in_flight} batches resent")
    print(f"after the last kill; {stored}; seconds from start to SERVING: {took}")
