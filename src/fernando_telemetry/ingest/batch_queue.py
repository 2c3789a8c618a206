"""The batches that wait for a writer: in the order of arrival, small ones also for themselves.

A small batch (a call, a stream with little to say) must not wait behind megabytes: some writers
take nothing else. The others take what came first, small or large.
"""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import Callable
from itertools import count
from typing import Final, Generic, Protocol, TypeVar

# A flush of one alone takes a few milliseconds.
SMALL_BYTES: Final = 64 * 1024


class Sized(Protocol):
    """What can be queued."""

    admitted_bytes: int


T = TypeVar("T", bound=Sized)


class BatchQueue(Generic[T]):
    """Two lines, of small and of large batches, which are one for who takes both."""

    def __init__(self) -> None:
        self._arrivals = count()
        self._small: deque[tuple[int, T]] = deque()
        self._large: deque[tuple[int, T]] = deque()
        self._some = asyncio.Event()
        self._some_small = asyncio.Event()

    def __len__(self) -> int:
        return len(self._small) + len(self._large)

    def batches(self) -> list[T]:
        """Give all that wait."""
        return [batch for _, batch in (*self._small, *self._large)]

    def put(self, batch: T) -> None:
        """Append a batch."""
        line = self._small if batch.admitted_bytes <= SMALL_BYTES else self._large
        line.append((next(self._arrivals), batch))
        self._note()

    async def wait(self, *, small_only: bool) -> None:
        """Wait until there is something to take."""
        await (self._some_small if small_only else self._some).wait()

    def take(self, most_bytes: int, most_batches: int, *, small_only: bool) -> list[T]:
        """Take what came first, at least one batch where there is one.

        Args:
            most_bytes: No further batch beyond this many bytes.
            most_batches: Nor beyond this many.
            small_only: Leave large ones to others.
        """
        group: list[T] = []
        size = 0
        while len(group) < most_batches:
            line = self._small if small_only else self._first()
            if not line:
                break
            size += line[0][1].admitted_bytes
            if group and size > most_bytes:
                break
            group.append(line.popleft()[1])
        self._note()
        return group

    def remove(self, is_wanted: Callable[[T], bool]) -> list[T]:
        """Take out all that are wanted, wherever they stand."""
        gone = [batch for batch in self.batches() if is_wanted(batch)]
        removed = set(map(id, gone))
        for line in (self._small, self._large):
            kept = [entry for entry in line if id(entry[1]) not in removed]
            line.clear()
            line.extend(kept)
        self._note()
        return gone

    def _first(self) -> deque[tuple[int, T]]:
        if self._small and self._large:
            return self._small if self._small[0][0] < self._large[0][0] else self._large
        return self._small or self._large

    def _note(self) -> None:
        for event, waits in ((self._some, len(self)), (self._some_small, len(self._small))):
            if waits:
                event.set()
            else:
                event.clear()
