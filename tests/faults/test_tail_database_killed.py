"""`query tail` while the database is killed under its server: it goes on, each event once."""

from __future__ import annotations

import asyncio
import json
import os
import signal
import sys
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from uuid import uuid4

import pytest
from grpc import aio

from fernando.telemetry import v1
from fernando.telemetry.client import decode_error
from tests.conftest import share
from tests.e2e.processes import environment
from tests.faults.server_process import DEADLINE_SECONDS, ServerProcess, serve, until

pytestmark = [
    pytest.mark.faults,
    pytest.mark.timeout(240),
    pytest.mark.skipif(not Path("/proc/self/stat").exists(), reason="needs /proc"),
]


async def test_a_tail_goes_on_when_the_database_is_back(
    tmp_path: Path, request: pytest.FixtureRequest
) -> None:
    kills = share(request, "faults", 2, 8)
    data_dir = tmp_path / "data"
    async with (
        serve(data_dir, tmp_path / "log", pg_shared_buffers_mib=16) as server,
        following(server) as process,
    ):
        wanted: list[str] = []
        for turn in range(1, kills + 1):
            wanted += await store(server, f"{turn}.before")
            postmaster = int((data_dir / "pgdata" / "postmaster.pid").read_text().split()[0])
            os.kill(postmaster, signal.SIGKILL)
            wanted += await store(server, f"{turn}.meanwhile")
            await until(
                lambda turn=turn: server.count("embedded_postgres_restarted") >= turn  # type: ignore[misc]
            )
            wanted += await store(server, f"{turn}.after")
            assert [await name_of_next(process) for _ in range(9)] == wanted[-9:]
        process.send_signal(signal.SIGINT)
        assert process.stdout is not None
        async with asyncio.timeout(DEADLINE_SECONDS):
            assert await process.stdout.read() == b"", "an event came again"


@asynccontextmanager
async def following(server: ServerProcess) -> AsyncIterator[asyncio.subprocess.Process]:
    """Run `query tail`; inside, it follows."""
    process = await asyncio.create_subprocess_exec(
        *(sys.executable, "-m", "fernando_telemetry", "query", "tail", "--json"),
        *("--target", server.address),
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.PIPE,
        env=environment(PYTHONUTF8="1"),
    )
    try:
        assert process.stderr is not None
        async with asyncio.timeout(DEADLINE_SECONDS):
            assert b"following" in await process.stderr.readline()
        yield process
    finally:
        if process.returncode is None:
            process.kill()
        await process.wait()


async def name_of_next(process: asyncio.subprocess.Process) -> str:
    """Read the next line; gives the event's name."""
    assert process.stdout is not None
    async with asyncio.timeout(DEADLINE_SECONDS):
        line = await process.stdout.readline()
    return str(json.loads(line)["event_name"])


async def store(server: ServerProcess, prefix: str) -> list[str]:
    """Commit three events, one after another, whatever comes between; gives their names."""
    names = [f"{prefix}.{number}" for number in range(3)]
    async with aio.insecure_channel(server.address) as channel, asyncio.timeout(DEADLINE_SECONDS):
        for name in names:
            event = v1.Event(event_type=v1.EventType.EVENT_TYPE_API_EVENT, event_name=name)
            records = v1.TelemetryRecords(events=[event])
            asked = v1.IngestTelemetryRequest(request_id=str(uuid4()), records=records)
            while not await _is_stored(channel, asked):
                pass
    return names


async def _is_stored(channel: aio.Channel, asked: v1.IngestTelemetryRequest) -> bool:
    try:
        answer = await v1.IngestServiceStub(channel).IngestTelemetry(asked)
    except aio.AioRpcError as error:
        if decode_error(error).retry_after_seconds is None:
            raise
        return False
    assert answer.result.accepted_count == 1
    return True
