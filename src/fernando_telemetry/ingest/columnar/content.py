"""Feeds a batch's columns into its content signature (ingest/content_digest.py).

The same sections as from messages (ingest/content_messages.py), which a test compares. What the
columns do not have (see twin.py) comes from the messages: KPIs, distributions, span events and
links.
"""

from __future__ import annotations

import asyncio
from collections.abc import Iterator
from typing import Any, Final

import numpy as np
import pyarrow as pa

from fernando.telemetry.v1 import (
    BusinessMetric,
    Event,
    MetricColumns,
    MetricSeries,
    Span,
    SystemMetric,
    TelemetryRecords,
)
from fernando_telemetry.domain.digests import content_digest
from fernando_telemetry.ingest import content_messages as messages
from fernando_telemetry.ingest.columnar.payloads import map_entries
from fernando_telemetry.ingest.columnar.texts import Texts, list_lengths, numbers
from fernando_telemetry.ingest.content_digest import VERSION, ContentHash

Path = tuple[int, ...]
# Between two fields of more records than this the event loop has its turn.
YIELD_ROWS: Final = 2_000

_LISTS: Final = (
    (messages.EVENTS, "events", Event),
    (messages.SYSTEM_METRICS, "system_metrics", SystemMetric),
    (messages.SPANS, "spans", Span),
)


class RepeatedStamp(Exception):
    """A Timestamp comes twice in a record: only the messages have the two merged."""


async def digest_of_columns(data: bytes, records: TelemetryRecords, row: Any) -> bytes:
    """Give the digest of a batch; the event loop has its turn between two fields of many records.

    Args:
        data: Its bytes.
        records: Its message.
        row: Its row of what twin.decode gave, as a batch of one.

    Raises:
        RepeatedStamp: It has to come from the messages.
    """
    content = ContentHash()
    for rows in _add_batch(content, records, row):
        if rows > YIELD_ROWS:
            await asyncio.sleep(0)
    columns = records.metric_columns
    counts = (
        len(records.events),
        len(records.system_metrics),
        len(records.business_metrics),
        len(records.spans),
        len(columns.value),
    )
    return content_digest(data, VERSION, counts, content.signature())


def _add_batch(content: ContentHash, records: TelemetryRecords, row: Any) -> Iterator[int]:
    """Add all fields; gives the number of records behind each."""
    for kind, name, of in _LISTS:
        if kind == messages.SPANS:
            kpis = (messages.BUSINESS_METRICS, (), BusinessMetric.DESCRIPTOR)
            for _ in messages.add_fields(content, *kpis, records.business_metrics):
                pass
        given = getattr(records, name)
        if len(given):
            rows = row.column(name).flatten()
            yield from _add_records(content, kind, (), of.DESCRIPTOR, rows, given)
    columns = records.metric_columns
    count = np.array([len(columns.series)], "<i4")
    content.add_numbers(messages.METRIC_COLUMNS, (1,), count)
    if not len(columns.series) and not len(columns.value):
        return
    flat = row.column("metric_columns").flatten()
    series = flat.field("series").flatten()
    if len(series):
        kind, descriptor = messages.METRIC_COLUMNS, MetricSeries.DESCRIPTOR
        yield from _add_records(content, kind, (1,), descriptor, series, columns.series)
    for field in messages.fields_of(MetricColumns.DESCRIPTOR)[1:]:
        values = flat.field(field.name).flatten().to_numpy()
        values = values.astype(messages.form_of(field), copy=False)
        content.add_numbers(messages.METRIC_COLUMNS, (field.number,), values)
        yield len(values)


def _add_records(
    content: ContentHash, kind: int, path: Path, descriptor: Any, rows: Any, given: Any
) -> Iterator[int]:
    for field in messages.fields_of(descriptor):
        here = (*path, field.number)
        column = rows.field(field.name)
        if messages.is_map(field):
            keys, values = map(Texts.of, map_entries(column))
            content.add_entries(
                kind,
                here,
                list_lengths(column),
                (keys.lengths, keys.data),
                (values.lengths, values.data),
            )
        elif field.message_type is not None:
            _add_submessages(content, kind, path, field, column, given)
        elif field.is_repeated:
            content.add_numbers(kind, here, list_lengths(column).astype("<i4"))
            _add_texts(content, kind, here, column.flatten())
        elif pa.types.is_string(column.type):
            _add_texts(content, kind, here, column)
        else:
            form = messages.form_of(field)
            given_numbers, present = numbers(column)
            content.add_numbers(
                kind,
                here,
                given_numbers.astype(form, copy=False),
                present if field.has_presence else None,
            )
        yield len(rows)


def _add_texts(content: ContentHash, kind: int, path: Path, column: Any) -> None:
    texts = Texts.of(column)
    content.add_texts(kind, path, texts.lengths, texts.data)


def _add_submessages(
    content: ContentHash, kind: int, path: Path, field: Any, column: Any, given: Any
) -> None:
    lengths = list_lengths(column)
    if field.message_type.full_name != "google.protobuf.Timestamp":
        if lengths.any():
            for _ in messages.add_field(content, kind, path, field, given):
                pass
        return
    present = lengths.astype(np.uint8)
    if not present.any():
        return
    if lengths.max() > 1:
        raise RepeatedStamp
    here = (*path, field.number)
    content.add_numbers(kind, here, present)
    flat = column.flatten()
    for place, form in enumerate(("<i8", "<i4")):
        values = np.zeros(len(present), form)
        values[present > 0] = flat.field(place).to_numpy()
        content.add_numbers(kind, (*here, place + 1), values)
