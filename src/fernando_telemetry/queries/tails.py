"""TailEvents: what a call does. One reader reads for all of them (queries/tail_reader.py).

Nothing waits for a client: what finds no room in its buffer is counted and dropped.
"""

from __future__ import annotations

import asyncio
import contextlib
import time
from collections.abc import AsyncIterator, Callable
from dataclasses import dataclass
from typing import Final

from fernando_telemetry.domain.errors import Draining, Overloaded
from fernando_telemetry.domain.filter_columns import EVENT_COLUMNS
from fernando_telemetry.domain.filters import parse
from fernando_telemetry.domain.limits import TAIL_HEARTBEAT_SECONDS
from fernando_telemetry.queries.open_tails import OpenTails, Tail
from fernando_telemetry.queries.tail_buffer import TailBuffer, Tailed
from fernando_telemetry.queries.tail_reader import TailReader
from fernando_telemetry.storage.lists import Row
from fernando_telemetry.storage.notices import CommitListener
from fernando_telemetry.storage.sessions import ReaderPool

__all__ = ["TailRequest", "Tailed", "Tails"]

RETRY_AFTER_SECONDS: Final = 1.0


@dataclass(frozen=True, slots=True)
class TailRequest:
    """What a tail asks for.

    Args:
        filter: As in ListEvents; "" takes every event.
        most_per_second: Most events sent in a second; 0: any number.
        cursor: Of a Tailed before; "": what is committed from now on.
    """

    filter: str
    most_per_second: int
    cursor: str


class Tails:
    """All tails of a server.

    Args:
        readers: Sessions of the database that is written: a notice runs ahead of a replica.
        listener: Hears of commits.
        encode: Gives an event's bytes.
        most_tails: Most open tails.
        events_per_second: Most events that are read for tails; what is more is counted.
    """

    def __init__(
        self,
        readers: ReaderPool,
        listener: CommitListener,
        encode: Callable[[Row], bytes],
        *,
        most_tails: int,
        events_per_second: int,
    ) -> None:
        self._tails = OpenTails()
        self._reader = TailReader(self._tails, readers, listener, encode, events_per_second)
        self._most_tails = most_tails
        self._draining = False

    async def run(self) -> None:
        """Read for all tails; never ends."""
        await self._reader.run()

    async def follow(self, request: TailRequest) -> AsyncIterator[Tailed]:
        """Give events as they are committed; the first message tells where it begins.

        A message without events comes where there were none for a while.

        Raises:
            InvalidFilter: The filter.
            CursorInvalid: The cursor is none of this installation.
            CursorTooOld: What follows it is no longer kept.
            Overloaded: Too many tails are open.
            QueryTooExpensive: Its filter ran past the time-out of queries.
            DatabaseUnavailable: The database does not answer; the last cursor goes on.
            Draining: The server is shutting down; likewise.
        """
        conditions = parse(request.filter, EVENT_COLUMNS)
        if self._draining:
            raise _going_away()
        if len(self._tails) >= self._most_tails:
            raise Overloaded(
                f"{self._most_tails} tails are open, which is the most.", RETRY_AFTER_SECONDS
            )
        buffer = TailBuffer(request.most_per_second, time.monotonic())
        tail = Tail(request.filter, conditions, buffer, request.cursor)
        self._tails.add(tail)
        try:
            while True:
                with contextlib.suppress(TimeoutError):
                    async with asyncio.timeout(TAIL_HEARTBEAT_SECONDS):
                        await tail.news.wait()
                tail.news.clear()
                error = tail.error
                if tail.cursor:
                    yield tail.buffer.take(tail.cursor)
                if error is not None:
                    raise error
                if not tail.is_level:
                    self._tails.woken.set()  # it may read on
        finally:
            self._tails.discard(tail)

    def drain(self) -> None:
        """End all tails, and take no new ones."""
        self._draining = True
        self._tails.end(_going_away())


def _going_away() -> Draining:
    return Draining("The server is shutting down.", RETRY_AFTER_SECONDS)
