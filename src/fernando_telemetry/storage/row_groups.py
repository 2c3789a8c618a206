"""Groups rows by a unit of time and by columns of text, for a flush's deltas.

Texts become numbers, the numbers of a row one code, and equal codes a group: nothing is done row
by row in Python.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from math import log
from typing import Final

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from fernando_telemetry.domain.calendar import HOUR
from fernando_telemetry.domain.log_histogram import BASE, ZERO_BUCKET
from fernando_telemetry.storage.columns import MICROS_PER_SECOND, Integers

# One shard: deltas of many producers would multiply the groups. Readers sum over shards.
SHARD: Final = 0
TIME: Final = pa.timestamp("us", "UTC")
MINUTE_MICROS: Final = 60 * MICROS_PER_SECOND
HOUR_MICROS: Final = HOUR * MICROS_PER_SECOND

# Codes are made dense before they would leave 64 bits: a flush has fewer rows than 2^31, and so
# fewer words.
_MOST_CODES: Final = 1 << 62
_BUCKETS: Final = 1 << 16
# Made once: where there is no pandas, each array of Python objects looks for it anew.
_NONE: Final = pa.array([""])


@dataclass(frozen=True, slots=True)
class Words:
    """A column of text as numbers.

    Args:
        texts: Its different texts.
        numbers: Each row's place among them; behind the last: none.
    """

    texts: pa.Array
    numbers: Integers

    @classmethod
    def of(cls, column: pa.Array) -> Words:
        """Number the texts of a column."""
        encoded = pc.dictionary_encode(column)
        places = encoded.indices
        if places.null_count:
            places = places.fill_null(len(encoded.dictionary))
        return cls(encoded.dictionary, places.to_numpy().astype(np.int64))

    def at(self, rows: Integers) -> pa.Array:
        """Give the texts of some rows, '' for none."""
        return pa.concat_arrays([self.texts, _NONE]).take(pa.array(self.numbers[rows]))


@dataclass(frozen=True, slots=True)
class RowGroups:
    """The groups of a flush's rows.

    Args:
        codes: The group of each row, from 0.
        counts: Rows of each group.
        times: The unit of time of each group.
        keys: The values of each group by column, '' for none.
    """

    codes: Integers
    counts: Integers
    times: pa.Array
    keys: list[pa.Array]

    def __len__(self) -> int:
        """Give how many groups there are."""
        return len(self.counts)


def group_rows(keys: Sequence[Words], micros: Integers, unit_micros: int) -> RowGroups:
    """Group rows, at least one, by a unit of time and by columns of text.

    Args:
        keys: The columns.
        micros: The rows' times, in Unix microseconds.
        unit_micros: The unit's length.
    """
    units = micros // unit_micros
    codes = units - units.min()
    size = int(codes.max()) + 1
    for words in keys:
        if size * (len(words.texts) + 1) > _MOST_CODES:
            codes, size = _dense(codes)
        codes = codes * (len(words.texts) + 1) + words.numbers
        size *= len(words.texts) + 1
    codes, size = _dense(codes)
    # Any row of a group will do to tell its values.
    some = np.empty(size, np.int64)
    some[codes] = np.arange(len(codes))
    times = pa.array(units[some] * unit_micros).cast(TIME)
    counts = np.bincount(codes, minlength=size)
    return RowGroups(codes, counts, times, [words.at(some) for words in keys])


def _dense(codes: Integers) -> tuple[Integers, int]:
    """Number codes from 0 without gaps; with how many there are."""
    encoded = pc.dictionary_encode(pa.array(codes))
    return encoded.indices.to_numpy().astype(np.int64), len(encoded.dictionary)


def runs(values: Integers) -> tuple[Integers, Integers]:
    """Sort numbers, none of them negative; gives the different ones, and where each begins."""
    # Half as long, they are sorted twice as fast.
    short = values.max(initial=0) < 1 << 31
    ordered = np.sort(values.astype(np.int32)) if short else np.sort(values)
    is_new = np.ones(len(ordered), bool)
    np.not_equal(ordered[1:], ordered[:-1], out=is_new[1:])
    firsts = np.flatnonzero(is_new)
    return ordered[firsts].astype(np.int64), firsts


def lists_by_group(
    places: Integers, stride: int, groups: int, *columns: pa.Array
) -> list[pa.ListArray]:
    """Cut columns into a list for each group.

    Args:
        places: Of the values, sorted: group times stride and what is below it.
        stride: Of a group.
        groups: How many there are.
        columns: The values.
    """
    edges = pa.array(np.searchsorted(places, np.arange(groups + 1) * stride).astype(np.int32))
    return [pa.ListArray.from_arrays(edges, column) for column in columns]


def duration_sums(durations: pa.Array, groups: RowGroups) -> list[pa.Array]:
    """Give of each group how many have a duration, their sum, and their sparse histogram.

    The last two are the histogram's buckets in their order, and how many lie in each.
    """
    timed = groups.codes
    if durations.null_count:
        timed = timed[durations.is_valid().to_numpy(zero_copy_only=False)]
        durations = durations.drop_null()
    values = durations.to_numpy()
    buckets = np.full(len(values), ZERO_BUCKET, np.int64)
    positive = values > 0
    buckets[positive] = np.ceil(np.log(values[positive]) / log(BASE)).astype(np.int64)
    met, firsts = runs(timed * _BUCKETS + (buckets - ZERO_BUCKET))
    counts = np.diff(firsts, append=len(values))
    return [
        pa.array(np.bincount(timed, minlength=len(groups))),
        pa.array(np.bincount(timed, weights=values, minlength=len(groups))),
        *lists_by_group(
            met,
            _BUCKETS,
            len(groups),
            pa.array((met % _BUCKETS + ZERO_BUCKET).astype(np.int16)),
            pa.array(counts),
        ),
    ]
