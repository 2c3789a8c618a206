"""The cursor over committed data: a vector of lanes, with no clock in it.

Lanes become visible in the order of their numbers, and within a lane what is visible is complete.
So a reader that knows the highest lane it has heard of, and how far it has come in each lane that
is not yet closed *and* consumed, sees every flush once: any other lane at or below that number
counts as consumed. Order between lanes is arrival.

A lane is closed when it is known to be dead: its last number is then known too
(docs/decisions/0006-cursors.md).
"""

from __future__ import annotations

import hashlib
import struct
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from types import MappingProxyType
from typing import Final
from uuid import UUID

from fernando_telemetry.domain.errors import CursorInvalid
from fernando_telemetry.domain.flush_ids import (
    LAST_LANE,
    NUMBER_MASK,
    flush_id_of,
    lane_of,
    number_of,
)
from fernando_telemetry.domain.token_text import to_bytes, to_text

CURSOR_VERSION: Final = 1
# 16 lanes of 100 servers make 26 kB; more than this was never given.
CURSOR_CHARACTERS: Final = 256 * 1024
_DIGEST_BYTES: Final = 8
_DAMAGED: Final = "it is damaged, or of another installation or version of the server; begin anew."


@dataclass(frozen=True, slots=True)
class LaneState:
    """What a snapshot shows of a lane.

    Args:
        lane: Its number.
        last_number: Last committed flush, once the lane is known to be dead.
        pruned_through: Flushes at or below this number have left the table `flushes`.
    """

    lane: int
    last_number: int | None
    pruned_through: int

    def is_consumed_at(self, number: int) -> bool:
        """Tell whether nothing will ever follow this position."""
        return self.last_number is not None and number >= self.last_number


@dataclass(frozen=True, slots=True)
class Cursor:
    """A place in the committed data of one installation.

    Args:
        known_lane: Highest lane number heard of; 0: none.
        positions: Number of the last consumed flush by lane (0: none yet), for lanes that are not
            both closed and consumed.
    """

    known_lane: int = 0
    positions: Mapping[int, int] = field(default_factory=dict)

    def __post_init__(self) -> None:
        object.__setattr__(self, "positions", MappingProxyType(dict(self.positions)))

    def has_consumed(self, flush_id: int) -> bool:
        """Tell whether a flush lies before the cursor."""
        lane = lane_of(flush_id)
        return not self.looks_at(lane) or number_of(flush_id) <= self.position(lane)

    def covers(self, other: Cursor) -> bool:
        """Tell whether all that another cursor has consumed is consumed here."""
        return self.known_lane >= other.known_lane and all(
            other.looks_at(lane) and number >= other.position(lane)
            for lane, number in self.positions.items()
        )

    def looks_at(self, lane: int) -> bool:
        """Tell whether flushes of this lane may be to come."""
        return lane > self.known_lane or lane in self.positions

    def position(self, lane: int) -> int:
        """Give the last consumed number of a lane that may have more to come."""
        return self.positions.get(lane, 0)

    def is_lost_in(self, lanes: Iterable[LaneState]) -> bool:
        """Tell whether flushes behind the cursor have been pruned unread."""
        return any(
            state.pruned_through > self.position(state.lane)
            for state in lanes
            if self.looks_at(state.lane)
        )

    def advanced(self, lanes: Iterable[LaneState], consumed: Iterable[int]) -> Cursor:
        """Give the cursor behind a step.

        Args:
            lanes: All lanes of the step's snapshot that this cursor looks at.
            consumed: The flushes taken: of each lane a run of what the snapshot shows, beginning
                with the first behind the cursor.
        """
        known = self.known_lane
        positions = dict(self.positions)
        states = [state for state in lanes if self.looks_at(state.lane)]
        for state in states:
            known = max(known, state.lane)
            positions.setdefault(state.lane, 0)
        for flush_id in consumed:
            lane, number = lane_of(flush_id), number_of(flush_id)
            assert number > positions[lane], f"flush {flush_id:x} is behind the cursor"
            positions[lane] = number
        for state in states:
            if state.is_consumed_at(positions[state.lane]):
                del positions[state.lane]
        return Cursor(known, positions)

    def after_ids(self, lanes: Iterable[LaneState]) -> list[int]:
        """Give for each lane with more to come the flush id that the next ones are above."""
        return [
            flush_id_of(state.lane, self.position(state.lane))
            for state in lanes
            if self.looks_at(state.lane) and not state.is_consumed_at(self.position(state.lane))
        ]


def cursor_at(lanes: Iterable[LaneState], positions: Mapping[int, int]) -> Cursor:
    """Give the cursor that has consumed each lane up to a number.

    Args:
        lanes: All lanes of a snapshot.
        positions: By lane; one that is not in it was consumed up to nothing.
    """
    known, left = 0, {}
    for state in lanes:
        known = max(known, state.lane)
        number = positions.get(state.lane, 0)
        if not state.is_consumed_at(number):
            left[state.lane] = number
    return Cursor(known, left)


def write_cursor(cursor: Cursor, installation_id: UUID) -> str:
    """Give a cursor as text: URL-safe, of this version, bound to the installation.

    The digest guards against mistakes, not against forgers: a cursor gives no rights.
    """
    packed = pack_cursor(cursor)
    raw = bytes([CURSOR_VERSION]) + _digest(packed, installation_id) + packed
    return to_text(raw)


def pack_cursor(cursor: Cursor) -> bytes:
    """Give a cursor's bytes: 4, and 12 for each of its positions."""
    return struct.pack(">I", cursor.known_lane) + b"".join(
        struct.pack(">IQ", lane, number) for lane, number in sorted(cursor.positions.items())
    )


def read_cursor(text: str, installation_id: UUID, field_name: str = "cursor") -> Cursor:
    """Give the cursor that a text stands for.

    Args:
        text: As `write_cursor` gave it.
        installation_id: Whose data is read.
        field_name: Where the caller gave it, for the error.

    Raises:
        CursorInvalid: It is damaged, or of another installation or version.
    """
    raw = read_bytes(text, field_name)
    version, digest, packed = raw[:1], raw[1 : 1 + _DIGEST_BYTES], raw[1 + _DIGEST_BYTES :]
    if version != bytes([CURSOR_VERSION]) or digest != _digest(packed, installation_id):
        raise damaged(field_name)
    try:
        return unpack_cursor(packed)
    except (struct.error, ValueError):
        raise damaged(field_name) from None


def read_bytes(text: str, field_name: str) -> bytes:
    """Give the bytes of a cursor's text.

    Raises:
        CursorInvalid: No cursor has such a text.
    """
    if len(text) > CURSOR_CHARACTERS:
        raise damaged(field_name)
    try:
        return to_bytes(text)
    except ValueError:
        raise damaged(field_name) from None


def damaged(field_name: str) -> CursorInvalid:
    """Give the error for a text that no cursor of this installation has."""
    return CursorInvalid(field_name, _DAMAGED)


def unpack_cursor(packed: bytes) -> Cursor:
    """Give the cursor of its bytes.

    Raises:
        ValueError: They are of none that could have been given.
        struct.error: They are cut.
    """
    (known,) = struct.unpack(">I", packed[:4])
    pairs = list(struct.iter_unpack(">IQ", packed[4:]))
    positions = dict(pairs)
    if (
        known > LAST_LANE
        or len(positions) != len(pairs)
        or not all(0 < lane <= known and number <= NUMBER_MASK for lane, number in pairs)
    ):
        raise ValueError("no cursor that could have been given")
    return Cursor(known, positions)


def _digest(packed: bytes, installation_id: UUID) -> bytes:
    return hashlib.blake2b(
        installation_id.bytes + packed, digest_size=_DIGEST_BYTES, person=b"cursor"
    ).digest()
