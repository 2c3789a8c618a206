"""Bounds the memory of batches: what is admitted, and what streams are granted to send."""

from __future__ import annotations

import asyncio
from collections import deque
from typing import Final

SMALLEST_GRANT: Final = 512 * 1024
LARGEST_GRANT: Final = 8 * 1024 * 1024


class ByteBudget:
    """Bytes of admitted batches. First come, first served; a batch larger than all waits for all.

    Args:
        total: Bytes that may be admitted at once.
    """

    def __init__(self, total: int) -> None:
        self.total = total
        self.used = 0
        self._waiting: deque[tuple[int, asyncio.Future[None]]] = deque()

    def take_at_once(self, amount: int) -> int | None:
        """Take room if there is some and nobody waits for it; None: there is not."""
        amount = min(amount, self.total)
        if self._waiting or self.used + amount > self.total:
            return None
        self.used += amount
        return amount

    async def acquire(self, amount: int) -> int:
        """Wait for room and take it; cancelling the wait takes nothing.

        Returns:
            What to give back with `release`.
        """
        taken = self.take_at_once(amount)
        if taken is not None:
            return taken
        amount = min(amount, self.total)
        turn: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        self._waiting.append((amount, turn))
        try:
            await turn
        except asyncio.CancelledError:
            if turn.done() and not turn.cancelled():
                self.release(amount)
            else:
                self._waiting = deque(entry for entry in self._waiting if entry[1] is not turn)
                self._admit()
            raise
        return amount

    def release(self, amount: int) -> None:
        """Give back what `acquire` returned."""
        self.used -= amount
        self._admit()

    def _admit(self) -> None:
        while self._waiting:
            amount, turn = self._waiting[0]
            if turn.done():
                self._waiting.popleft()
            elif self.used + amount <= self.total:
                self._waiting.popleft()
                self.used += amount
                turn.set_result(None)
            else:
                return


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
