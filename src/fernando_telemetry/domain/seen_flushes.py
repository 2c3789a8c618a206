"""What a reader of a few rows has seen: of each lane the last flush that has one of them.

A lane's flushes show in its order, so a row of these lanes up to those flushes was there at the
first look, and any other row came later. It is a cursor (domain/cursor.py) that leaves out what
has no such row, and so has room in a page token.
"""

from __future__ import annotations

import struct
from collections.abc import Iterable
from dataclasses import dataclass

from fernando_telemetry.domain.flush_ids import lane_of

_FLUSH = struct.Struct(">q")


@dataclass(frozen=True, slots=True)
class SeenFlushes:
    """The last flush of each lane."""

    of_lanes: dict[int, int]

    @classmethod
    def of(cls, flush_ids: Iterable[int]) -> SeenFlushes:
        """Take note of the flushes of all rows there are."""
        last: dict[int, int] = {}
        for flush_id in flush_ids:
            lane = lane_of(flush_id)
            last[lane] = max(last.get(lane, flush_id), flush_id)
        return cls(last)

    def has(self, flush_id: int) -> bool:
        """Tell whether a flush that has one of the rows was there."""
        return flush_id <= self.of_lanes.get(lane_of(flush_id), -1)

    def packed(self) -> bytes:
        """Give it as bytes."""
        return b"".join(_FLUSH.pack(flush_id) for flush_id in sorted(self.of_lanes.values()))

    @classmethod
    def unpacked(cls, packed: bytes) -> SeenFlushes:
        """Give what `packed` wrote.

        Raises:
            struct.error: It is no whole number of flushes.
        """
        return cls.of(flush_id for (flush_id,) in _FLUSH.iter_unpack(packed))
