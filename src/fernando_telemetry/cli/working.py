"""A worker's life as a process: its order, its answer, signals, exit code."""

from __future__ import annotations

import asyncio
import os
import sys
from contextlib import AsyncExitStack

import structlog

from fernando_telemetry.cli.signals import started, stop_on_signals, stopped_or_failed
from fernando_telemetry.domain.errors import StartupError
from fernando_telemetry.heap import Heap, settle
from fernando_telemetry.logs import configure_logs
from fernando_telemetry.settings import Settings, load_settings
from fernando_telemetry.workers.lifeline import die_with_parent, watch_parent
from fernando_telemetry.workers.order import WorkerAnswer, WorkerOrder

log = structlog.get_logger(__name__)

STDIN, STDOUT, STDERR = 0, 1, 2


def serve_worker() -> int:
    """Take the order of a parent (workers/process.py) from stdin and serve until a signal.

    Returns:
        0 after SIGTERM, 1 where it could not start or something it needs has ended, 2 without an
        order.
    """
    try:
        order = WorkerOrder.of_line(_first_line())
    except ValueError:
        print("fernando-telemetry: serve-worker is started by serve --workers.", file=sys.stderr)
        return 2
    die_with_parent(order.parent_pid)
    settings = load_settings(**order.settings)
    configure_logs(settings.log_level, settings.log_format)
    structlog.contextvars.bind_contextvars(worker=order.worker)
    Heap().begin()
    return asyncio.run(_serve(settings, order.worker))


def _first_line() -> bytes:
    """Read stdin up to its first line break, and nothing of what follows."""
    line = b""
    while not line.endswith(b"\n"):
        piece = os.read(STDIN, 65_536)
        if not piece:
            break
        line += piece
    return line


def _answer(answer: WorkerAnswer) -> None:
    os.write(STDOUT, answer.line())
    # Nobody reads it from here on: what a library might print must not fill the pipe.
    os.dup2(STDERR, STDOUT)


async def _serve(settings: Settings, worker: int) -> int:
    from fernando_telemetry.app import Application

    watch_parent(STDIN)
    stop = stop_on_signals()
    app = Application(settings, worker=worker)
    async with AsyncExitStack() as running:
        try:
            if not await started(app, stop):
                return 0
        except StartupError as error:
            _answer(WorkerAnswer(trouble=str(error)))
            return 1
        running.push_async_callback(app.stop)
        settle()
        _answer(WorkerAnswer(app.address))
        await stopped_or_failed(app, stop)
        return 0 if stop.is_set() else 1
