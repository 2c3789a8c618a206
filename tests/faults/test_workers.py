"""`serve --workers 2` under load: killed workers, a killed parent, drains."""

from __future__ import annotations

import asyncio
import contextlib
import os
import random
import signal
import time
from pathlib import Path
from typing import Any

import asyncpg
import pytest

from fernando_telemetry.embedded.owner_lock import running_server
from tests.conftest import share
from tests.faults.numbered_producer import NumberedProducer
from tests.faults.server_process import ServerProcess, serve, until
from tests.faults.stored_once import assert_stored_once
from tests.integration.embedded.processes import until_none_lives
from tests.ports import free_port

pytestmark = [
    pytest.mark.faults,
    pytest.mark.timeout(300),
    pytest.mark.skipif(not Path("/proc/self/stat").exists(), reason="needs /proc"),
]
WORKERS = 2
DRAIN_SECONDS = 20.0
# So many that all of them land on one worker once in 2^15 runs.
STREAMS = 16


def producers(name: str) -> list[NumberedProducer]:
    return [NumberedProducer(f"{name}-{n}", random.Random(n), spoil=False) for n in range(STREAMS)]


def workers_of(server: ServerProcess) -> dict[int, int]:
    """Give the latest process id of each worker, from the log."""
    pids: dict[int, int] = {}
    for entry in server.log_entries():
        if entry["event"] == "serving":
            pids |= {int(worker): pid for worker, pid in entry["workers"].items()}
        elif entry["event"] == "worker_restarted":
            pids[entry["worker"]] = entry["pid"]
    return pids


def is_alive(pid: int) -> bool:
    with contextlib.suppress(OSError):
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] not in "ZX"
    return False


async def streams_by_instance(connection: Any) -> dict[str, float]:
    """Give the most streams that each worker said it had open."""
    rows = await connection.fetch(
        "SELECT instance_id, max(metric_value) AS streams FROM system_metrics "
        "WHERE metric_name = 'open_streams' AND service_name = 'fernando_telemetry' GROUP BY 1"
    )
    return {row["instance_id"].rpartition("#")[2]: row["streams"] for row in rows}


async def test_a_killed_worker_costs_nobody_a_batch(
    database: str, connection: Any, tmp_path: Path, request: pytest.FixtureRequest
) -> None:
    rounds = share(request, "faults", 3, 20)
    chance = random.Random(7)
    everybody = producers("spread")
    stop = asyncio.Event()
    async with serve(
        tmp_path,
        tmp_path / "log",
        dsn=database,
        workers=WORKERS,
        drain_seconds=DRAIN_SECONDS,
        health_interval_seconds=0.1,
    ) as server:
        streams = [asyncio.create_task(one.run(server.address, stop)) for one in everybody]

        async def all_go_on() -> None:
            wanted = {one.name: one.ledger.acks + 10 for one in everybody}
            await until(lambda: all(one.ledger.acks >= wanted[one.name] for one in everybody))

        await all_go_on()
        async with asyncio.timeout(30):
            spread: dict[str, float] = {}
            while not all(spread.get(str(n)) for n in range(1, WORKERS + 1)):
                spread = await streams_by_instance(connection)
                await asyncio.sleep(0.05)
        for turn in range(rounds):
            victim = chance.choice(list(workers_of(server).values()))
            os.kill(victim, signal.SIGKILL)
            await until(lambda turn=turn: server.count("worker_restarted") == turn + 1)  # type: ignore[misc]
            await all_go_on()
        assert server.count("worker_ended") == rounds
        assert await server.stop() == 0
        stop.set()
        await asyncio.gather(*streams)
        server.assert_no_traceback()
    await assert_stored_once(connection, everybody)
    resent = sum(len(one.ledger.offered) - one.ledger.done_through for one in everybody)
    async with serve(tmp_path, tmp_path / "log2", dsn=database, workers=WORKERS) as server:
        await asyncio.gather(*(one.finish(server.address) for one in everybody))
        assert await server.stop() == 0
    stored = await assert_stored_once(connection, everybody)
    assert stored.batches == sum(len(one.ledger.offered) for one in everybody)
    acks = sum(one.ledger.acks for one in everybody)
    duplicates = sum(sum(one.ledger.duplicates.values()) for one in everybody)
    print(f"\nstreams a worker at most: {spread}; {rounds} workers killed; {acks} acks,")
    print(f"{duplicates} duplicates, {resent} resent after the drain; {stored}")


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT], ids=lambda n: n.name)
async def test_a_drain_goes_over_all_workers(
    number: signal.Signals, database: str, connection: Any, tmp_path: Path
) -> None:
    everybody = producers("told")
    stop = asyncio.Event()
    async with serve(
        tmp_path, tmp_path / "log", dsn=database, workers=WORKERS, drain_seconds=DRAIN_SECONDS
    ) as server:
        streams = [asyncio.create_task(one.run(server.address, stop)) for one in everybody]
        await until(lambda: all(one.ledger.acks >= 20 for one in everybody))
        begun = time.monotonic()
        code = await server.stop(number)
        took = time.monotonic() - begun
        stop.set()
        await asyncio.gather(*streams)
        server.assert_no_traceback()
        assert server.count("stopped") == WORKERS + 1
        assert not server.count("worker_ended")
    assert code == 0
    assert took < DRAIN_SECONDS, "a drain that works does not use its time up"
    for one in everybody:
        assert one.ledger.went_away, one.ledger
        assert one.ledger.ends.get("OK"), one.ledger.ends
    acknowledged = sum(len(one.ledger.committed) for one in everybody)
    stored = await assert_stored_once(connection, everybody)
    # What was accepted was answered: nothing is stored that its producer was not told of.
    assert stored.batches == acknowledged
    print(f"\n{number.name}: {took:.2f} s, {acknowledged} batches acknowledged")


async def test_a_killed_parent_takes_everything_with_it(
    tmp_path: Path, run_folder: dict[str, str]
) -> None:
    """Workers and PostgreSQL end, and the next server has port and data at once."""
    data_dir = tmp_path / "data"
    everybody = producers("kept")
    port = free_port()
    for turn in range(2):
        async with serve(
            data_dir,
            tmp_path / f"log-{turn}",
            environment=run_folder,
            pg_shared_buffers_mib=16,
            workers=WORKERS,
            port=port,
        ) as server:
            stop = asyncio.Event()
            streams = [asyncio.create_task(one.run(server.address, stop)) for one in everybody]
            wanted = {one.name: one.ledger.acks + 5 for one in everybody}
            await until(
                lambda wanted=wanted: all(  # type: ignore[misc]
                    one.ledger.acks >= wanted[one.name] for one in everybody
                )
            )
            pids = workers_of(server)
            assert len(pids) == WORKERS
            assert all(is_alive(pid) for pid in pids.values())
            await server.kill()
            stop.set()
            await asyncio.gather(*streams)
            await until(lambda pids=pids: not any(map(is_alive, pids.values())))  # type: ignore[misc]
            await until_none_lives(data_dir)
            server.assert_no_traceback()
    async with serve(
        data_dir,
        tmp_path / "log",
        environment=run_folder,
        pg_shared_buffers_mib=16,
        workers=WORKERS,
        port=port,
    ) as server:
        told = running_server(data_dir)
        assert told is not None
        assert told.pid == server.pid
        assert told.grpc_address == server.address
        connection = await asyncpg.connect(told.dsn, server_settings={"TimeZone": "UTC"})
        await assert_stored_once(connection, everybody)
        await asyncio.gather(*(one.finish(server.address) for one in everybody))
        stored = await assert_stored_once(connection, everybody)
        assert stored.batches == sum(len(one.ledger.offered) for one in everybody)
        await connection.close()
        assert await server.stop() == 0
        assert not any(map(is_alive, workers_of(server).values()))
    print(f"\n2 parents killed; {stored}")


async def test_workers_outlive_a_postgresql_that_dies(
    tmp_path: Path, run_folder: dict[str, str]
) -> None:
    data_dir = tmp_path / "data"
    everybody = producers("patient")
    async with serve(
        data_dir,
        tmp_path / "log",
        environment=run_folder,
        pg_shared_buffers_mib=16,
        workers=WORKERS,
        drain_seconds=DRAIN_SECONDS,
    ) as server:
        stop = asyncio.Event()
        streams = [asyncio.create_task(one.run(server.address, stop)) for one in everybody]
        await until(lambda: all(one.ledger.acks >= 5 for one in everybody))
        postmaster = int((data_dir / "pgdata" / "postmaster.pid").read_text().split()[0])
        os.kill(postmaster, signal.SIGKILL)
        wanted = {one.name: one.ledger.acks + 20 for one in everybody}
        await until(lambda: all(one.ledger.acks >= wanted[one.name] for one in everybody))
        stop.set()
        await asyncio.gather(*streams)
        told = running_server(data_dir)
        assert told is not None
        connection = await asyncpg.connect(told.dsn, server_settings={"TimeZone": "UTC"})
        await asyncio.gather(*(one.finish(server.address) for one in everybody))
        stored = await assert_stored_once(connection, everybody)
        assert stored.batches == sum(len(one.ledger.offered) for one in everybody)
        await connection.close()
        assert await server.stop() == 0
        assert not server.count("worker_ended")
        server.assert_no_traceback()
