"""Merges arrays of roll-ups that came as PostgreSQL sends them, without a Python object each.

A text of bytes holds pairs of arrays one behind the other, as `array_send` writes them: smallint[]
and bigint[] of one length, not empty, without NULL. An array is 20 bytes of head (number of
dimensions, whether there are NULLs, element type, length, lower bound; 4 bytes each), then each
element with its length in 4 bytes; all big-endian.
"""

from __future__ import annotations

import math
from collections.abc import Iterator
from typing import Any, Final

import numpy as np

from fernando_telemetry.domain.user_sketch import COMPONENTS, WORDS_PER_COMPONENT

_HEAD: Final = 20
_SMALL: Final = np.dtype([("size", ">i4"), ("value", ">i2")])
_BIG: Final = np.dtype([("size", ">i4"), ("value", ">i8")])

Numbers = np.ndarray[Any, np.dtype[np.int64]]


def percentile_bucket(histograms: bytes, share: float) -> int | None:
    """Give the bucket of a percentile of some sparse histograms; None where they are empty.

    Args:
        histograms: Pairs of buckets and counts.
        share: Above 0, at most 1.
    """
    pairs = list(_pairs(histograms))
    if not pairs:
        return None
    buckets, counts = (np.concatenate(column) for column in zip(*pairs, strict=True))
    # Equal buckets of several histograms need not be put together: they lie side by side.
    order = np.argsort(buckets)
    through = np.cumsum(counts[order])
    place = np.searchsorted(through, math.ceil(share * int(through[-1])))
    return int(buckets[order[place]])


def unnested(sizes: bytes, buckets: bytes, counts: bytes) -> tuple[Numbers, Numbers, Numbers]:
    """Give the elements of many pairs of arrays in one go: whose pair, which bucket, what count.

    Args:
        sizes: The length of each pair, 4 bytes, big-endian.
        buckets: The first of each pair, one behind the other.
        counts: The second, likewise.
    """
    lengths = np.frombuffer(sizes, ">i4").astype(np.int64)
    pairs = np.repeat(np.arange(len(lengths)), lengths)
    within = np.arange(len(pairs)) - (np.cumsum(lengths) - lengths)[pairs]
    return (
        pairs,
        _elements(buckets, _SMALL, lengths, pairs, within),
        _elements(counts, _BIG, lengths, pairs, within),
    )


def _elements(
    sent: bytes, element: np.dtype[Any], lengths: Numbers, arrays: Numbers, within: Numbers
) -> Numbers:
    ends = np.cumsum(_HEAD + lengths * element.itemsize)
    starts = ends - lengths * element.itemsize
    value = element["value"]
    places = starts[arrays] + within * element.itemsize + element.itemsize - value.itemsize
    # A value at every byte, of which those are taken that are one.
    anywhere: Any = np.ndarray((max(len(sent) - value.itemsize + 1, 0),), value, sent, strides=(1,))
    found: Numbers = anywhere[places].astype(np.int64)
    return found


def set_bits(sketches: bytes) -> list[int]:
    """Give how many bits are set in the union of some sketches, by component.

    Args:
        sketches: Pairs of the words' numbers and bits.
    """
    union = np.zeros(COMPONENTS * WORDS_PER_COMPONENT, np.int64)
    for words, bits in _pairs(sketches):
        union[words] |= bits
    amounts = np.bitwise_count(union.view(np.uint64)).reshape(COMPONENTS, WORDS_PER_COMPONENT)
    found: list[int] = amounts.sum(axis=1).tolist()
    return found


def _pairs(sent: bytes) -> Iterator[tuple[Numbers, Numbers]]:
    place = 0
    while place < len(sent):
        count = int.from_bytes(sent[place + 12 : place + 16])
        small = np.frombuffer(sent, _SMALL, count, place + _HEAD)["value"]
        place += _HEAD + count * _SMALL.itemsize
        big = np.frombuffer(sent, _BIG, count, place + _HEAD)["value"]
        place += _HEAD + count * _BIG.itemsize
        yield small.astype(np.int64), big.astype(np.int64)
