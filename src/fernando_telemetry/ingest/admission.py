"""Bounds the memory of batches: what is admitted, and what streams are granted to send."""

from __future__ import annotations

import asyncio
from collections import deque
from typing import Final

from fernando_telemetry.ingest.batch_queue import SMALL_BYTES

SMALLEST_GRANT: Final = 512 * 1024
LARGEST_GRANT: Final = 8 * 1024 * 1024


class ByteBudget:
    """Bytes of admitted batches. First come, first served; a batch larger than all waits for all.

    Small batches stand in a line of their own, and a part of the budget is theirs alone: they get
    in while megabytes wait for room.

    Args:
        total: Bytes that may be admitted at once.
        reserve: Of them, those that only small batches get.
    """

    def __init__(self, total: int, reserve: int = 0) -> None:
        self.total = total
        self.used = 0
        self._open_to_all = total - reserve
        self._small_used = 0
        self._small: deque[tuple[int, asyncio.Future[None]]] = deque()
        self._large: deque[tuple[int, asyncio.Future[None]]] = deque()

    def _line(self, amount: int) -> tuple[deque[tuple[int, asyncio.Future[None]]], int]:
        """Give the line for an amount, and the amount that is taken."""
        if amount <= SMALL_BYTES:
            return self._small, min(amount, self.total)
        return self._large, min(amount, self._open_to_all)

    def _has_room(self, amount: int) -> bool:
        if amount > SMALL_BYTES:
            return self.used + amount <= self._open_to_all
        # While a large one waits, small ones get no more than what is theirs alone: many of them
        # would take every byte that becomes free.
        within_reserve = self._small_used + amount <= self.total - self._open_to_all
        return self.used + amount <= self.total and (not self._large or within_reserve)

    def _take(self, amount: int) -> None:
        self.used += amount
        if amount <= SMALL_BYTES:
            self._small_used += amount

    def take_at_once(self, amount: int) -> int | None:
        """Take room if there is some and nobody waits for it; None: there is not."""
        line, amount = self._line(amount)
        if line or not self._has_room(amount):
            return None
        self._take(amount)
        return amount

    async def acquire(self, amount: int) -> int:
        """Wait for room and take it; cancelling the wait takes nothing.

        Returns:
            What to give back with `release`.
        """
        taken = self.take_at_once(amount)
        if taken is not None:
            return taken
        line, amount = self._line(amount)
        turn: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        entry = (amount, turn)
        line.append(entry)
        try:
            await turn
        except asyncio.CancelledError:
            if turn.done() and not turn.cancelled():
                self.release(amount)
            else:
                if entry in line:
                    line.remove(entry)
                self._admit()
            raise
        return amount

    def release(self, amount: int) -> None:
        """Give back what `acquire` returned, and no sum of it: small ones are counted apart."""
        self.used -= amount
        if amount <= SMALL_BYTES:
            self._small_used -= amount
        self._admit()

    def _admit(self) -> None:
        for line in (self._small, self._large, self._small):
            while line:
                amount, turn = line[0]
                if turn.done():
                    line.popleft()
                elif self._has_room(amount):
                    line.popleft()
                    self._take(amount)
                    turn.set_result(None)
                else:
                    break


class Grants:
    """Shares `total` bytes out to streams as the size of their largest batch.

    gRPC hands over whole messages, so one unread message per open stream is what memory must
    bear. Each welcome grants an eighth of what is left, between 512 KiB and 8 MiB.
    """

    def __init__(self, total: int) -> None:
        self._total = total
        self.granted = 0

    def grant(self) -> int:
        """Take a stream's grant."""
        left = max(0, self._total - self.granted)
        amount = min(max(left // 8, SMALLEST_GRANT), LARGEST_GRANT)
        self.granted += amount
        return amount

    def give_back(self, amount: int) -> None:
        """Return the grant of a stream that ended."""
        self.granted -= amount
