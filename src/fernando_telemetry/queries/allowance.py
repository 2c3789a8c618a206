"""How many of something may be had at a moment, at so many in a second."""

from __future__ import annotations


class Allowance:
    """Grows with time, up to that of a second.

    Args:
        rate: In a second.
        now: The monotonic clock, in seconds.
    """

    def __init__(self, rate: float, now: float) -> None:
        self.rate = rate
        self._left = rate
        self._at = now

    def left(self, now: float) -> int:
        """Give how many may be had now; below 0 where too many were."""
        self._left = min(self.rate, self._left + (now - self._at) * self.rate)
        self._at = now
        return int(self._left)

    def use(self, count: int) -> None:
        """Take some."""
        self._left -= count
