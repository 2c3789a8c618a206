"""What a flush adds to the event roll-up: its own rows grouped, one delta a group.

Columns and tuples are grouped by one code. Texts become numbers, the numbers of a row one code,
and equal codes a group: nothing is done row by row in Python.
"""

from __future__ import annotations

from collections.abc import Sequence
from datetime import datetime, timedelta
from itertools import pairwise
from math import log
from typing import Any, Final

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from fernando_telemetry.domain.calendar import EPOCH, HOUR
from fernando_telemetry.domain.log_histogram import BASE, ZERO_BUCKET
from fernando_telemetry.storage.columns import MICROS_PER_SECOND, Integers, moment
from fernando_telemetry.storage.marks import FlushBatch
from fernando_telemetry.storage.rows import EVENTS, Row

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

_HOUR_MICROS: Final = HOUR * MICROS_PER_SECOND
_READ: Final = (*EVENT_KEYS, "duration_ms")
_PLACES: Final = tuple(EVENTS.given.index(name) for name in _READ)
_TYPES: Final = (*(pa.string() for _ in EVENT_KEYS), pa.float64())
_BUCKETS: Final = 1 << 16
_MICROSECOND: Final = timedelta(microseconds=1)


def event_deltas(batches: Sequence[FlushBatch], flushed_at: datetime) -> list[Row]:
    """Group the events of a flush's fresh batches.

    Args:
        batches: The fresh batches: repeats and fenced ones must not count.
        flushed_at: The flush's time by the database's clock.

    Returns:
        A row of EVENT_DELTA_COLUMNS for each hour and key.
    """
    columns, micros = _events_of(batches)
    if not len(micros):
        return []
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
    duration_counts = np.bincount(timed, minlength=len(counts))
    sums = np.bincount(timed, weights=values, minlength=len(counts))
    histograms = _histograms(timed, values, len(counts))
    keys = [_texts(words, numbers[firsts]) for words, numbers in texts]
    starts = [moment(hour * _HOUR_MICROS) for hour in (micros[firsts] // _HOUR_MICROS).tolist()]
    return [
        (flushed_at, SHARD, start, *key, count, duration_count, total, buckets, of_buckets)
        for start, key, count, duration_count, total, (buckets, of_buckets) in zip(
            starts,
            zip(*keys, strict=True),
            counts.tolist(),
            duration_counts.tolist(),
            sums.tolist(),
            histograms,
            strict=True,
        )
    ]


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


def _texts(words: pa.Array, numbers: Integers) -> list[str]:
    known: list[str] = [*words.to_pylist(), ""]
    return [known[number] for number in numbers.tolist()]


def _histograms(
    groups: Integers, values: np.ndarray[Any, np.dtype[np.float64]], count: int
) -> list[tuple[list[int], list[int]]]:
    """Give each group's sparse histogram: buckets in their order, and how many lie in each."""
    buckets = np.full(len(values), ZERO_BUCKET, np.int64)
    positive = values > 0
    buckets[positive] = np.ceil(np.log(values[positive]) / log(BASE)).astype(np.int64)
    met, counts = np.unique(groups * _BUCKETS + (buckets - ZERO_BUCKET), return_counts=True)
    edges = np.searchsorted(met, np.arange(count + 1) * _BUCKETS).tolist()
    of_met = (met % _BUCKETS + ZERO_BUCKET).tolist()
    of_counts = counts.tolist()
    return [(of_met[start:stop], of_counts[start:stop]) for start, stop in pairwise(edges)]
