"""Groups of a flush's rows are what a plain count of rows says, however many words there are."""

from __future__ import annotations

import random
from collections import Counter
from datetime import UTC, datetime

import numpy as np
import pyarrow as pa
import pytest

from fernando_telemetry.storage.row_groups import HOUR_MICROS, Words, group_rows

FIRST = 495_000


@pytest.mark.parametrize(
    ("words", "columns"), [(3, 2), (3, 5), (6_000, 5)], ids=["few", "more", "beyond-64-bits"]
)
def test_groups_are_what_a_count_says(words: int, columns: int) -> None:
    chance = random.Random(words)
    rows = [
        [chance.choice([None, f"w{chance.randrange(words)}"]) for _ in range(columns)]
        for _ in range(9_000)
    ]
    micros = np.array([(FIRST + chance.randrange(3)) * HOUR_MICROS + 5 for _ in rows], np.int64)
    numbered = [Words.of(pa.array([row[place] for row in rows])) for place in range(columns)]
    keys = [
        (
            datetime.fromtimestamp(int(time) // HOUR_MICROS * 3_600, UTC),
            *(word or "" for word in row),
        )
        for time, row in zip(micros, rows, strict=True)
    ]
    groups = group_rows(numbered, micros, HOUR_MICROS)
    found = list(
        zip(groups.times.to_pylist(), *(one.to_pylist() for one in groups.keys), strict=True)
    )
    assert dict(zip(found, groups.counts.tolist(), strict=True)) == Counter(keys)
    assert [found[code] for code in groups.codes] == keys
