"""Spoils serialised batches: at the bytes, and at the structure of protobuf's wire format.

`mutated(seed_batches(...), chance)` gives the bytes of one spoilt TelemetryRecords; equal seeds and
an equally seeded `chance` give equal bytes. Changes of bytes seldom get past the parser; changes
of structure keep lengths right on the way down, so they reach fields, maps and packed columns.
"""

from __future__ import annotations

import random
from collections.abc import Callable, Sequence
from typing import Final, NamedTuple

from tests.integration.ingest.records import field, varint

VARINT, FIXED64, LENGTH, FIXED32 = 0, 1, 2, 5
DEEPEST: Final = 5
MOST_CHANGES: Final = 3
CHUNK_BYTES: Final = 40

INTERESTING_BYTES: Final = (0x00, 0x01, 0x7F, 0x80, 0xC0, 0xED, 0xFE, 0xFF)
# Numbers at the edges of their types, and encodings that are longer than any number.
VARINTS: Final = (
    *(varint(number) for number in (0, 1, 127, 128, 2**31 - 1, 2**31, 2**32, 2**63, 2**64 - 1)),
    b"\x80" * 9 + b"\x01",
    b"\xff" * 10 + b"\x01",
    b"\x80\x80\x80\x00",
    b"\xff" * 12,
)
CONTENTS: Final = (
    *(b"", b"\0", b"a\0b", b"\xff", b"\xc3", b"\xed\xa0\x80", b"\xf4\x90\x80\x80", b"\xc0\x80"),
    *(b"x" * 257, b"{", b'{"a":1,"a":2}', b'{"a": 1e400}', rb'"\ud800"', b"NaN", b"1e5", b"-0.00"),
    *(b"EUR", b"UTC", b"0" * 32, b"fe80::1%eth0", b"1.2.3.4"),
    *(b"\xff" * 8, b"\0\0\0\0\0\0\xf8\x7f", b"\0\0\0\0\0\0\xf0\x7f", b"\1\0\0\0\0\0\0\0"),
)


class Field(NamedTuple):
    """One field on the wire: its number and type, and its bytes without the tag.

    `content` of a length-delimited field lacks its length; that of others is the value's bytes.
    """

    number: int
    wire_type: int
    content: bytes

    def encoded(self) -> bytes:
        """Give the field with its tag."""
        if self.wire_type == LENGTH:
            return field(self.number, self.content)
        return varint(self.number << 3 | self.wire_type) + self.content


def _varint_at(data: bytes, place: int) -> tuple[int, int]:
    """Read a number; gives it and the place behind it.

    Raises:
        ValueError: There is none.
    """
    value = shift = 0
    while place < len(data) and shift < 70:
        byte = data[place]
        place += 1
        value |= (byte & 0x7F) << shift
        if byte < 0x80:
            return value, place
        shift += 7
    raise ValueError("no varint")


def parsed(data: bytes) -> list[Field] | None:
    """Split a message into its fields; None where the bytes are no message."""
    fields = []
    place = 0
    try:
        while place < len(data):
            tag, place = _varint_at(data, place)
            wire_type = tag & 7
            start = place
            match wire_type:
                case 0:
                    _, place = _varint_at(data, place)
                case 1:
                    place += 8
                case 2:
                    size, start = _varint_at(data, place)
                    place = start + size
                case 5:
                    place += 4
                case _:
                    return None
            if place > len(data) or not tag >> 3:
                return None
            fields.append(Field(tag >> 3, wire_type, data[start:place]))
    except ValueError:
        return None
    return fields


def joined(fields: Sequence[Field]) -> bytes:
    """Put fields together again."""
    return b"".join([one.encoded() for one in fields])


# At the bytes ---------------------------------------------------------------------------------


def _flip(data: bytearray, chance: random.Random) -> None:
    if data:
        data[chance.randrange(len(data))] ^= 1 << chance.randrange(8)


def _set(data: bytearray, chance: random.Random) -> None:
    if data:
        data[chance.randrange(len(data))] = chance.choice(INTERESTING_BYTES)


def _cut_off(data: bytearray, chance: random.Random) -> None:
    del data[chance.randrange(len(data) + 1) :]


def _take_out(data: bytearray, chance: random.Random) -> None:
    place = chance.randrange(len(data) + 1)
    del data[place : place + chance.randrange(1, CHUNK_BYTES)]


def _put_in(data: bytearray, chance: random.Random) -> None:
    place = chance.randrange(len(data) + 1)
    data[place:place] = chance.choice([chance.randbytes(chance.randrange(1, 9)), *VARINTS])


def _double(data: bytearray, chance: random.Random) -> None:
    start = chance.randrange(len(data) + 1)
    chunk = data[start : start + chance.randrange(1, CHUNK_BYTES)]
    place = chance.randrange(len(data) + 1)
    data[place:place] = chunk


BYTES: Final[tuple[Callable[[bytearray, random.Random], None], ...]] = (
    _flip,
    _set,
    _cut_off,
    _take_out,
    _put_in,
    _double,
)


def _of_bytes(data: bytes, chance: random.Random) -> bytes:
    changed = bytearray(data)
    chance.choice(BYTES)(changed, chance)
    return bytes(changed)


# At the structure -----------------------------------------------------------------------------


def _repeat(fields: list[Field], place: int, chance: random.Random) -> None:
    """The same field once more, here or at the end: the last one wins, or both count."""
    at = chance.choice([place, len(fields)])
    fields[at:at] = [fields[place]] * chance.choice([1, 1, 2, 20])


def _remove(fields: list[Field], place: int, chance: random.Random) -> None:
    del fields[place : place + chance.choice([1, 1, 3])]


def _swap(fields: list[Field], place: int, chance: random.Random) -> None:
    other = chance.randrange(len(fields))
    fields[place], fields[other] = fields[other], fields[place]


def _renumber(fields: list[Field], place: int, chance: random.Random) -> None:
    number = chance.choice([1, 2, 3, 4, 5, 10, 15, 16, 200, 2**29 - 1, chance.randrange(1, 40)])
    fields[place] = fields[place]._replace(number=number)


def _retype(fields: list[Field], place: int, chance: random.Random) -> None:
    """Another wire type, with bytes of its length: parsers take it for an unknown field."""
    number = fields[place].number
    wire_type = chance.choice([VARINT, FIXED64, LENGTH, FIXED32])
    content = {
        VARINT: chance.choice(VARINTS),
        FIXED64: chance.randbytes(8),
        LENGTH: chance.choice(CONTENTS),
        FIXED32: chance.randbytes(4),
    }[wire_type]
    fields[place] = Field(number, wire_type, content)


def _value(fields: list[Field], place: int, chance: random.Random) -> None:
    """Another value of the same type, often one at an edge."""
    one = fields[place]
    match one.wire_type:
        case 0:
            content = chance.choice(VARINTS)
        case 2:
            content = chance.choice([chance.choice(CONTENTS), _of_bytes(one.content, chance)])
        case _:
            size = len(one.content)
            content = chance.choice([chance.randbytes(size), b"\xff" * size, b"\0" * size])
    fields[place] = one._replace(content=content)


def _split(fields: list[Field], place: int, chance: random.Random) -> None:
    """One message as two of its number: the two merged, which is the same, or two elements."""
    one = fields[place]
    inner = parsed(one.content) if one.wire_type == LENGTH else None
    if inner:
        middle = chance.randrange(len(inner) + 1)
        halves = joined(inner[:middle]), joined(inner[middle:])
        fields[place : place + 1] = [one._replace(content=half) for half in halves]


def _unpack(fields: list[Field], place: int, chance: random.Random) -> None:
    """Packed numbers one by one, or those of another width: parsers take both."""
    one = fields[place]
    if one.wire_type != LENGTH:
        fields[place] = Field(one.number, LENGTH, one.content)
        return
    width = chance.choice([1, 8, 4])
    wire_type = {1: VARINT, 8: FIXED64, 4: FIXED32}[width]
    pieces = [one.content[at : at + width] for at in range(0, len(one.content), width)][:100]
    fields[place : place + 1] = [
        Field(one.number, wire_type, piece) for piece in pieces if len(piece) == width
    ]


STRUCTURE: Final[tuple[Callable[[list[Field], int, random.Random], None], ...]] = (
    _repeat,
    _remove,
    _swap,
    _renumber,
    _retype,
    _value,
    _value,
    _split,
    _unpack,
)


def _of_structure(data: bytes, chance: random.Random, depth: int = 0) -> bytes:
    fields = parsed(data)
    if not fields:
        return _of_bytes(data, chance)
    place = chance.randrange(len(fields))
    one = fields[place]
    if one.wire_type == LENGTH and one.content and depth < DEEPEST and chance.random() < 0.75:
        inner = parsed(one.content)
        if inner:
            content = _of_structure(one.content, chance, depth + 1)
            fields[place] = one._replace(content=content)
            return joined(fields)
    chance.choice(STRUCTURE)(fields, place, chance)
    return joined(fields)


def _spliced(seeds: Sequence[bytes], data: bytes, chance: random.Random) -> bytes:
    """The start of one batch and the end of another, cut anywhere or between fields."""
    other = chance.choice(seeds)
    if chance.random() < 0.5:
        return data[: chance.randrange(len(data) + 1)] + other[chance.randrange(len(other) + 1) :]
    first, second = parsed(data), parsed(other)
    if not first or not second:
        return data + other
    start, end = chance.randrange(len(first) + 1), chance.randrange(len(second) + 1)
    return joined(first[:start]) + joined(second[end:])


def mutated(seeds: Sequence[bytes], chance: random.Random) -> bytes:
    """Give a spoilt batch.

    Args:
        seeds: Serialised TelemetryRecords, such as `seed_batches` gives.
        chance: Source of every choice.
    """
    data = chance.choice(seeds)
    for _ in range(chance.randint(1, MOST_CHANGES)):
        kind = chance.random()
        if kind < 0.65:
            data = _of_structure(data, chance)
        elif kind < 0.9:
            data = _of_bytes(data, chance)
        else:
            data = _spliced(seeds, data, chance)
    return data
