"""Ends a stream whose caller takes nothing: what it holds is of use to others."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from typing import Any

from grpc import aio

from fernando_telemetry.domain.errors import SlowConsumer
from fernando_telemetry.transport.status import DETAILS_TRAILER, status_of


@contextmanager
def not_stalled(context: Any, seconds: float) -> Iterator[None]:
    """Bound how long the message that is yielded inside may take to be sent.

    Above it the call ends as `SlowConsumer` does, and its task is cancelled, wherever it waits
    inside gRPC: the cancelling alone would leave the caller without a status.

    Args:
        context: Of the call.
        seconds: How long the caller may take nothing.
    """
    loop, task = asyncio.get_running_loop(), asyncio.current_task()
    assert task is not None
    ending: list[asyncio.Task[None]] = []

    async def end() -> None:
        code, text, details = status_of(SlowConsumer(seconds))
        with suppress(aio.AbortError):
            await context.abort(code, text, trailing_metadata=((DETAILS_TRAILER, details),))

    def strike() -> None:
        ending.append(loop.create_task(end(), name="stalled-call"))
        loop.call_soon(task.cancel)

    timer = loop.call_later(seconds, strike)
    try:
        yield
    finally:
        timer.cancel()
