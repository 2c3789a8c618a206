"""The group's care for processes, with small programs in the place of workers."""

from __future__ import annotations

import asyncio
import os
import signal
import sys
import time
from collections.abc import AsyncIterator, Callable
from pathlib import Path

import pytest
import structlog

from fernando_telemetry.domain.errors import StartupError
from fernando_telemetry.workers import group as group_module
from fernando_telemetry.workers.group import WorkerGroup

SERVES = """
import json, os, signal, sys, time
order = json.loads(sys.stdin.readline())
folder = order["settings"]["folder"]
open(f"{folder}/{order['worker']}-{os.getpid()}", "w").close()
print(json.dumps({"address": "here", "trouble": ""}), flush=True)
"""
UNTIL_TOLD = SERVES + "signal.sigwait({signal.SIGTERM})\n"
# Blocked before it is started to be served: SIGTERM waits until it is asked for.
BLOCKED = "import signal; signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGTERM})\n"

Make = Callable[..., WorkerGroup]


@pytest.fixture
async def make(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> AsyncIterator[Make]:
    made: list[WorkerGroup] = []
    monkeypatch.setattr(group_module, "STOP_MARGIN_SECONDS", 1.0)

    def build(program: str, count: int = 2, start_timeout_seconds: float = 30.0) -> WorkerGroup:
        command = [sys.executable, "-I", "-S", "-c", BLOCKED + program]
        settings = {"folder": str(tmp_path)}
        made.append(WorkerGroup(command, settings, count, start_timeout_seconds))
        return made[-1]

    yield build
    for group in made:
        await group.stop(0)


def starts(folder: Path, worker: int) -> list[int]:
    return [int(path.name.split("-")[1]) for path in folder.glob(f"{worker}-*")]


def is_alive(pid: int) -> bool:
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    return True


async def until(condition: Callable[[], bool]) -> None:
    async with asyncio.timeout(30):
        while not condition():  # noqa: ASYNC110 - a state of other processes
            await asyncio.sleep(0.01)


async def test_all_serve_at_the_end_of_start_and_none_after_stop(
    make: Make, tmp_path: Path
) -> None:
    group = make(UNTIL_TOLD, 3)
    assert await group.start() == "here"
    pids = group.pids
    assert sorted(pids) == [1, 2, 3]
    assert all(is_alive(pid) for pid in pids.values())
    own_session = os.getsid(0)
    assert all(os.getsid(pid) != own_session for pid in pids.values())
    await group.stop(20)
    assert not any(is_alive(pid) for pid in pids.values())
    assert [len(starts(tmp_path, worker)) for worker in pids] == [1, 1, 1]


async def test_one_that_dies_is_replaced_and_the_others_stay(make: Make, tmp_path: Path) -> None:
    group = make(UNTIL_TOLD)
    await group.start()
    first = group.pids
    for turn in range(3):
        os.kill(group.pids[1], signal.SIGKILL)
        await until(lambda turn=turn: len(starts(tmp_path, 1)) == turn + 2)  # type: ignore[misc]
        await until(lambda: group.pids[1] in starts(tmp_path, 1))
    assert group.pids[2] == first[2]
    assert len(set(starts(tmp_path, 1))) == 4


@pytest.mark.parametrize(("number", "level"), [(signal.SIGTERM, "info"), (signal.SIGKILL, "error")])
async def test_only_a_death_is_an_error(make: Make, number: signal.Signals, level: str) -> None:
    group = make(UNTIL_TOLD, 1)
    await group.start()
    with structlog.testing.capture_logs() as logs:
        os.kill(group.pids[1], number)
        await until(lambda: any(one["event"] == "worker_restarted" for one in logs))
    assert [one["log_level"] for one in logs if one["event"] == "worker_ended"] == [level]


async def test_pauses_between_deaths_grow(make: Make, tmp_path: Path) -> None:
    group = make(SERVES, 1)  # serves and ends
    await group.start()
    begun = time.monotonic()
    await until(lambda: len(starts(tmp_path, 1)) >= 5)
    # 0.1, 0.2, 0.4 and 0.8 s lie between five starts.
    assert time.monotonic() - begun >= 1.4
    begun = time.monotonic()
    await group.stop(20)
    assert time.monotonic() - begun < 10, "a stop does not wait for a pause to end"


async def test_the_trouble_of_a_worker_is_the_sentence_of_the_start(make: Make) -> None:
    group = make(
        "import json; input(); "
        "print(json.dumps({'address': '', 'trouble': 'The disk is full.'}), flush=True)"
    )
    with pytest.raises(StartupError, match=r"^The disk is full\.$"):
        await group.start()


@pytest.mark.parametrize("program", ["input()", "import sys; sys.exit(3)", "print('hello')"])
async def test_one_that_ends_before_it_serves_is_a_sentence(make: Make, program: str) -> None:
    group = make(program)
    with pytest.raises(StartupError, match=r"^Worker \d"):
        await group.start()


async def test_one_that_never_serves_is_killed(make: Make) -> None:
    group = make("input(); signal.pause()", 1, start_timeout_seconds=0.5)
    with pytest.raises(StartupError, match=r"did not serve within 0\.5 s"):
        await group.start()
    pid = group.pids[1]
    await group.stop(20)
    assert not is_alive(pid)


async def test_a_program_that_is_not_there_is_a_sentence(tmp_path: Path) -> None:
    group = WorkerGroup([str(tmp_path / "nowhere")], {}, 2, 30)
    with pytest.raises(StartupError, match="cannot be started"):
        await group.start()
    await group.stop(0)


async def test_one_that_does_not_end_in_time_is_killed(make: Make) -> None:
    group = make(SERVES + "signal.pause()")
    await group.start()
    pids = group.pids
    await group.stop(0)
    assert not any(is_alive(pid) for pid in pids.values())


async def test_pauses_grow_while_no_replacement_starts(
    make: Make, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The dead one's age is not the life of a replacement that never was."""
    group = make(UNTIL_TOLD, 1)
    await group.start()
    # Whoever lived is trusted: only what never lived can make the pauses grow.
    monkeypatch.setattr(group_module, "TRUSTED_AFTER_SECONDS", 0.0)
    monkeypatch.setattr(group, "_command", ["/nowhere/at/all"])
    with structlog.testing.capture_logs() as logs:
        os.kill(group.pids[1], signal.SIGKILL)
        begun = time.monotonic()
        await until(lambda: len([one for one in logs if one["event"] == "worker_not_started"]) >= 4)
    # 0.1, 0.2, 0.4 and 0.8 s lie before four attempts.
    assert time.monotonic() - begun >= 1.4
    assert [one["event"] for one in logs].count("worker_ended") == 1
