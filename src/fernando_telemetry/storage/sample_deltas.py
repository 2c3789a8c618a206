"""What a flush adds to the roll-up of samples: one delta for each of its series and minutes.

Samples are sorted by series and time, so that each delta is a run of them: nothing is done row by
row in Python. Distributions and percentiles are in no roll-up.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from datetime import datetime
from typing import Any, Final

import numpy as np
import pyarrow as pa

from fernando_telemetry.domain.calendar import EPOCH, MICROSECOND
from fernando_telemetry.domain.series import SeriesIdentity
from fernando_telemetry.storage.columns import MICROS_PER_SECOND, Integers
from fernando_telemetry.storage.copy_binary import series_ids_of
from fernando_telemetry.storage.fresh_rows import FreshRows
from fernando_telemetry.storage.marks import FlushBatch
from fernando_telemetry.storage.rows import SAMPLES

SAMPLE_DELTA_COLUMNS: Final = (
    "flushed_at",
    "shard",
    "series_id",
    "minute",
    "sample_count",
    "value_sum",
    "value_min",
    "value_max",
    "first_time",
    "first_value",
    "last_time",
    "last_value",
)
# One shard, as of all deltas (storage/event_deltas.py).
SHARD: Final = 0

Numbers = np.ndarray[Any, np.dtype[np.float64]]

_TIME: Final = pa.timestamp("us", "UTC")
_MINUTE_MICROS: Final = 60 * MICROS_PER_SECOND
# Beyond it sums of sums might run over, which PostgreSQL makes an error of.
_LARGEST_SUM: Final = 1e290


def sample_deltas(
    fresh: FreshRows, ids: Mapping[SeriesIdentity, int], flushed_at: datetime
) -> pa.RecordBatch | None:
    """Group the plain samples of a flush.

    Args:
        fresh: Its fresh rows.
        ids: Of all series in them.
        flushed_at: The flush's time by the database's clock.

    Returns:
        A row of SAMPLE_DELTA_COLUMNS for each series and minute; None where there are no samples.
        Of samples at one moment the smallest counts as the first and the largest as the last.
    """
    series, micros, values = _samples_of(fresh.batches, ids)
    if not len(micros):
        return None
    order = np.lexsort((micros, series))
    series, micros, values = series[order], micros[order], values[order]
    minutes = micros // _MINUTE_MICROS
    is_new = np.empty(len(order), bool)
    is_new[0] = True
    np.not_equal(series[1:], series[:-1], out=is_new[1:])
    is_new[1:] |= minutes[1:] != minutes[:-1]
    firsts = np.flatnonzero(is_new)
    counts = np.diff(firsts, append=len(order))
    first_times, last_times = micros[firsts], micros[firsts + counts - 1]
    is_first = micros == np.repeat(first_times, counts)
    is_last = micros == np.repeat(last_times, counts)
    with np.errstate(over="ignore", invalid="ignore"):
        sums = np.add.reduceat(values, firsts)
        sums[np.abs(sums) >= _LARGEST_SUM] *= np.inf
    return pa.RecordBatch.from_arrays(
        [
            pa.repeat(pa.scalar(flushed_at, _TIME), len(firsts)),
            pa.repeat(pa.scalar(SHARD, pa.int16()), len(firsts)),
            pa.array(series[firsts]),
            pa.array(minutes[firsts] * _MINUTE_MICROS).cast(_TIME),
            pa.array(counts),
            pa.array(sums),
            pa.array(np.minimum.reduceat(values, firsts)),
            pa.array(np.maximum.reduceat(values, firsts)),
            pa.array(first_times).cast(_TIME),
            pa.array(np.minimum.reduceat(np.where(is_first, values, np.inf), firsts)),
            pa.array(last_times).cast(_TIME),
            pa.array(np.maximum.reduceat(np.where(is_last, values, -np.inf), firsts)),
        ],
        names=list(SAMPLE_DELTA_COLUMNS),
    )


def _samples_of(
    batches: Sequence[FlushBatch], ids: Mapping[SeriesIdentity, int]
) -> tuple[Any, Integers, Numbers]:
    """Give series ids, Unix microseconds and values of all samples."""
    series: list[Any] = []
    micros: list[Integers] = []
    values: list[Numbers] = []
    for batch in batches:
        for piece in batch.slices:
            if piece.block.table is SAMPLES and len(piece):
                columns = piece.block.columns
                places = columns.column(0).to_numpy()[piece.start : piece.stop]
                series.append(series_ids_of(piece.block, ids)[places])
                micros.append(piece.micros)
                values.append(columns.column(2).to_numpy()[piece.start : piece.stop])
        plain = batch.rows.rows[SAMPLES.name]
        if plain:
            series.append(np.array([ids[identity] for identity, _, _ in plain], np.int32))
            micros.append(
                np.array([(time - EPOCH) // MICROSECOND for _, time, _ in plain], np.int64)
            )
            values.append(np.array([value for _, _, value in plain], np.float64))
    if not series:
        return np.zeros(0, np.int32), np.zeros(0, np.int64), np.zeros(0, np.float64)
    return np.concatenate(series), np.concatenate(micros), np.concatenate(values)
