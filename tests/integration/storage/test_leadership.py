"""One leader at a time: in line, failing over, coming back after a lost session."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncIterator
from datetime import UTC, datetime
from typing import Any

import pytest

from fernando_telemetry.domain.errors import DatabaseUnavailable
from fernando_telemetry.storage.leadership import Duty, Leadership
from tests.conftest import session_settings
from tests.faults.server_process import until
from tests.faults.wire import socket_of, through, wired

KILL = (
    "SELECT pg_terminate_backend(pid) FROM pg_locks WHERE locktype = 'advisory' "
    "AND classid = 1179603535 AND granted "
    "AND database = (SELECT oid FROM pg_database WHERE datname = current_database())"
)


class Server:
    """One that stands in line, with a duty that counts."""

    def __init__(self, dsn: str) -> None:
        self.runs: list[datetime] = []
        self.running = 0
        self.ended = 0
        self.leadership = Leadership(
            session_settings(dsn),
            [Duty("count", 0.01, self._count), Duty("wait", 0.01, self._wait)],
        )

    async def _count(self, now: datetime) -> None:
        self.runs.append(now)

    async def _wait(self, now: datetime) -> None:
        assert now.tzinfo is UTC
        self.running += 1
        try:
            await asyncio.Event().wait()
        finally:
            self.running -= 1
            self.ended += 1


@contextlib.asynccontextmanager
async def standing(server: Server) -> AsyncIterator[asyncio.Task[None]]:
    task = asyncio.create_task(server.leadership.run())
    try:
        yield task
    finally:
        task.cancel()
        await asyncio.gather(task, return_exceptions=True)
        assert server.running == 0
        assert not server.leadership.is_leader


async def test_one_leads_and_the_next_takes_over(database: str) -> None:
    first, second = Server(database), Server(database)
    async with standing(second):
        async with standing(first):
            await until(lambda: first.leadership.is_leader or second.leadership.is_leader)
            leader, other = (first, second) if first.leadership.is_leader else (second, first)
            await until(lambda: len(leader.runs) >= 3 and leader.running == 1)
            assert not other.runs
            assert not other.leadership.is_leader
            assert leader.runs[0].tzinfo is UTC
        if leader is first:
            await until(lambda: bool(second.runs))


async def test_a_lost_session_ends_the_duties_and_is_taken_up_again(
    database: str, connection: Any
) -> None:
    first, second = Server(database), Server(database)
    async with standing(first), standing(second):
        await until(lambda: first.running + second.running == 1)
        for turn in range(1, 4):
            assert await connection.fetchval(KILL)
            await until(lambda turn=turn: first.ended + second.ended == turn)  # type: ignore[misc]
            # One of them leads again within seconds: the other, or the same in a new session.
            await until(lambda: first.running + second.running == 1)


async def test_a_database_that_is_away_is_waited_for(database: str) -> None:
    async with wired() as wire:
        server = Server(through(wire, database))
        async with standing(server) as task:
            done, _ = await asyncio.wait([task], timeout=0.5)
            assert not done
            wire.target = socket_of(database)
            await until(lambda: server.leadership.is_leader)


async def test_a_duty_that_fails_is_tried_again_and_harms_no_other(database: str) -> None:
    failures = [DatabaseUnavailable("away", 1.0), RuntimeError("a fault")]
    done: list[str] = []

    async def failing(now: datetime) -> None:
        if failures:
            raise failures.pop(0)
        done.append("failing")

    async def other(now: datetime) -> None:
        done.append("other")

    leadership = Leadership(
        session_settings(database),
        [Duty("failing", 0.01, failing), Duty("other", 0.01, other)],
    )
    task = asyncio.create_task(leadership.run())
    await until(lambda: {"failing", "other"} <= set(done), 20)
    assert done[0] == "other"
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task


async def test_a_run_that_takes_a_moment_comes_to_its_end(database: str) -> None:
    begun, may_end, ended = asyncio.Event(), asyncio.Event(), asyncio.Event()

    async def duty(now: datetime) -> None:
        begun.set()
        await may_end.wait()
        ended.set()

    leadership = Leadership(session_settings(database), [Duty("short", 60, duty)])
    task = asyncio.create_task(leadership.run())
    async with asyncio.timeout(20):
        await begun.wait()
    task.cancel()
    asyncio.get_running_loop().call_soon(may_end.set)
    await asyncio.gather(task, return_exceptions=True)
    assert ended.is_set()
