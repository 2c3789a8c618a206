r"""The signature of a batch's content: what two encodings of the same records have in common.

It stands in marks for as long as they are kept, so its formula is durable: a change of it, or of
the fields that it covers, needs another `VERSION`.

    signature = first 16 bytes of SHA-256 over the sections, in the order of field numbers

A section is one field of all records of one kind, and one that is unset in every record has none.
All numbers are little-endian.

    section = kind u16, path 3 x u16, form 4 bytes, N u64, content
    kind    field number in TelemetryRecords: events 1, system_metrics 2, business_metrics 3,
            spans 4, metric_columns 5
    path    field numbers from the record down to the field, then zeros
    N       records, or elements of the list that the field belongs to

| form | content |
|---|---|
| `text` | N x bytes of the text, i32; then the bytes of all texts, one behind the other |
| `<f8`, `<i8`, `<u8`, `<i4`, `<u4`, `\\|u1` | N values in this form; 0 where unset |
| the same with `?` behind it | N x presence, u8; then the N values |
| `map` | the sum below, u64 |

A Timestamp `t` has the sections t (`|u1`, presence), t.seconds (`<i8`) and t.nanos (`<i4`), a
single message likewise its presence and its fields. A repeated field has a section with the
lengths of its lists (`<i4`), then the sections of its elements, all lists one behind the other.
`metric_columns` is one record, and its columns of numbers have no lengths: they are the samples,
whose count the mark has beside the signature.

Maps are sums, so that their order does not matter: of all entries of all records, mod 2^64,

    entry   = mix(mix(mix(h(key)) + h(value)) + 0x9E3779B97F4A7C15 x place of the record)
    h(text) = bytes L x 0xD6E8FEB86659FD93 + Σ (byte i + 1) x 0x2545F4914F6CDD1D^i   where L ≤ 1,024
              first 8 bytes of SHA-256, as u64, where it is longer
    mix     = finaliser of splitmix64

Of a key that comes twice in one record the last entry counts, as in protobuf. The sum is no
defence against somebody who looks for a collision: it tells mistakes, not attacks, and what it
misses costs the sender one batch of its own.

Both write paths feed the same sections: content_messages.py from messages, columnar/content.py
from Arrow columns.
"""

from __future__ import annotations

import hashlib
import struct
import sys
from typing import Any, Final

import numpy as np

from fernando_telemetry.domain.digests import SIGNATURE_BYTES

# Rises with the set of fields that are covered; a test pins the set.
VERSION: Final = 1

Array = np.ndarray[Any, Any]
Bytes = np.ndarray[Any, np.dtype[np.uint8]]
Words = np.ndarray[Any, np.dtype[np.uint64]]

_BIG_ENDIAN: Final = sys.byteorder == "big"
_SECTION: Final = struct.Struct("<4H4sQ")
_LONGEST_SUMMED: Final = 1_024
_CHUNK_BYTES: Final = 32 * 1_024
_BASE: Final = 0x2545F4914F6CDD1D
_LENGTH_FACTOR: Final = np.uint64(0xD6E8FEB86659FD93)
_PLACE_FACTOR: Final = np.uint64(0x9E3779B97F4A7C15)


def _powers(base: int) -> Words:
    powers = np.full(_CHUNK_BYTES + _LONGEST_SUMMED, base, np.uint64)
    powers[0] = 1
    return np.cumprod(powers, dtype=np.uint64)


_POWERS: Final = _powers(_BASE)
# The base is odd, so it has an inverse: a text's sum is moved back to power 0 by it.
_INVERSE_POWERS: Final = _powers(pow(_BASE, -1, 1 << 64))


class ContentHash:
    """Takes the sections of one batch, in the order of their field numbers."""

    def __init__(self) -> None:
        self._hash = hashlib.sha256()
        # Small parts are joined: each update of the hash costs more than a few bytes do.
        self._parts: list[Any] = []
        self._held_bytes = 0

    def signature(self) -> bytes:
        """Give the signature of what was added."""
        self._hash_parts()
        return self._hash.digest()[:SIGNATURE_BYTES]

    def _hash_parts(self) -> None:
        self._hash.update(b"".join(self._parts))
        self._parts.clear()
        self._held_bytes = 0

    def _add(
        self, kind: int, path: tuple[int, ...], form: bytes, count: int, *content: Any
    ) -> None:
        first, second, third = (*path, 0, 0)[:3]
        self._parts += (_SECTION.pack(kind, first, second, third, form, count), *content)
        self._held_bytes += sum(map(len, content))
        if self._held_bytes > _CHUNK_BYTES:
            self._hash_parts()

    def add_texts(self, kind: int, path: tuple[int, ...], lengths: Array, data: Any) -> None:
        """Add a text field.

        Args:
            kind: Field number of the list in TelemetryRecords.
            path: Field numbers, at most 3.
            lengths: Bytes of each text; 0 where it is unset.
            data: The bytes of all texts, contiguous.
        """
        if len(data):
            given = lengths.astype("<i4", copy=False).tobytes()
            self._add(kind, path, b"text", len(lengths), given, data)

    def add_numbers(
        self, kind: int, path: tuple[int, ...], values: Array, present: Array | None = None
    ) -> None:
        """Add a number, enum or bool field.

        Args:
            kind: Field number of the list in TelemetryRecords.
            path: Field numbers, at most 3.
            values: The values in their form of the module's table; any where absent.
            present: Where it is set; None: the field has no presence, and 0 is unset.
        """
        if _BIG_ENDIAN:
            values = values.astype(values.dtype.newbyteorder("<"))
        form = values.dtype.str.encode()
        if present is None:
            content = values.tobytes()
            # By their bytes: -0.0 is not unset.
            if content != bytes(len(content)):
                self._add(kind, path, form, len(values), content)
            return
        given = present.astype(np.uint8, copy=False).tobytes()
        if given != bytes(len(given)):
            if b"\0" in given:
                values = np.where(present, values, np.zeros(1, values.dtype))
            self._add(kind, path, form + b"?", len(values), given, values.tobytes())

    def add_entries(
        self,
        kind: int,
        path: tuple[int, ...],
        counts: Array,
        keys: tuple[Array, Bytes],
        values: tuple[Array, Bytes],
        *,
        unique: bool = False,
    ) -> None:
        """Add a map field.

        Args:
            kind: Field number of the list in TelemetryRecords.
            path: Field numbers, at most 3.
            counts: Entries of each record.
            keys: Bytes of each key, and the bytes of all keys, one behind the other.
            values: Likewise.
            unique: No record has a key twice.
        """
        if not len(keys[0]):
            return
        places = np.repeat(np.arange(len(counts), dtype=np.uint64), counts) * _PLACE_FACTOR
        hashes = _mixed(_text_hashes(*keys))
        entries = _mixed(_mixed(hashes + _text_hashes(*values)) + places)
        if not unique:
            entries = entries[_last_of_each(_mixed(hashes + places))]
        self._add(kind, path, b"map", len(counts), entries.sum(dtype="<u8").tobytes())


def _mixed(words: Words) -> Words:
    """Give the finaliser of splitmix64 of each word."""
    words = (words ^ (words >> np.uint64(30))) * np.uint64(0xBF58476D1CE4E5B9)
    words = (words ^ (words >> np.uint64(27))) * np.uint64(0x94D049BB133111EB)
    return words ^ (words >> np.uint64(31))


def _last_of_each(words: Words) -> Array:
    """Tell which are not followed by an equal one."""
    keep = np.ones(len(words), bool)
    ordered = np.sort(words)
    if (ordered[1:] == ordered[:-1]).any():
        order = np.argsort(words, kind="stable")
        ordered = words[order]
        keep[order[:-1][ordered[1:] == ordered[:-1]]] = False
    return keep


def _text_hashes(lengths: Array, data: Bytes) -> Words:
    """Give h of each text."""
    lengths = lengths.astype(np.int64)
    long = lengths > _LONGEST_SUMMED
    if not long.any():
        return _sums(lengths, data)
    hashes = np.empty(len(lengths), np.uint64)
    hashes[~long] = _sums(lengths[~long], data[np.repeat(~long, lengths)])
    ends = np.cumsum(lengths)
    for place in np.flatnonzero(long):
        text = data[ends[place] - lengths[place] : ends[place]]
        digest = hashlib.sha256(np.ascontiguousarray(text).data).digest()
        hashes[place] = int.from_bytes(digest[:8], "little")
    return hashes


def _sums(lengths: Array, data: Bytes) -> Words:
    """Give h of texts that are not long, a chunk of them at a time."""
    count = len(lengths)
    offsets = np.zeros(count + 1, np.int64)
    np.cumsum(lengths, out=offsets[1:])
    hashes = lengths.astype(np.uint64) * _LENGTH_FACTOR
    first = 0
    while first < count:
        begin = offsets[first]
        last = int(np.searchsorted(offsets, begin + _CHUNK_BYTES, side="right")) - 1
        last = min(max(last, first + 1), count)
        piece = data[begin : offsets[last]]
        sums = np.zeros(len(piece) + 1, np.uint64)
        np.cumsum((piece + np.uint64(1)) * _POWERS[: len(piece)], out=sums[1:])
        starts = offsets[first:last] - begin
        ends = offsets[first + 1 : last + 1] - begin
        hashes[first:last] += (sums[ends] - sums[starts]) * _INVERSE_POWERS[starts]
        first = last
    return hashes
