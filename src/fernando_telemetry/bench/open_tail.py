"""An open tail of a benchmark: it counts what comes and how old it is."""

from __future__ import annotations

import asyncio
import contextlib
import time
from collections.abc import AsyncIterator, Sequence
from typing import Any, Final

from grpc import aio

from fernando.telemetry.v1 import EventServiceStub, TailEventsRequest
from fernando_telemetry.bench.failure import BenchFailed

COME_SECONDS: Final = 30.0


class OpenTail:
    """A tail that counts.

    Attributes:
        came: Events that came.
        dropped: Events that were dropped.
        came_at: When the newest message came, as time.perf_counter() has it.
        ages_ms: Of each message's newest event when it came, since its flush began.
    """

    def __init__(self, text: str = "") -> None:
        self._filter = text
        self.came = 0
        self.dropped = 0
        self.came_at = 0.0
        self.ages_ms: list[float] = []
        self._news = asyncio.Event()

    @contextlib.asynccontextmanager
    async def following(self, channel: aio.Channel) -> AsyncIterator[None]:
        """Follow events; inside, it has begun.

        Raises:
            BenchFailed: It could not, or the server ended it.
        """
        call: Any = EventServiceStub(channel).TailEvents(TailEventsRequest(filter=self._filter))
        try:
            self._count(await call.read())
        except aio.AioRpcError as error:
            raise _ended(error) from None
        reading = asyncio.create_task(self._read(call))
        try:
            yield
            if reading.done():
                reading.result()
                raise BenchFailed("The server ended a tail.")
        finally:
            call.cancel()
            reading.cancel()
            await asyncio.gather(reading, return_exceptions=True)

    async def until(self, events: int) -> None:
        """Wait until so many have come or were dropped.

        Raises:
            BenchFailed: They do not come.
        """
        try:
            async with asyncio.timeout(COME_SECONDS):
                while self.came + self.dropped < events:
                    self._news.clear()
                    await self._news.wait()
        except TimeoutError:
            raise BenchFailed(f"Of {events} events the tail has {self.came}.") from None

    async def _read(self, call: Any) -> None:
        try:
            while (message := await call.read()) is not aio.EOF:
                self._count(message)
        except aio.AioRpcError as error:
            raise _ended(error) from None

    def _count(self, message: Any) -> None:
        self.came_at = time.perf_counter()
        self.came += len(message.events)
        self.dropped += message.dropped_count
        if message.events:
            began = message.events[-1].ingested_at
            self.ages_ms.append((time.time() - began.seconds) * 1000 - began.nanos / 1e6)
        self._news.set()


@contextlib.asynccontextmanager
async def following_all(tails: Sequence[OpenTail], channel: aio.Channel) -> AsyncIterator[None]:
    """Follow with several tails at once."""
    async with contextlib.AsyncExitStack() as stack:
        for tail in tails:
            await stack.enter_async_context(tail.following(channel))
        yield


def _ended(error: aio.AioRpcError) -> BenchFailed:
    return BenchFailed(f"A tail ended with {error.code().name}: {error.details()}")
