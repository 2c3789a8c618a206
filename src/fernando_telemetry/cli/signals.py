"""Signals that end a server, and a server's start and life until one comes."""

from __future__ import annotations

import asyncio
import signal
from typing import Protocol


class Startable(Protocol):
    """A server: Application or Supervisor."""

    async def start(self) -> None:
        """Start it; returns when it serves."""

    async def wait_failed(self) -> BaseException:
        """Wait until something it cannot live without has ended."""


def stop_on_signals() -> asyncio.Event:
    """Set the event at the first SIGTERM or SIGINT; the second one ends the process at once."""
    stop = asyncio.Event()
    loop = asyncio.get_running_loop()

    def first(number: signal.Signals) -> None:
        stop.set()
        loop.remove_signal_handler(number)
        signal.signal(number, signal.SIG_DFL)

    for number in (signal.SIGTERM, signal.SIGINT):
        loop.add_signal_handler(number, first, number)
    return stop


async def started(server: Startable, stop: asyncio.Event) -> bool:
    """Start a server; gives False where a signal came first, and nothing is left running.

    Raises:
        StartupError: It could not start.
    """
    starting = asyncio.create_task(server.start())
    stopped = asyncio.create_task(stop.wait())
    await asyncio.wait({starting, stopped}, return_when=asyncio.FIRST_COMPLETED)
    stopped.cancel()
    if not starting.done():
        starting.cancel()
        await asyncio.gather(starting, return_exceptions=True)
        return False
    starting.result()
    return True


async def stopped_or_failed(server: Startable, stop: asyncio.Event) -> None:
    """Wait for a signal, or until something the server cannot live without has ended."""
    waits = {asyncio.create_task(stop.wait()), asyncio.create_task(server.wait_failed())}
    await asyncio.wait(waits, return_when=asyncio.FIRST_COMPLETED)
    for wait in waits:
        wait.cancel()
