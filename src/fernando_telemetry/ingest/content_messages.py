"""Feeds a batch's decoded messages into its content signature (content_digest.py).

The fields come from the contract's descriptors, so that none is forgotten.
"""

from __future__ import annotations

import asyncio
from collections.abc import Iterable, Iterator, Sequence
from functools import cache
from operator import attrgetter
from typing import Any, Final

import numpy as np
from google.protobuf.descriptor import FieldDescriptor

from fernando.telemetry.v1 import (
    BusinessMetric,
    Event,
    MetricColumns,
    MetricSeries,
    Span,
    SystemMetric,
)
from fernando_telemetry.ingest.content_digest import Array, Bytes, ContentHash

EVENTS: Final = 1
SYSTEM_METRICS: Final = 2
BUSINESS_METRICS: Final = 3
SPANS: Final = 4
METRIC_COLUMNS: Final = 5

# Between two fields of more records than this the event loop gets its turn.
YIELD_RECORDS: Final = 200

_FORMS: Final = {
    FieldDescriptor.TYPE_DOUBLE: "<f8",
    FieldDescriptor.TYPE_UINT64: "<u8",
    FieldDescriptor.TYPE_INT64: "<i8",
    FieldDescriptor.TYPE_SFIXED64: "<i8",
    FieldDescriptor.TYPE_INT32: "<i4",
    FieldDescriptor.TYPE_ENUM: "<i4",
    FieldDescriptor.TYPE_UINT32: "<u4",
    FieldDescriptor.TYPE_BOOL: "|u1",
}


def form_of(field: Any) -> str:
    """Give the form of a number field's values."""
    return _FORMS[field.type]


def is_map(field: Any) -> bool:
    """Tell whether a field is a map."""
    return field.message_type is not None and field.message_type.GetOptions().map_entry


@cache
def fields_of(descriptor: Any) -> tuple[Any, ...]:
    """Give a message's fields by rising number."""
    return tuple(sorted(descriptor.fields, key=attrgetter("number")))


async def add_messages(
    content: ContentHash,
    events: Iterable[Any],
    system_metrics: Iterable[Any],
    business_metrics: Iterable[Any],
    spans: Iterable[Any],
    columns: Any,
    series: Iterable[Any],
) -> tuple[int, int, int, int, int]:
    """Add the lists of one batch.

    Args:
        content: Takes them.
        events: Messages; anything else (an element that did not parse) counts as an empty one.
        system_metrics: Likewise.
        business_metrics: Likewise.
        spans: Likewise.
        columns: MetricColumns, of which only the columns of numbers are read.
        series: Its series, likewise.

    Returns:
        How many there are of each, samples of columns last.
    """
    counts = []
    lists = (
        (EVENTS, Event, events),
        (SYSTEM_METRICS, SystemMetric, system_metrics),
        (BUSINESS_METRICS, BusinessMetric, business_metrics),
        (SPANS, Span, spans),
    )
    for kind, of, given in lists:
        counts.append(await _add_list(content, kind, (), of, given))
    series = list(series)
    content.add_numbers(METRIC_COLUMNS, (1,), np.array([len(series)], "<i4"))
    await _add_list(content, METRIC_COLUMNS, (1,), MetricSeries, series)
    for field in fields_of(MetricColumns.DESCRIPTOR)[1:]:
        values = getattr(columns, field.name)
        numbers = np.fromiter(values, form_of(field), len(values))
        content.add_numbers(METRIC_COLUMNS, (field.number,), numbers)
        await asyncio.sleep(0)
    counts.append(len(columns.value))
    return (counts[0], counts[1], counts[2], counts[3], counts[4])


async def _add_list(
    content: ContentHash, kind: int, path: tuple[int, ...], of: Any, given: Iterable[Any]
) -> int:
    messages = [one if isinstance(one, of) else of() for one in given]
    for _ in add_fields(content, kind, path, of.DESCRIPTOR, messages):
        if len(messages) > YIELD_RECORDS:
            await asyncio.sleep(0)
    return len(messages)


def add_fields(
    content: ContentHash,
    kind: int,
    path: tuple[int, ...],
    descriptor: Any,
    messages: Sequence[Any],
) -> Iterator[None]:
    """Add the fields of messages of one type, one field a step."""
    if not messages:
        return
    for field in fields_of(descriptor):
        yield from add_field(content, kind, path, field, messages)
        yield


def add_field(
    content: ContentHash, kind: int, path: tuple[int, ...], field: Any, messages: Sequence[Any]
) -> Iterator[None]:
    """Add one field of messages of one type."""
    here = (*path, field.number)
    values = list(map(attrgetter(field.name), messages))
    if is_map(field):
        _add_maps(content, kind, here, values)
    elif field.is_repeated:
        lengths = np.fromiter(map(len, values), "<i4", len(values))
        content.add_numbers(kind, here, lengths)
        items = [item for value in values for item in value]
        if items:
            yield from _add_values(content, kind, here, field, items)
    elif field.message_type is not None:
        present = _presence(field, messages)
        content.add_numbers(kind, here, present)
        if present.any():
            yield from add_fields(content, kind, here, field.message_type, values)
    elif field.has_presence:
        numbers = np.array(values, form_of(field))
        content.add_numbers(kind, here, numbers, _presence(field, messages))
    else:
        yield from _add_values(content, kind, here, field, values)


def _add_values(
    content: ContentHash, kind: int, path: tuple[int, ...], field: Any, values: list[Any]
) -> Iterator[None]:
    if field.message_type is not None:
        yield from add_fields(content, kind, path, field.message_type, values)
    elif field.type == FieldDescriptor.TYPE_STRING:
        content.add_texts(kind, path, *_texts(values))
    else:
        content.add_numbers(kind, path, np.array(values, form_of(field)))


def _presence(field: Any, messages: Sequence[Any]) -> Array:
    name = field.name
    return np.fromiter((one.HasField(name) for one in messages), np.uint8, len(messages))


def _texts(values: Sequence[str]) -> tuple[Array, Bytes]:
    joined = "".join(values)
    if joined.isascii():
        lengths = np.fromiter(map(len, values), "<i4", len(values))
        return lengths, np.frombuffer(joined.encode(), np.uint8)
    encoded = [value.encode() for value in values]
    lengths = np.fromiter(map(len, encoded), "<i4", len(encoded))
    return lengths, np.frombuffer(b"".join(encoded), np.uint8)


def _add_maps(content: ContentHash, kind: int, path: tuple[int, ...], maps: Sequence[Any]) -> None:
    counts = np.fromiter(map(len, maps), np.int64, len(maps))
    if not counts.any():
        return
    keys = [key for one in maps for key in one]
    values = [value for one in maps for value in one.values()]
    content.add_entries(kind, path, counts, _texts(keys), _texts(values), unique=True)
