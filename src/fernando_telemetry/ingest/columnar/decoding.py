"""Decodes a group of batches to columns, and finds those whose columns differ from the messages."""

from __future__ import annotations

from dataclasses import dataclass
from operator import attrgetter
from typing import Any, Final

import numpy as np
import pyarrow as pa

from fernando.telemetry.v1 import TelemetryRecords
from fernando_telemetry.ingest.checks.context import CheckContext
from fernando_telemetry.ingest.columnar import twin
from fernando_telemetry.ingest.columnar.texts import list_lengths
from fernando_telemetry.ingest.record_check import CheckedBatch, RecordChecker


@dataclass(frozen=True, slots=True)
class GivenBatch:
    """A batch to be checked.

    Attributes:
        data: Bytes of its TelemetryRecords.
        context: Its view.
        with_digest: It has a mark, which wants the digest of its content.
    """

    data: bytes
    context: CheckContext
    with_digest: bool = False


@dataclass(slots=True)
class ParsedBatch:
    """A batch that protobuf has parsed, and what becomes of it."""

    given: GivenBatch
    records: TelemetryRecords
    checked: CheckedBatch

    @property
    def count(self) -> int:
        """Records that the columnar checks know."""
        records = self.records
        return (
            len(records.events)
            + len(records.system_metrics)
            + len(records.spans)
            + len(records.metric_columns.value)
        )

    def checker(self) -> RecordChecker:
        """Give the record checks of this batch."""
        return RecordChecker(self.checked, self.given.context, len(self.given.data))


def decoded(
    batches: list[ParsedBatch],
) -> tuple[list[ParsedBatch], list[ParsedBatch], pa.RecordBatch | None]:
    """Decode to columns; gives batches decoded, batches left, and the columns."""
    left: list[ParsedBatch] = []
    for attempt in ("all", "each"):
        try:
            found = twin.decode([one.given.data for one in batches])
        except twin.NotColumns:
            if attempt == "each" or len(batches) == 1:
                return [], [*left, *batches], None
            good = {id(one) for one in batches if _is_decodable(one)}
            left += [one for one in batches if id(one) not in good]
            batches = [one for one in batches if id(one) in good]
            if not batches:
                return [], left, None
        else:
            unequal = _unequal(batches, found)
            if not unequal:
                return batches, left, found
            left += [one for one in batches if id(one) in unequal]
            batches = [one for one in batches if id(one) not in unequal]
            if not batches:
                return [], left, None
    return [], [*left, *batches], None


def _is_decodable(one: ParsedBatch) -> bool:
    try:
        twin.decode([one.given.data])
    except twin.NotColumns:
        return False
    return True


def _unequal(batches: list[ParsedBatch], found: pa.RecordBatch) -> set[int]:
    """Find batches whose columns do not have the lengths of their messages.

    A list of columns that comes twice is one of them: protobuf merges the two. So is a map with a
    key that comes twice, or with an entry that has unknown fields, which protobuf leaves out.
    """
    bad: set[int] = set()
    for name, map_name in (("events", ""), ("system_metrics", "labels"), ("spans", "tags")):
        lists = found.column(name)
        lengths = list_lengths(lists).tolist()
        for one, length in zip(batches, lengths, strict=True):
            if length != len(getattr(one.records, name)):
                bad.add(id(one))
        if map_name and any(lengths):
            messages = [getattr(one.records, name) for one in batches]
            bad |= _odd_maps(batches, messages, lengths, lists.flatten().field(map_name), map_name)
    lengths = list_lengths(found.column("metric_columns")).tolist()
    if not any(lengths):
        return bad | {id(one) for one in batches if len(one.records.metric_columns.value)}
    flat = found.column("metric_columns").flatten()
    counts = zip(*(list_lengths(flat.field(name)).tolist() for name in _COLUMN_NAMES), strict=True)
    for one, length in zip(batches, lengths, strict=True):
        columns = one.records.metric_columns
        given = [next(counts) for _ in range(length)]
        if length > 1 or (
            length == 1 and given[0] != tuple(len(getattr(columns, name)) for name in _COLUMN_NAMES)
        ):
            bad.add(id(one))
    if not bad and len(flat):
        series = flat.field("series")
        chosen = [one for one, length in zip(batches, lengths, strict=True) if length]
        bad |= _odd_maps(
            chosen,
            [one.records.metric_columns.series for one in chosen],
            list_lengths(series).tolist(),
            series.flatten().field("labels"),
            "labels",
        )
    return bad


def _odd_maps(
    batches: list[ParsedBatch], messages: list[Any], lengths: list[int], maps: Any, name: str
) -> set[int]:
    """Find batches whose messages have fewer map entries than their columns."""
    entries = np.concatenate(([0], np.cumsum(list_lengths(maps))))
    stops = np.cumsum(lengths)
    get = attrgetter(name)
    bad: set[int] = set()
    for one, records, length, stop in zip(batches, messages, lengths, stops, strict=True):
        if length and entries[stop] - entries[stop - length] != sum(map(len, map(get, records))):
            bad.add(id(one))
    return bad


_COLUMN_NAMES: Final = ("series", "series_index", "time_unix_micros", "value")
