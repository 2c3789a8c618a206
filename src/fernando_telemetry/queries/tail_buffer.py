"""What waits for one tail: events, and the count of those there was no room for."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final

from fernando_telemetry.queries.allowance import Allowance

# An event's tag and length in a message, which its bytes may or may not have.
FRAME_BYTES: Final = 6


@dataclass(frozen=True, slots=True)
class Tailed:
    """Some events, as they came.

    Args:
        events: Encoded, in the order of their commits.
        dropped: How many there was no room for, among them and behind them.
        cursor: Where to go on behind all of them.
    """

    events: Sequence[bytes]
    dropped: int
    cursor: str


class TailBuffer:
    """Events of one tail, up to a size and a rate.

    Args:
        most_per_second: Most events in a second; 0: any number.
        now: The monotonic clock, in seconds.
    """

    def __init__(self, most_per_second: int, now: float) -> None:
        self._allowance = Allowance(most_per_second, now) if most_per_second else None
        self._events: list[bytes] = []
        self._bytes = 0
        self._dropped = 0
        self._is_full = False

    def __len__(self) -> int:
        return len(self._events)

    @property
    def has_news(self) -> bool:
        """Whether there is anything to say."""
        return bool(self._events or self._dropped)

    def most_events(self, now: float) -> int | None:
        """Give how many events it takes at most; None: as its room has it. `now` as for `add`."""
        if self._is_full:
            return 0
        return None if self._allowance is None else max(0, self._allowance.left(now))

    def add(self, events: Sequence[bytes], dropped: int, room_bytes: int, now: float) -> None:
        """Add events as far as they fit, in order; count the others as dropped.

        Args:
            events: Encoded.
            dropped: What was dropped before.
            room_bytes: Most bytes in the buffer; one event always fits into an empty one.
            now: The monotonic clock, in seconds.
        """
        most = self.most_events(now)
        added = 0
        for event in events if most is None else events[:most]:
            size = len(event) + FRAME_BYTES
            if self._events and self._bytes + size > room_bytes:
                self._is_full = True
                break
            self._events.append(event)
            self._bytes += size
            added += 1
        if self._allowance is not None:
            self._allowance.use(added)
        self._dropped += dropped + len(events) - added

    def take(self, cursor: str) -> Tailed:
        """Empty the buffer."""
        taken = Tailed(self._events, self._dropped, cursor)
        self._events, self._bytes, self._dropped, self._is_full = [], 0, 0, False
        return taken
