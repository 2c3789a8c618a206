"""Feeds Arrow columns into a batch's content signature (content_digest.py).

No Python object is made for a record. The columns are what ptars makes of a twin of the contract:

| field | column |
|---|---|
| text, number, enum | string; the number, nullable where it has presence; int32 |
| Timestamp | list of struct (seconds int64, nanos int32), none or one |
| map | map of string to string |
| repeated string | list of string |
| other messages | list of binary, which are parsed here; few records have them |

A column is taken apart once for a group; each of its batches is a range of the rows.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, Final

import numpy as np
from google.protobuf.descriptor import FieldDescriptor
from google.protobuf.message import DecodeError, Message
from google.protobuf.message_factory import GetMessageClass

from fernando_telemetry.ingest.content_digest import Array, Bytes, ContentHash
from fernando_telemetry.ingest.content_messages import add_fields, fields_of, form_of, is_map

_Adder = Callable[[ContentHash, int, int], None]

_STAMP: Final = "google.protobuf.Timestamp"


class NotColumnar(Exception):
    """A batch whose columns do not say what protobuf does; take its messages instead.

    A message that came twice on the wire is the two merged, which columns do not show.
    """


class ContentColumns:
    """The records of one kind of a whole group.

    Args:
        kind: Field number of their list in TelemetryRecords.
        descriptor: Of the records, as the contract has them.
        array: Struct column of all records of the group.
        path: Field numbers down to the records, where they are not the list itself.
    """

    def __init__(self, kind: int, descriptor: Any, array: Any, path: tuple[int, ...] = ()) -> None:
        self._adders = [
            _adder(kind, (*path, field.number), field, array.field(field.name))
            for field in fields_of(descriptor)
        ]

    def add(self, content: ContentHash, start: int, stop: int) -> None:
        """Add one batch: the rows from `start` up to `stop`.

        Raises:
            NotColumnar: Take its messages; throw `content` away.
        """
        if start < stop:
            for adder in self._adders:
                adder(content, start, stop)


def _adder(kind: int, path: tuple[int, ...], field: Any, array: Any) -> _Adder:
    if is_map(field):
        return _maps(kind, path, array)
    if field.message_type is not None:
        if field.message_type.full_name == _STAMP:
            return _stamps(kind, path, array)
        return _messages(kind, path, field, array)
    if field.is_repeated:
        return _text_lists(kind, path, array)
    if field.type == FieldDescriptor.TYPE_STRING:
        return _texts(kind, path, array)
    return _numbers(kind, path, field, array)


class _Texts:
    """A string or binary column taken apart."""

    def __init__(self, array: Any) -> None:
        self._offsets = _offsets(array)
        # Plain numbers come quicker from it than from the array.
        self._bounds = self._offsets.data
        buffer = array.buffers()[2]
        self._data: Bytes = np.frombuffer(buffer or b"", np.uint8)

    def part(self, start: int, stop: int) -> tuple[Array, Bytes]:
        """Give lengths and bytes of a range."""
        return (
            self._offsets[start + 1 : stop + 1] - self._offsets[start:stop],
            self._data[self._bounds[start] : self._bounds[stop]],
        )

    def are_empty(self, start: int, stop: int) -> bool:
        """Tell whether all texts of a range are."""
        return bool(self._bounds[start] == self._bounds[stop])


def _offsets(array: Any) -> Array:
    """Give the N + 1 offsets of a string, list or map column."""
    if not len(array):
        return np.zeros(1, np.int32)
    return np.frombuffer(array.buffers()[1], np.int32)[array.offset :][: len(array) + 1]


def _child(array: Any) -> Any:
    """Give all values of a list column, to which its offsets point."""
    return array.values


def _texts(kind: int, path: tuple[int, ...], array: Any) -> _Adder:
    texts = _Texts(array)

    def add(content: ContentHash, start: int, stop: int) -> None:
        if not texts.are_empty(start, stop):
            content.add_texts(kind, path, *texts.part(start, stop))

    return add


def _numbers(kind: int, path: tuple[int, ...], field: Any, array: Any) -> _Adder:
    present = None
    if field.has_presence:
        present = array.is_valid().to_numpy(zero_copy_only=False)
    filled = array.fill_null(0) if array.null_count else array
    values = filled.to_numpy(zero_copy_only=False).astype(form_of(field), copy=False)

    def add(content: ContentHash, start: int, stop: int) -> None:
        part = None if present is None else present[start:stop]
        content.add_numbers(kind, path, values[start:stop], part)

    return add


def _text_lists(kind: int, path: tuple[int, ...], array: Any) -> _Adder:
    offsets = _offsets(array)
    texts = _Texts(_child(array))

    def add(content: ContentHash, start: int, stop: int) -> None:
        first, last = offsets[start], offsets[stop]
        if first != last:
            content.add_numbers(kind, path, offsets[start + 1 : stop + 1] - offsets[start:stop])
            content.add_texts(kind, path, *texts.part(first, last))

    return add


def _maps(kind: int, path: tuple[int, ...], array: Any) -> _Adder:
    offsets = _offsets(array)
    keys, values = _Texts(array.keys), _Texts(array.items)
    # `keys` and `items` of a sliced map are those of its own rows.
    base = offsets[0]

    def add(content: ContentHash, start: int, stop: int) -> None:
        first, last = offsets[start] - base, offsets[stop] - base
        if first != last:
            counts = offsets[start + 1 : stop + 1] - offsets[start:stop]
            content.add_entries(
                kind, path, counts, keys.part(first, last), values.part(first, last)
            )

    return add


def _stamps(kind: int, path: tuple[int, ...], array: Any) -> _Adder:
    offsets = _offsets(array)
    values = _child(array)
    parts = [
        (place, values.field(name).to_numpy(zero_copy_only=False))
        for place, name in ((1, "seconds"), (2, "nanos"))
    ]

    def add(content: ContentHash, start: int, stop: int) -> None:
        first, last = offsets[start], offsets[stop]
        if first == last:
            return
        present = offsets[start + 1 : stop + 1] - offsets[start:stop]
        if present.max() > 1:
            raise NotColumnar
        content.add_numbers(kind, path, present.astype(np.uint8))
        for number, given in parts:
            part = given[first:last]
            if last - first < stop - start:
                whole = np.zeros(stop - start, given.dtype)
                whole[present > 0] = part
                part = whole
            content.add_numbers(kind, (*path, number), part)

    return add


def _messages(kind: int, path: tuple[int, ...], field: Any, array: Any) -> _Adder:
    offsets = _offsets(array)
    values = _child(array)
    of = GetMessageClass(field.message_type)

    def parsed(first: int, last: int) -> list[Message]:
        try:
            return [of.FromString(one) for one in values[int(first) : int(last)].to_pylist()]
        except DecodeError:
            raise NotColumnar from None

    def add(content: ContentHash, start: int, stop: int) -> None:
        first, last = offsets[start], offsets[stop]
        if first == last:
            return
        counts = offsets[start + 1 : stop + 1] - offsets[start:stop]
        messages = parsed(first, last)
        if field.is_repeated:
            content.add_numbers(kind, path, counts)
        else:
            if counts.max() > 1:
                raise NotColumnar
            content.add_numbers(kind, path, counts.astype(np.uint8))
            given = iter(messages)
            messages = [next(given) if count else of() for count in counts]
        for _ in add_fields(content, kind, path, field.message_type, messages):
            pass

    return add
