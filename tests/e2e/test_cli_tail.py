"""`query tail` as a person runs it, against a real server."""

from __future__ import annotations

import asyncio
import json
import os
import pty
import signal
from asyncio.subprocess import PIPE, Process
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

from grpc import aio

from fernando_telemetry.app import Application
from fernando_telemetry.settings import Settings
from tests.conftest import Serving
from tests.e2e.processes import environment
from tests.e2e.test_cli_send_query import PATIENCE_SECONDS, PROGRAM, run, store_events
from tests.ports import free_port


@asynccontextmanager
async def following(
    app: Application, *arguments: str, stdout: int = PIPE
) -> AsyncIterator[Process]:
    """Run it; inside, it follows. Killed at the end if it still runs."""
    process = await asyncio.create_subprocess_exec(
        *PROGRAM,
        *("query", "tail", "--target", app.address, *arguments),
        stdout=stdout,
        stderr=PIPE,
        env=environment(PYTHONUTF8="1", NO_COLOR="1", COLUMNS="60", TERM="xterm"),
    )
    try:
        assert "following" in await complaint(process)
        yield process
    finally:
        if process.returncode is None:
            process.kill()
        await process.wait()


async def complaint(process: Process) -> str:
    """Read the next line of standard error."""
    assert process.stderr is not None
    async with asyncio.timeout(PATIENCE_SECONDS):
        return (await process.stderr.readline()).decode()


async def line(process: Process) -> str:
    """Read the next line of standard output."""
    assert process.stdout is not None
    async with asyncio.timeout(PATIENCE_SECONDS):
        return (await process.stdout.readline()).decode()


async def store(app: Application, count: int, **fields: Any) -> None:
    async with aio.insecure_channel(app.address) as channel:
        await store_events(channel, count, **fields)


async def test_lines_come_while_it_runs_and_ctrl_c_is_quiet(server: Application) -> None:
    async with following(server) as process:
        await store(server, 1, user_id="u1")
        found = await line(process)
        _, _, shown = found.partition("  api_event ")
        assert shown.split() == ["e0", "user_id=u1", 'event_data={"n":', "0}"]
        process.send_signal(signal.SIGINT)
        assert process.stderr is not None
        async with asyncio.timeout(PATIENCE_SECONDS):
            assert await process.stderr.read() == b""
        assert await process.wait() == 130


async def test_json_and_a_filter(server: Application) -> None:
    async with following(server, "--json", "--filter", "event_data.n = 2") as process:
        await store(server, 4)
        row = json.loads(await line(process))
        assert (row["event_name"], row["event_data"]) == ("e2", {"n": 2})


async def test_on_a_terminal_each_event_is_one_line(server: Application) -> None:
    ours, theirs = pty.openpty()
    with os.fdopen(ours, "rb", buffering=0) as terminal:
        async with following(server, stdout=theirs):
            os.close(theirs)
            await store(server, 2, user_id="u" * 100, session_id="\x1b[2J")
            raw = b""
            async with asyncio.timeout(PATIENCE_SECONDS):
                while raw.count(b"\n") < 2:
                    raw += await asyncio.to_thread(os.read, terminal.fileno(), 65_536)
    lines = raw.decode().splitlines()
    assert [len(one) for one in lines] == [60, 60]
    assert all(one.endswith("…") for one in lines)
    assert "\x1b" not in raw.decode()


async def test_it_goes_on_when_the_server_is_back(settings: Settings, serving: Serving) -> None:
    lasting = settings.model_copy(update={"port": free_port()})
    async with serving(lasting) as app:
        running = following(app, "--json")
        process = await running.__aenter__()
        await store(app, 1, user_id="before")
        assert json.loads(await line(process))["user_id"] == "before"
    try:
        assert "connection lost" in await complaint(process)
        async with serving(lasting) as app:
            await store(app, 1, user_id="meanwhile")
            assert "connected again" in await complaint(process)
            await store(app, 1, user_id="after")
            users = [json.loads(await line(process))["user_id"] for _ in range(2)]
            assert users == ["meanwhile", "after"]
    finally:
        await running.__aexit__(None, None, None)


async def test_it_says_how_many_were_dropped(server: Application) -> None:
    async with following(server, "--max-events-per-second", "5") as process:
        await store(server, 50)
        assert "45 events dropped" in await complaint(process)


async def test_what_cannot_begin_ends_it(server: Application) -> None:
    ended = await run("query", "tail", "--filter", "nope = 1", "--target", server.address)
    assert (ended.code, ended.out) == (1, "")
    assert "INVALID_FILTER" in ended.err
    assert "^" in ended.err
