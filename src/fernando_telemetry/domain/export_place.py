"""Places in an export, and the tokens that name them.

Records leave in one of two orders. What is selected by time, and all that is stored when an export
begins from nothing, goes by time; it holds what a cursor taken at its start has consumed, so that
an export of what came later goes on behind that cursor. What came after a cursor goes by flush.

A token at the end of an export is a cursor as domain/cursor.py writes it. One in its middle also
names the last record given, and is bound to the export's kind and filter.
"""

from __future__ import annotations

import hashlib
import struct
from dataclasses import dataclass
from typing import Final
from uuid import UUID

from fernando_telemetry.domain.cursor import (
    CURSOR_VERSION,
    Cursor,
    damaged,
    pack_cursor,
    read_bytes,
    read_cursor,
    unpack_cursor,
    write_cursor,
)
from fernando_telemetry.domain.errors import CursorInvalid, InvalidTimeRange
from fernando_telemetry.domain.paging import KeyType, Position, pack_value, unpack_value
from fernando_telemetry.domain.time_range import TimeRange
from fernando_telemetry.domain.token_text import to_text

FIELD: Final = "after_token"
RANGE_VERSION: Final = 2
FLUSH_VERSION: Final = 5
_DIGEST_BYTES: Final = 8


@dataclass(frozen=True, slots=True)
class Last:
    """The last record that was given.

    Args:
        keys: Its values of the order's keys.
        count: How many records equal in all of them were given: samples have no identity.
    """

    keys: Position
    count: int = 1


@dataclass(frozen=True, slots=True)
class RangePlace:
    """A place in records of a time range.

    Args:
        cursor: The range holds what this cursor has consumed.
        time_range: On the time of the records.
        last: None: at the start.
    """

    cursor: Cursor
    time_range: TimeRange
    last: Last | None = None


@dataclass(frozen=True, slots=True)
class FlushPlace:
    """A place in a flush: behind its record `last`, which begins with the flush's id.

    Args:
        cursor: All before the flush is consumed.
        last: The record.
        expired: Records that were found to be gone before it, since the export's beginning.
        given: Records of the flush that were given, `last` included.
    """

    cursor: Cursor
    last: Last
    expired: int = 0
    given: int = 0

    @property
    def flush_id(self) -> int:
        """The flush."""
        flush_id: int = self.last.keys[0]
        return flush_id


Place = Cursor | RangePlace | FlushPlace


@dataclass(frozen=True, slots=True)
class ExportTokens:
    """Writes and reads the tokens of one export.

    Args:
        installation_id: Whose data it is.
        kind: Word of the kind of records.
        filter: As the caller gave it.
        range_keys: Types of the keys of records by time.
        flush_keys: Types of the keys of records by flush.
    """

    installation_id: UUID
    kind: str
    filter: str
    range_keys: tuple[KeyType, ...]
    flush_keys: tuple[KeyType, ...]

    def write(self, place: Place) -> str:
        """Give the token of a place."""
        match place:
            case Cursor():
                return write_cursor(place, self.installation_id)
            case RangePlace(cursor=cursor, time_range=span, last=last):
                version = RANGE_VERSION
                packed = _sized(cursor) + _times(span) + _packed(last, self.range_keys)
            case FlushPlace(cursor=cursor, last=last, expired=expired, given=given):
                version = FLUSH_VERSION
                counts = pack_value("int8", expired) + pack_value("int8", given)
                packed = _sized(cursor) + counts + _packed(last, self.flush_keys)
        return to_text(bytes([version]) + self._digest(version, packed) + packed)

    def read(self, token: str) -> Place:
        """Give the place that a token names.

        Raises:
            CursorInvalid: It is damaged, or of another installation, kind or filter.
        """
        raw = read_bytes(token, FIELD)
        version = raw[0] if raw else 0
        if version == CURSOR_VERSION:
            return read_cursor(token, self.installation_id, FIELD)
        digest, packed = raw[1 : 1 + _DIGEST_BYTES], raw[1 + _DIGEST_BYTES :]
        if version not in (RANGE_VERSION, FLUSH_VERSION):
            raise damaged(FIELD)
        if digest != self._digest(version, packed):
            raise CursorInvalid(
                FIELD,
                "it is damaged, or of another installation, kind or filter: a stream that was cut "
                "goes on with the kind and the filter it had.",
            )
        try:
            return self._unpacked(version, packed)
        except (struct.error, ValueError, OverflowError, InvalidTimeRange):
            raise damaged(FIELD) from None

    def _unpacked(self, version: int, packed: bytes) -> Place:
        (size,) = struct.unpack(">I", packed[:4])
        cursor, rest = unpack_cursor(packed[4 : 4 + size]), packed[4 + size :]
        if version == FLUSH_VERSION:
            expired, rest = unpack_value("int8", rest)
            given, rest = unpack_value("int8", rest)
            found = _unpacked(rest, self.flush_keys)
            if found is None or expired < 0 or given < 0:
                raise ValueError("no record")
            return FlushPlace(cursor, found, expired, given)
        start, rest = unpack_value("time", rest)
        end, rest = unpack_value("time", rest)
        return RangePlace(cursor, TimeRange(start, end), _unpacked(rest, self.range_keys))

    def _digest(self, version: int, packed: bytes) -> bytes:
        bound = repr((version, self.kind, self.filter)).encode("utf-8", "surrogatepass")
        return hashlib.blake2b(
            self.installation_id.bytes + len(bound).to_bytes(4, "big") + bound + packed,
            digest_size=_DIGEST_BYTES,
            person=b"export",
        ).digest()


def _sized(cursor: Cursor) -> bytes:
    packed = pack_cursor(cursor)
    return struct.pack(">I", len(packed)) + packed


def _times(span: TimeRange) -> bytes:
    return pack_value("time", span.start) + pack_value("time", span.end)


def _packed(last: Last | None, types: tuple[KeyType, ...]) -> bytes:
    if last is None:
        return b""
    keys = zip(types, last.keys, strict=True)
    return pack_value("int8", last.count) + b"".join(pack_value(kind, key) for kind, key in keys)


def _unpacked(packed: bytes, types: tuple[KeyType, ...]) -> Last | None:
    if not packed:
        return None
    count, rest = unpack_value("int8", packed)
    keys = []
    for kind in types:
        value, rest = unpack_value(kind, rest)
        keys.append(value)
    if rest or count < 1:
        raise ValueError("not a record's place")
    return Last(tuple(keys), count)
