"""Pages of a list (AIP-158): sizes, orders, and the tokens that say where a page ended.

A list has a total order, its keyset, and a token holds the keys of the last row given, so rows
that come or go between two pages neither shift nor repeat the others. A token belongs to one
method with one set of arguments: a digest over them and the keys, checked before anything of the
token is used, refuses damaged tokens and those of other requests alike. It is no secret: it
guards against mistakes, and what a forger can name are rows that a list would give anyway.
"""

from __future__ import annotations

import hashlib
import struct
from dataclasses import dataclass
from datetime import timedelta
from typing import Any, Final, Literal, assert_never
from uuid import UUID

from fernando_telemetry.domain.calendar import EPOCH, MICROSECOND
from fernando_telemetry.domain.errors import InvalidField, InvalidPageToken
from fernando_telemetry.domain.limits import PAGE_SIZE_DEFAULT, PAGE_SIZE_MAXIMUM
from fernando_telemetry.domain.token_text import to_bytes, to_text

KeyType = Literal["time", "uuid", "int4", "int8", "float8", "text", "bytes"]
# The values of a list's keyset, in its order: datetime, UUID, int, float, str or bytes each.
Position = tuple[Any, ...]

TOKEN_VERSION: Final = 1
# A trace's token names a flush of each lane that its spans are of: up to 1,000 of 8 bytes.
TOKEN_CHARACTERS: Final = 12_288
_DIGEST_BYTES: Final = 16
_TEXT_BYTES: Final = 512

_DAMAGED: Final = (
    "page_token is damaged or belongs to a request with other arguments; "
    "give the next_page_token of the page before, with the same arguments except page_size."
)


def page_size(requested: int) -> int:
    """Give the number of records a page may hold: 0 is 100, more than 1,000 is 1,000.

    Raises:
        InvalidField: It is negative.
    """
    if requested < 0:
        raise InvalidField("page_size", f"{requested} is negative; 0 means {PAGE_SIZE_DEFAULT}.")
    return min(requested, PAGE_SIZE_MAXIMUM) or PAGE_SIZE_DEFAULT


def is_descending(order_by: str, column: str) -> bool:
    """Tell a list's direction from its order_by; newest first by default.

    Args:
        order_by: As the caller wrote it.
        column: The one column the list may be ordered by.

    Raises:
        InvalidField: It is neither "", `column` nor `column desc`.
    """
    words = order_by.split()
    if words in ([], [column, "desc"]):
        return True
    if words == [column]:
        return False
    raise InvalidField("order_by", f'allowed are "{column} desc" (the default) and "{column}".')


@dataclass(frozen=True, slots=True)
class PageTokens:
    """Writes and reads the tokens of one request.

    Args:
        keys: Types of the list's keyset, in its order.
        method: The method's name.
        arguments: All arguments that decide what the list holds, in a fixed order; their repr is
            what is compared.
    """

    keys: tuple[KeyType, ...]
    method: str
    arguments: tuple[object, ...]

    def write(self, position: Position | None) -> str:
        """Give the token of a page that ended at `position`; "" for the last page."""
        if position is None:
            return ""
        packed = b"".join(
            pack_value(kind, value) for kind, value in zip(self.keys, position, strict=True)
        )
        token = bytes([TOKEN_VERSION]) + self._digest(packed) + packed
        return to_text(token)

    def read(self, token: str) -> Position | None:
        """Give the position a token names; None for "", the first page.

        Raises:
            InvalidPageToken: It is damaged, or of another request.
        """
        if not token:
            return None
        if len(token) > TOKEN_CHARACTERS:
            raise InvalidPageToken(_DAMAGED)
        try:
            raw = to_bytes(token)
        except ValueError:
            raise InvalidPageToken(_DAMAGED) from None
        if raw[:1] != bytes([TOKEN_VERSION]):
            raise InvalidPageToken(
                "page_token is damaged or of another version of the server; "
                "begin again with the first page."
            )
        digest, packed = raw[1 : 1 + _DIGEST_BYTES], raw[1 + _DIGEST_BYTES :]
        if digest != self._digest(packed):
            raise InvalidPageToken(_DAMAGED)
        try:
            return self._unpack(packed)
        except (struct.error, ValueError, OverflowError):
            raise InvalidPageToken(_DAMAGED) from None

    def _digest(self, packed: bytes) -> bytes:
        arguments = repr((self.method, self.arguments)).encode("utf-8", "surrogatepass")
        bound = len(arguments).to_bytes(4, "big") + arguments + packed
        return hashlib.blake2b(bound, digest_size=_DIGEST_BYTES).digest()

    def _unpack(self, packed: bytes) -> Position:
        values = []
        rest = packed
        for kind in self.keys:
            value, rest = unpack_value(kind, rest)
            values.append(value)
        if rest:
            raise ValueError("more bytes than keys")
        return tuple(values)


def pack_value(kind: KeyType, value: Any) -> bytes:
    """Give the bytes of a keyset's value."""
    match kind:
        case "time":
            return struct.pack(">q", (value - EPOCH) // MICROSECOND)
        case "uuid":
            packed: bytes = value.bytes
            return packed
        case "int4":
            return struct.pack(">i", value)
        case "int8":
            return struct.pack(">q", value)
        case "float8":
            return struct.pack(">d", value)
        case "text":
            text: bytes = value.encode("utf-8")
            return struct.pack(">H", len(text)) + text
        case "bytes":
            return struct.pack(">H", len(value)) + bytes(value)
        case _:
            assert_never(kind)


def unpack_value(kind: KeyType, packed: bytes) -> tuple[Any, bytes]:
    """Give the value that bytes begin with, and the rest of them.

    Raises:
        ValueError, struct.error, OverflowError: They do not begin with one.
    """
    match kind:
        case "time":
            (micros,) = struct.unpack(">q", packed[:8])
            return EPOCH + timedelta(microseconds=micros), packed[8:]
        case "uuid":
            return UUID(bytes=packed[:16]), packed[16:]
        case "int4":
            return struct.unpack(">i", packed[:4])[0], packed[4:]
        case "int8":
            return struct.unpack(">q", packed[:8])[0], packed[8:]
        case "float8":
            return struct.unpack(">d", packed[:8])[0], packed[8:]
        case "text":
            (length,) = struct.unpack(">H", packed[:2])
            text = packed[2 : 2 + length].decode("utf-8")
            if length > _TEXT_BYTES or len(packed) < 2 + length or "\0" in text:
                raise ValueError("not a text that could have been given")
            return text, packed[2 + length :]
        case "bytes":
            (length,) = struct.unpack(">H", packed[:2])
            if len(packed) < 2 + length:
                raise ValueError("fewer bytes than were packed")
            return packed[2 : 2 + length], packed[2 + length :]
        case _:
            assert_never(kind)
