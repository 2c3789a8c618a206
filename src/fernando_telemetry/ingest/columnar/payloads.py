"""Checks of JSON payloads and string lists, and JSON out of string maps."""

from __future__ import annotations

import re
from typing import Any, Final

import msgspec
import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from fernando_telemetry.domain import limits
from fernando_telemetry.ingest.columnar.texts import (
    Bytes,
    Mask,
    Texts,
    constant,
    list_lengths,
    list_offsets,
    mark_owners,
    nullable,
)

# What msgspec takes and jsonb may not: NUL, and numbers beyond numeric.
_NUL_ESCAPE: Final = "\\u0000"
_LARGE_EXPONENT: Final = "[eE][+-]?[0-9]{4}"
# With an exponent of three digits these still lie below numeric's 16,383 digits behind the point.
_LONG_TEXT: Final = 15_000
_LONG_NUMBER: Final = re.compile(r"[0-9]{15000}")
# The shortest object that nests deeper than allowed has this many bytes.
_SHORTEST_DEEP: Final = 2 * limits.PAYLOAD_DEPTH
_BACKSLASH: Final = 0x5C


class _AnyObject(msgspec.Struct):
    """A JSON object whose members are read over, which checks them without making anything."""


_encode: Final = msgspec.json.Encoder().encode
_decode_object: Final = msgspec.json.Decoder(_AnyObject).decode

_AFTER_E: Final = np.zeros(256, bool)
_AFTER_E[list(b"0123456789+-")] = True

_QUOTE: Final = constant('"')
_COLON: Final = constant(":")
_COMMA: Final = constant(",")
_OPEN: Final = constant("{")
_CLOSE: Final = constant("}")
_EMPTY_OBJECT: Final = constant("{}")
_NOTHING: Final = constant("")


def json_objects(array: pa.Array, suspects: Mask) -> pa.Array:
    """Check a column of JSON objects; "" becomes NULL.

    msgspec is as strict as jsonb about syntax, escapes and surrogates (a test compares them), so
    only what it accepts beyond jsonb is looked for here; suspects go to the record checks.
    """
    texts = Texts.of(array)
    present = texts.lengths > 0
    if not present.any():
        return pa.nulls(len(array), pa.string())
    texts.mark_bad(suspects, limits.PAYLOAD_BYTES)
    data = texts.data
    if (data == _BACKSLASH).any():
        suspects |= pc.match_substring(array, _NUL_ESCAPE).to_numpy(zero_copy_only=False)
    if _has_exponents(data):
        suspects |= pc.match_substring_regex(array, _LARGE_EXPONENT).to_numpy(zero_copy_only=False)
    places = np.flatnonzero(present & ~suspects)
    chosen = array if len(places) == len(array) else array.take(pa.array(places))
    decode = _decode_object
    bad: list[int] = []
    for place, text in enumerate(chosen.to_pylist()):
        try:
            decode(text)
        except (ValueError, RecursionError):
            bad.append(place)
        else:
            if len(text) > _SHORTEST_DEEP and _may_be_too_much(text):
                bad.append(place)
    if bad:
        suspects[places[bad]] = True
    return nullable(array, present)


def _has_exponents(data: Bytes) -> bool:
    """Tell whether an `e` is followed by a digit or a sign anywhere; most payloads have none."""
    places = np.flatnonzero((data[:-1] | 0x20) == ord("e"))
    return bool(_AFTER_E[data[places + 1]].any())


def _may_be_too_much(text: str) -> bool:
    if text.count("{") + text.count("[") > limits.PAYLOAD_DEPTH:
        return True
    return len(text) > _LONG_TEXT and _LONG_NUMBER.search(text) is not None


def string_lists(array: pa.Array, most: int, limit: int, suspects: Mask) -> pa.Array:
    """Check a column of string lists; an empty list becomes NULL."""
    lengths = list_lengths(array)
    present = lengths > 0
    if not present.any():
        return pa.nulls(len(array), array.type)
    suspects |= lengths > most
    _mark_rows(Texts.of(array.flatten()), lengths, limit, suspects)
    return nullable_list(array, present)


def nullable_list(array: Any, present: Mask) -> pa.Array:
    """Give a list column with NULL where it is not present."""
    if present.all():
        return array
    offsets = list_offsets(list_lengths(array))
    return pa.ListArray.from_arrays(
        offsets, array.flatten(), type=array.type, mask=pa.array(~present)
    )


def _mark_rows(items: Texts, lengths: np.ndarray[Any, Any], limit: int, suspects: Mask) -> None:
    """Mark the rows of a list column whose items are too long or hold U+0000."""
    bad = np.zeros(len(items.lengths), bool)
    items.mark_bad(bad, limit)
    mark_owners(bad, lengths, suspects)


def _quoted(array: pa.Array) -> pa.Array:
    """Give texts as JSON strings, without U+0000."""
    data = Texts.of(array).data
    if ((data == 0x22) | (data == 0x5C) | (data < 0x20)).any():
        rendered = [_encode(text).decode() for text in array.to_pylist()]
        return pa.array(rendered, pa.string())
    return pc.binary_join_element_wise(_QUOTE, array, _QUOTE, _NOTHING)


def map_entries(array: Any) -> tuple[pa.Array, pa.Array]:
    """Give the keys and values of a map column, of all rows one behind the other."""
    lengths = list_lengths(array)
    start = int(np.frombuffer(array.buffers()[1], np.int32)[array.offset]) if len(array) else 0
    count = int(lengths.sum())
    return array.keys.slice(start, count), array.items.slice(start, count)


def json_maps(
    array: Any, *, most: int, key_limit: int, value_limit: int, suspects: Mask
) -> pa.Array:
    """Check a column of string maps and give them as JSON objects; an empty map is `{}`.

    A key that comes twice stays twice: jsonb keeps the last, as protobuf does.
    """
    lengths = list_lengths(array)
    if not lengths.any():
        return pa.repeat(_EMPTY_OBJECT, len(array))
    suspects |= lengths > most
    keys, values = map_entries(array)
    key_texts = Texts.of(keys)
    _mark_rows(key_texts, lengths, key_limit, suspects)
    _mark_rows(Texts.of(values), lengths, value_limit, suspects)
    mark_owners(key_texts.lengths == 0, lengths, suspects)
    entries = pc.binary_join_element_wise(_quoted(keys), _quoted(values), _COLON)
    inside = pc.binary_join(pa.ListArray.from_arrays(list_offsets(lengths), entries), _COMMA)
    return pc.binary_join_element_wise(_OPEN, inside, _CLOSE, _NOTHING)
