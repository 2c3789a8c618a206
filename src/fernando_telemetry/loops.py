"""The loops of a server process: those it cannot live without, and those that are begun anew."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Coroutine
from typing import Any

import structlog

from fernando_telemetry.storage.duties import DutyFaults, keep_going

log = structlog.get_logger(__name__)


class Loops:
    """Runs them until it is closed. To be made while the event loop runs.

    Args:
        faults: Count what befalls the ones that are begun anew.
    """

    def __init__(self, faults: DutyFaults) -> None:
        self._faults = faults
        self._tasks: list[asyncio.Task[None]] = []
        self._failure: asyncio.Future[BaseException] = asyncio.get_running_loop().create_future()

    def watch(self, loop: Coroutine[Any, Any, None], name: str) -> None:
        """Run a loop whose end is the server's end."""
        task = asyncio.create_task(loop, name=name)
        task.add_done_callback(self._notice)
        self._tasks.append(task)

    def keep(self, run: Callable[[], Awaitable[None]], name: str) -> None:
        """Run a duty, which is begun anew where it fails."""
        self.watch(keep_going(name, run, self._faults), name)

    def fail(self, error: BaseException) -> None:
        """End the server with an error; the first one is told."""
        if not self._failure.done():
            self._failure.set_result(error)

    async def failed(self) -> BaseException:
        """Wait until something the server cannot live without has ended; never else."""
        return await asyncio.shield(self._failure)

    async def close(self) -> None:
        """Cancel them all and wait for their ends."""
        for task in self._tasks:
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)
        self._tasks.clear()

    def _notice(self, task: asyncio.Task[None]) -> None:
        if task.cancelled() or self._failure.done():
            return
        error = task.exception() or RuntimeError(f"{task.get_name()} ended")
        log.error("loop_ended", loop=task.get_name(), exc_info=error)
        self.fail(error)
