"""Keeps N workers alive: replaces those that die, with pauses that double, and stops them all."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Sequence
from typing import Any, Final

import structlog

from fernando_telemetry.domain.errors import StartupError
from fernando_telemetry.workers.process import WorkerProcess

log = structlog.get_logger(__name__)

FIRST_PAUSE_SECONDS: Final = 0.1
LONGEST_PAUSE_SECONDS: Final = 10.0
# A worker that lived this long has its next death forgiven: it is replaced at once.
TRUSTED_AFTER_SECONDS: Final = 60.0
# What a worker may take beyond the drain itself: closing sessions, ending calls.
STOP_MARGIN_SECONDS: Final = 10.0


class WorkerGroup:
    """N workers with the same settings.

    Args:
        command: Starts a worker.
        settings: What each is told.
        count: How many.
        start_timeout_seconds: How long one may take until it serves.
    """

    def __init__(
        self,
        command: Sequence[str],
        settings: dict[str, Any],
        count: int,
        start_timeout_seconds: float,
    ) -> None:
        self._command = command
        self._settings = settings
        self._count = count
        self._start_timeout_seconds = start_timeout_seconds
        self._processes: dict[int, WorkerProcess] = {}
        self._keepers: list[asyncio.Task[None]] = []
        self._stopping = asyncio.Event()

    @property
    def pids(self) -> dict[int, int]:
        """Process ids by worker number."""
        return {worker: process.pid for worker, process in self._processes.items()}

    async def start(self) -> str:
        """Start all workers; returns when all serve.

        Returns:
            Their address.

        Raises:
            StartupError: One does not serve; call `stop` then.
        """
        numbers = range(1, self._count + 1)
        try:
            async with asyncio.TaskGroup() as tasks:
                starts = [tasks.create_task(self._start_one(number)) for number in numbers]
        except ExceptionGroup as failed:
            raise failed.exceptions[0] from None
        for number in numbers:
            keeper = asyncio.create_task(self._keep(number), name=f"worker-{number}")
            keeper.add_done_callback(self._notice_end)
            self._keepers.append(keeper)
        return starts[0].result()

    async def stop(self, drain_seconds: float) -> None:
        """Let all workers drain; those that do not end in time are killed."""
        self._stopping.set()
        for process in self._processes.values():
            process.terminate()
        ends = [asyncio.create_task(process.wait()) for process in self._processes.values()]
        ends += [asyncio.create_task(self._end_of(keeper)) for keeper in self._keepers]
        if ends:
            _, late = await asyncio.wait(ends, timeout=drain_seconds + STOP_MARGIN_SECONDS)
            if late:
                living = [one for one in self._processes.values() if one.is_alive]
                log.error("workers_killed", workers=[one.worker for one in living])
                for process in living:
                    process.kill()
                await asyncio.wait(late)
        self._keepers.clear()
        self._processes.clear()

    @staticmethod
    def _notice_end(keeper: asyncio.Task[None]) -> None:
        if not keeper.cancelled() and (error := keeper.exception()) is not None:
            log.error("worker_not_kept", keeper=keeper.get_name(), exc_info=error)

    @staticmethod
    async def _end_of(keeper: asyncio.Task[None]) -> int:
        await asyncio.wait({keeper})
        return 0

    async def _start_one(self, worker: int) -> str:
        process = await WorkerProcess.start(self._command, worker, self._settings)
        self._processes[worker] = process
        if self._stopping.is_set():
            process.terminate()
        return await process.wait_serving(self._start_timeout_seconds)

    async def _keep(self, worker: int) -> None:
        pause = FIRST_PAUSE_SECONDS
        while True:
            process = self._processes[worker]
            code = await process.wait()
            if self._stopping.is_set():
                return
            if time.monotonic() - process.started_at >= TRUSTED_AFTER_SECONDS:
                pause = FIRST_PAUSE_SECONDS
            # With 0 it was told to end, and has drained.
            tell = log.info if code == 0 else log.error
            tell(
                "worker_ended",
                worker=worker,
                pid=process.pid,
                exit_code=code,
                restart_in_seconds=pause,
            )
            # Until one serves: what never did has no life that could be trusted.
            while True:
                if await self._is_stopped_within(pause):
                    return
                pause = min(pause * 2, LONGEST_PAUSE_SECONDS)
                if await self._is_replaced(worker, pause):
                    break

    async def _is_replaced(self, worker: int, next_pause: float) -> bool:
        try:
            await self._start_one(worker)
        except StartupError as error:
            if not self._stopping.is_set():
                log.warning(
                    "worker_not_started",
                    worker=worker,
                    reason=str(error),
                    restart_in_seconds=next_pause,
                )
            return False
        log.info("worker_restarted", worker=worker, pid=self._processes[worker].pid)
        return True

    async def _is_stopped_within(self, seconds: float) -> bool:
        try:
            async with asyncio.timeout(seconds):
                await self._stopping.wait()
        except TimeoutError:
            return False
        return True
