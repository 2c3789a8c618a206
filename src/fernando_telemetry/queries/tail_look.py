"""A look for tails: in one snapshot, which flushes are new and which of their events who takes.

new, without a cursor   begins where the others are
new, with a cursor      reads for itself, no faster than its client, until it is level
level                   shares one position with all others that are
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from datetime import timedelta
from typing import Final

from fernando_telemetry.domain.cursor import Cursor
from fernando_telemetry.domain.errors import CursorInvalid, CursorTooOld
from fernando_telemetry.domain.limits import TAIL_BEHIND_SECONDS
from fernando_telemetry.queries.allowance import Allowance
from fernando_telemetry.queries.open_tails import Tail
from fernando_telemetry.queries.tail_buffer import FRAME_BYTES
from fernando_telemetry.storage.committed import CommittedFlush, CommittedReading, Step
from fernando_telemetry.storage.event_tail import MOST_FILTERS, TABLES, TailedEvents
from fernando_telemetry.storage.lists import Row
from fernando_telemetry.storage.sessions import Connection

STEP_FLUSHES: Final = 1_000
STEP_ROWS: Final = 200_000
# A tail that is behind goes in smaller steps: what it reads is not dropped.
BEHIND_ROWS: Final = 1_000
_BEHIND: Final = timedelta(seconds=TAIL_BEHIND_SECONDS)


@dataclass(frozen=True, slots=True)
class Found:
    """What a look found for tails of one filter."""

    tails: Sequence[Tail]
    events: list[bytes]
    dropped: int


class Look:
    """One look.

    Args:
        events: Reads them.
        encode: Gives an event's bytes.
        allowance: Of events that are read.
        room_bytes: How much each tail's buffer holds.
        filters_apart: Read for each filter by itself.

    Attributes:
        asking: The tails whose filters are being read with.
        position: Behind it, for the level tails.
        has_more: Whether there is more already.
        found: For the tails' buffers.
        moved: Tails, each with its position while it is behind, and its cursor's text.
        skipped: Events of which it was not asked who takes them.
    """

    def __init__(
        self,
        events: TailedEvents,
        encode: Callable[[Row], bytes],
        allowance: Allowance,
        room_bytes: int,
        *,
        filters_apart: bool,
    ) -> None:
        self._events = events
        self._encode = encode
        self._allowance = allowance
        self._room_bytes = room_bytes
        self._most_filters = 1 if filters_apart else MOST_FILTERS
        self.asking: Sequence[Tail] = ()
        self.position: Cursor | None = None
        self.has_more = False
        self.found: list[Found] = []
        self.moved: list[tuple[Tail, Cursor | None, str]] = []
        self.skipped = 0

    async def read(
        self,
        reading: CommittedReading,
        connection: Connection,
        tails: Sequence[Tail],
        position: Cursor | None,
    ) -> None:
        """Read for tails; `position` is that of the level ones, `connection` the reading's."""
        level = [tail for tail in tails if tail.is_level]
        if position is None:
            self.position = await reading.newest()
            self._events.forget()
        else:
            step = await reading.next(
                position, max_flushes=STEP_FLUSHES, max_rows=STEP_ROWS, tables=TABLES
            )
            self.position, self.has_more = step.cursor, not step.is_last
            self._events.note(reading.began_at, step.flushes)
            if self.has_more and step.flushes[0].ingested_at < reading.began_at - _BEHIND:
                self._skip(level, step)
            else:
                await self._read_level(connection, level, step)
        text = reading.write(self.position)
        begins = [tail for tail in tails if not tail.is_level and not tail.given]
        self.moved += [(tail, None, text) for tail in (*level, *begins)]
        for tail in tails:
            if not tail.is_level and tail.given and not len(tail.buffer):
                await self._read_behind(reading, connection, tail)

    def _skip(self, level: Sequence[Tail], step: Step) -> None:
        """Leave a step out: the filters of all tails take longer than what comes."""
        dropped = step.row_count(TABLES)
        self.skipped += dropped
        self.found.append(Found(level, [], dropped))

    async def _read_level(self, connection: Connection, level: Sequence[Tail], step: Step) -> None:
        by_filter: dict[str, list[Tail]] = {}
        for tail in level:
            by_filter.setdefault(tail.filter, []).append(tail)
        for groups, share in _parts(list(by_filter.values()), self._most_filters):
            most = max(0, self._allowance.left(time.monotonic())) * len(groups) // share
            await self._read(connection, step.flushes, groups, most)

    async def _read_behind(
        self, reading: CommittedReading, connection: Connection, tail: Tail
    ) -> None:
        """Read a step of a tail that is behind, unless the level ones need what may be read."""
        if self._allowance.left(time.monotonic()) < self._allowance.rate / 2:
            self.has_more = True
            return
        try:
            position = tail.position or reading.read(tail.given)
            step = await reading.next(
                position, max_flushes=STEP_FLUSHES, max_rows=BEHIND_ROWS, tables=TABLES
            )
        except (CursorInvalid, CursorTooOld) as error:
            tail.end(error)
            return
        await self._read(connection, step.flushes, [[tail]], step.row_count(TABLES))
        # The end of a snapshot is one place, whichever way it was come to.
        is_level = step.is_last and not self.has_more
        self.has_more = self.has_more or not step.is_last
        cursor = reading.write(step.cursor)
        self.moved.append((tail, None if is_level else step.cursor, cursor))

    async def _read(
        self,
        connection: Connection,
        flushes: Sequence[CommittedFlush],
        groups: Sequence[Sequence[Tail]],
        most: int,
    ) -> None:
        """Read events for groups of tails that have a filter each."""
        self.asking = [tail for group in groups for tail in group]
        taken = _Taken(self._encode, len(groups), self._room_bytes)
        now = time.monotonic()
        filters = [(group[0].conditions, _wanted(group, now)) for group in groups]
        counts = await self._events.read(connection, flushes, filters, most, taken)
        self.asking = ()
        self._allowance.use(taken.encoded)
        for group, events, count in zip(groups, taken.events, counts, strict=True):
            self.found.append(Found(group, events, max(0, count - len(events))))


class _Taken:
    """Takes events for several filters, encodes each once, and holds as much as a buffer would.

    Attributes:
        events: For each filter.
        encoded: How many there are of them.
    """

    def __init__(self, encode: Callable[[Row], bytes], filters: int, room_bytes: int) -> None:
        self._encode = encode
        self._room = [room_bytes] * filters
        self._full: set[int] = set()
        self.events: list[list[bytes]] = [[] for _ in range(filters)]
        self.encoded = 0

    def add(self, row: Row, filters: Sequence[int]) -> None:
        """Take an event for the filters that take it, as far as there is room."""
        waiting = [place for place in filters if place not in self._full]
        if not waiting:
            return
        event = self._encode(row)
        self.encoded += 1
        size = len(event) + FRAME_BYTES
        for place in waiting:
            if self.events[place] and size > self._room[place]:
                self._full.add(place)
                continue
            self._room[place] -= size
            self.events[place].append(event)

    def has_room(self, filters: Sequence[int]) -> bool:
        """Tell whether there is room for any of these filters."""
        return not self._full.issuperset(filters)


def _wanted(tails: Sequence[Tail], now: float) -> int | None:
    """Give how many events there is use for in any of some buffers; None: as their room has it."""
    most = 0
    for tail in tails:
        of_one = tail.buffer.most_events(now)
        if of_one is None:
            return None
        most = max(most, of_one)
    return most


def _parts(groups: list[list[Tail]], most: int) -> Iterator[tuple[list[list[Tail]], int]]:
    """Cut groups into parts of some, each with how many groups are left with its own."""
    for place in range(0, len(groups), most):
        yield groups[place : place + most], len(groups) - place
