"""The tails that are open, and what wakes those who read for them."""

from __future__ import annotations

import asyncio
from collections.abc import Iterable
from dataclasses import dataclass, field
from typing import Final

from fernando_telemetry.domain.cursor import CURSOR_CHARACTERS, Cursor
from fernando_telemetry.domain.filters import Filter
from fernando_telemetry.domain.limits import TAIL_BUFFER_BYTES, TAILS_BYTES
from fernando_telemetry.queries.tail_buffer import TailBuffer

_EVENTS_BYTES: Final = TAIL_BUFFER_BYTES - CURSOR_CHARACTERS - 1024


@dataclass(eq=False, slots=True)
class Tail:
    """One open call.

    Args:
        filter: As the caller wrote it.
        conditions: What it says.
        buffer: What waits for its client.
        given: The cursor's text it began with.
        position: Where it is while it is behind.
        cursor: Text of where it is; "" before the first look.
        is_level: Whether it shares the position of all that are.
        error: What it ends with, behind what its buffer has.
    """

    filter: str
    conditions: Filter
    buffer: TailBuffer
    given: str
    position: Cursor | None = None
    cursor: str = ""
    is_level: bool = False
    error: Exception | None = None
    news: asyncio.Event = field(default_factory=asyncio.Event)

    def end(self, error: Exception) -> None:
        """End it behind what its buffer has."""
        if self.error is None:
            self.error = error
        self.news.set()


class OpenTails:
    """All tails of a server.

    Attributes:
        some: Set while there may be any.
        woken: Set when there may be something to read.
    """

    def __init__(self) -> None:
        self._tails: set[Tail] = set()
        self.some = asyncio.Event()
        self.woken = asyncio.Event()

    def __len__(self) -> int:
        return len(self._tails)

    @property
    def room_bytes(self) -> int:
        """How much each tail's buffer holds."""
        return min(_EVENTS_BYTES, TAILS_BYTES // max(1, len(self._tails)))

    def add(self, tail: Tail) -> None:
        """Open one."""
        self._tails.add(tail)
        self.some.set()
        self.woken.set()

    def discard(self, tail: Tail) -> None:
        """Close one."""
        self._tails.discard(tail)

    def reading(self) -> list[Tail]:
        """Give those that are still read for."""
        return [tail for tail in self._tails if tail.error is None]

    def end(self, error: Exception, tails: Iterable[Tail] | None = None) -> None:
        """End some; None: all."""
        for tail in list(self._tails if tails is None else tails):
            tail.end(error)
