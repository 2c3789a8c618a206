"""A worker ends when its parent ends."""

from __future__ import annotations

import asyncio
import os
import subprocess
import sys
from asyncio.subprocess import PIPE
from pathlib import Path

from fernando_telemetry.settings import Settings
from fernando_telemetry.workers.held_port import HeldPort
from fernando_telemetry.workers.lifeline import PARENT_IS_GONE
from fernando_telemetry.workers.order import WorkerAnswer, WorkerOrder, settings_of_worker
from fernando_telemetry.workers.process import worker_command


async def started(order: bytes) -> asyncio.subprocess.Process:
    process = await asyncio.create_subprocess_exec(*worker_command(), stdin=PIPE, stdout=PIPE)
    assert process.stdin is not None
    process.stdin.write(order)
    await process.stdin.drain()
    return process


async def test_a_worker_whose_parent_was_gone_before_it_looked_ends(tmp_path: Path) -> None:
    process = await started(WorkerOrder(1, 1 << 22, {"data_dir": str(tmp_path)}).line())
    async with asyncio.timeout(60):
        assert await process.wait() == PARENT_IS_GONE


async def test_a_worker_whose_stdin_ends_ends(settings: Settings) -> None:
    """What tells it where the kernel has no signal for it."""
    held = HeldPort.take(settings.host, 0)
    told = settings_of_worker(settings, dsn=settings.dsn, port=held.port)
    process = await started(WorkerOrder(1, os.getpid(), told).line())
    assert process.stdout is not None
    assert process.stdin is not None
    async with asyncio.timeout(60):
        answer = WorkerAnswer.of_line(await process.stdout.readline())
        assert answer == WorkerAnswer(f"{settings.host}:{held.port}")
        process.stdin.close()
        assert await process.wait() == PARENT_IS_GONE
    held.release()


async def test_a_worker_that_cannot_start_says_why_in_its_answer(settings: Settings) -> None:
    held = HeldPort.take(settings.host, 0)
    dsn = "postgresql://nobody@127.0.0.1:1/nowhere"
    told = settings_of_worker(settings, dsn=dsn, port=held.port)
    process = await started(WorkerOrder(1, os.getpid(), told).line())
    assert process.stdout is not None
    async with asyncio.timeout(60):
        answer = WorkerAnswer.of_line(await process.stdout.readline())
        assert "does not answer" in answer.trouble
        assert await process.wait() == 1
    held.release()


def test_started_by_hand_it_says_who_starts_it() -> None:
    done = subprocess.run(
        [sys.executable, "-m", "fernando_telemetry", "serve-worker"],
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    assert done.returncode == 2
    assert done.stderr == "fernando-telemetry: serve-worker is started by serve --workers.\n"
