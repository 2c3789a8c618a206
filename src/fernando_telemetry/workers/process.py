"""One worker process."""

from __future__ import annotations

import asyncio
import contextlib
import os
import signal
import sys
import time
from asyncio.subprocess import PIPE, Process
from collections.abc import Sequence
from typing import Any

from fernando_telemetry.domain.errors import StartupError
from fernando_telemetry.workers.order import WorkerAnswer, WorkerOrder


def worker_command() -> list[str]:
    """Give the command of a worker: this very program, not whatever lies in the current folder."""
    return [sys.executable, "-P", "-m", "fernando_telemetry", "serve-worker"]


class WorkerProcess:
    """A worker, from its start to its end.

    Its stdin stays open as long as this process lives. It has a session of its own: Ctrl-C in a
    terminal is for the parent, who tells its workers.
    """

    def __init__(self, process: Process, worker: int) -> None:
        self._process = process
        self.worker = worker
        self.started_at = time.monotonic()

    @classmethod
    async def start(
        cls, command: Sequence[str], worker: int, settings: dict[str, Any]
    ) -> WorkerProcess:
        """Start it and give it its order; `wait_serving` tells what came of it.

        Raises:
            StartupError: The program does not start.
        """
        try:
            process = await asyncio.create_subprocess_exec(
                *command, stdin=PIPE, stdout=PIPE, start_new_session=True
            )
        except OSError as error:
            raise StartupError(f"Worker {worker} cannot be started: {error}.") from None
        made = cls(process, worker)
        assert process.stdin is not None
        with contextlib.suppress(ConnectionError):  # it has ended: wait_serving will tell
            process.stdin.write(WorkerOrder(worker, os.getpid(), settings).line())
            await process.stdin.drain()
        return made

    @property
    def pid(self) -> int:
        """Its process id."""
        return self._process.pid

    @property
    def is_alive(self) -> bool:
        """Whether it has not ended."""
        return self._process.returncode is None

    async def wait_serving(self, timeout_seconds: float) -> str:
        """Wait until it serves; gives its address.

        Raises:
            StartupError: It ended, or is not ready in time (and is killed).
        """
        assert self._process.stdout is not None
        try:
            async with asyncio.timeout(timeout_seconds):
                line = await self._process.stdout.readline()
        except TimeoutError:
            self.kill()
            raise StartupError(
                f"Worker {self.worker} did not serve within {timeout_seconds:g} s "
                "(FERNANDO_WORKER_START_TIMEOUT_SECONDS)."
            ) from None
        if not line:
            code = await self._process.wait()
            raise StartupError(f"Worker {self.worker} ended with {code} before it served.")
        try:
            answer = WorkerAnswer.of_line(line)
        except ValueError:
            self.kill()
            raise StartupError(f"Worker {self.worker} said what is no answer.") from None
        if answer.trouble:
            await self._process.wait()
            raise StartupError(answer.trouble)
        return answer.address

    async def wait(self) -> int:
        """Wait for its end; gives the exit code, negative for a signal."""
        return await self._process.wait()

    def terminate(self) -> None:
        """Ask it to drain and end."""
        self._send(signal.SIGTERM)

    def kill(self) -> None:
        """End it at once."""
        self._send(signal.SIGKILL)

    def _send(self, number: signal.Signals) -> None:
        with contextlib.suppress(ProcessLookupError):
            self._process.send_signal(number)
