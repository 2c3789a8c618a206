"""Arrays as PostgreSQL sends them, merged as plain Python would."""

from __future__ import annotations

import math
import random
import struct
from collections import Counter
from collections.abc import Mapping

from fernando_telemetry.domain.user_sketch import COMPONENTS, WORDS_PER_COMPONENT
from fernando_telemetry.storage.sent_arrays import percentile_bucket, set_bits


def _sent(values: Mapping[int, int]) -> bytes:
    """Write keys as smallint[] and values as bigint[], one behind the other."""
    small = b"".join(struct.pack(">ih", 2, one) for one in values)
    big = b"".join(struct.pack(">iq", 8, one) for one in values.values())
    heads = [struct.pack(">iiiii", 1, 0, type_oid, len(values), 1) for type_oid in (21, 20)]
    return heads[0] + small + heads[1] + big


def _percentile(histograms: list[Counter[int]], share: float) -> int | None:
    merged = sum(histograms, Counter[int]())
    through = 0
    for bucket in sorted(merged):
        through += merged[bucket]
        if through >= math.ceil(share * merged.total()):
            return bucket
    return None


def test_the_percentile_is_that_of_all_histograms_together() -> None:
    chance = random.Random(7)
    for _ in range(200):
        histograms = [
            Counter(
                {
                    chance.choice([-32_768, *range(-60, 300)]): chance.randrange(1, 10**12)
                    for _ in range(chance.randrange(1, 40))
                }
            )
            for _ in range(chance.randrange(4))
        ]
        sent = b"".join(_sent(one) for one in histograms)
        for share in (0.01, 0.5, 0.95, 1.0):
            assert percentile_bucket(sent, share) == _percentile(histograms, share)


def test_no_histogram_has_no_percentile() -> None:
    assert percentile_bucket(b"", 0.95) is None


def test_bits_are_those_of_the_union() -> None:
    chance = random.Random(8)
    words = COMPONENTS * WORDS_PER_COMPONENT
    for _ in range(50):
        union = [0] * words
        sent = b""
        for _ in range(chance.randrange(4)):
            sketch = {
                word: chance.randrange(-(2**63), 2**63)
                for word in sorted(chance.sample(range(words), chance.randrange(1, words)))
            }
            for word, bits in sketch.items():
                union[word] |= bits & (2**64 - 1)
            sent += _sent(sketch)
        expected = [
            sum(one.bit_count() for one in union[first : first + WORDS_PER_COMPONENT])
            for first in range(0, words, WORDS_PER_COMPONENT)
        ]
        assert set_bits(sent) == expected
