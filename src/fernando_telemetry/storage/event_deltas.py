"""What a flush adds to the event roll-up: its own rows grouped, one delta a group.

Columns and tuples are grouped by one code. Texts become numbers, the numbers of a row one code,
and equal codes a group: nothing is done row by row in Python.
"""

from __future__ import annotations

from collections.abc import Sequence
from datetime import datetime, timedelta
from math import log
from typing import Any, Final

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from fernando_telemetry.domain.calendar import EPOCH, HOUR
from fernando_telemetry.domain.log_histogram import BASE, ZERO_BUCKET
from fernando_telemetry.storage.columns import MICROS_PER_SECOND, Integers
from fernando_telemetry.storage.marks import FlushBatch
from fernando_telemetry.storage.rows import EVENTS

EVENT_KEYS: Final = ("event_type", "event_category", "event_name", "license_id", "source")
EVENT_DELTA_COLUMNS: Final = (
    "flushed_at",
    "shard",
    "hour",
    *EVENT_KEYS,
    "event_count",
    "duration_count",
    "duration_sum",
    "duration_buckets",
    "duration_counts",
)
# One shard: deltas of many producers would multiply the groups. Readers sum over shards.
SHARD: Final = 0

_TIME: Final = pa.timestamp("us", "UTC")
_HOUR_MICROS: Final = HOUR * MICROS_PER_SECOND
_READ: Final = (*EVENT_KEYS, "duration_ms")
_PLACES: Final = tuple(EVENTS.given.index(name) for name in _READ)
_TYPES: Final = (*(pa.string() for _ in EVENT_KEYS), pa.float64())
_BUCKETS: Final = 1 << 16
_MICROSECOND: Final = timedelta(microseconds=1)


def event_deltas(batches: Sequence[FlushBatch], flushed_at: datetime) -> pa.RecordBatch | None:
    """Group the events of a flush's fresh batches.

    Args:
        batches: The fresh batches: repeats and fenced ones must not count.
        flushed_at: The flush's time by the database's clock.

    Returns:
        A row of EVENT_DELTA_COLUMNS for each hour and key; None where there are no events.
    """
    columns, micros = _events_of(batches)
    if not len(micros):
        return None
    _, codes = np.unique(micros // _HOUR_MICROS, return_inverse=True)
    texts: list[tuple[pa.Array, Integers]] = []
    for name in EVENT_KEYS:
        encoded = pc.dictionary_encode(columns[name].combine_chunks())
        words, places = encoded.dictionary, encoded.indices.fill_null(len(encoded.dictionary))
        numbers = places.to_numpy(zero_copy_only=False).astype(np.int64)
        texts.append((words, numbers))
        # Made dense anew each time, so that the product never leaves 64 bits.
        _, codes = np.unique(codes * (len(words) + 1) + numbers, return_inverse=True)
    _, firsts, counts = np.unique(codes, return_index=True, return_counts=True)
    durations = columns["duration_ms"].combine_chunks()
    has_one = durations.is_valid().to_numpy(zero_copy_only=False)
    values = durations.drop_null().to_numpy(zero_copy_only=False)
    timed = codes[has_one]
    hours = micros[firsts] // _HOUR_MICROS * _HOUR_MICROS
    return pa.RecordBatch.from_arrays(
        [
            pa.repeat(pa.scalar(flushed_at, _TIME), len(counts)),
            pa.repeat(pa.scalar(SHARD, pa.int16()), len(counts)),
            pa.array(hours).cast(_TIME),
            *(_texts(words, numbers[firsts]) for words, numbers in texts),
            pa.array(counts),
            pa.array(np.bincount(timed, minlength=len(counts))),
            pa.array(np.bincount(timed, weights=values, minlength=len(counts))),
            *_histograms(timed, values, len(counts)),
        ],
        names=list(EVENT_DELTA_COLUMNS),
    )


def _events_of(batches: Sequence[FlushBatch]) -> tuple[pa.Table, Integers]:
    """Give the columns that are grouped, and the times as Unix microseconds."""
    parts: list[pa.RecordBatch] = []
    micros: list[Integers] = []
    for batch in batches:
        for piece in batch.slices:
            if piece.block.table is EVENTS and len(piece):
                rows = piece.block.columns.slice(piece.start, len(piece))
                parts.append(rows.select(list(_READ)))
                micros.append(piece.micros)
    plain = [row for batch in batches for row in batch.rows.rows[EVENTS.name]]
    if plain:
        arrays = [
            pa.array([row[place] for row in plain], kind)
            for place, kind in zip(_PLACES, _TYPES, strict=True)
        ]
        parts.append(pa.RecordBatch.from_arrays(arrays, names=list(_READ)))
        times = [row[EVENTS.time_index] for row in plain]
        micros.append(np.array([(time - EPOCH) // _MICROSECOND for time in times], np.int64))
    if not parts:
        return pa.table({}), np.zeros(0, np.int64)
    schema = pa.schema(list(zip(_READ, _TYPES, strict=True)))
    return pa.Table.from_batches([part.cast(schema) for part in parts]), np.concatenate(micros)


def _texts(words: pa.Array, numbers: Integers) -> pa.Array:
    """Give the texts of numbers; the one behind the last stands for none, which is ''."""
    return pa.concat_arrays([words, pa.array([""])]).take(pa.array(numbers))


def _histograms(
    groups: Integers, values: np.ndarray[Any, np.dtype[np.float64]], count: int
) -> tuple[pa.Array, pa.Array]:
    """Give each group's sparse histogram: buckets in their order, and how many lie in each."""
    buckets = np.full(len(values), ZERO_BUCKET, np.int64)
    positive = values > 0
    buckets[positive] = np.ceil(np.log(values[positive]) / log(BASE)).astype(np.int64)
    met, counts = np.unique(groups * _BUCKETS + (buckets - ZERO_BUCKET), return_counts=True)
    edges = pa.array(np.searchsorted(met, np.arange(count + 1) * _BUCKETS).astype(np.int32))
    of_met = pa.array((met % _BUCKETS + ZERO_BUCKET).astype(np.int16))
    return pa.ListArray.from_arrays(edges, of_met), pa.ListArray.from_arrays(
        edges, pa.array(counts)
    )
