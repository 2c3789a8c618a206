"""Checks of time columns."""

from __future__ import annotations

from typing import Any

import numpy as np
import pyarrow as pa

from fernando_telemetry.ingest.checks.context import LAST_SECOND
from fernando_telemetry.ingest.columnar.texts import Integers, Mask, list_lengths

TIMESTAMP = pa.timestamp("us", "UTC")


def stamps(array: Any, absent: Integers, oldest: int, newest: int, suspects: Mask) -> Integers:
    """Check a Timestamp column (see twin.py).

    Args:
        array: Lists of none, one, or (where the sender repeated the field) more stamps.
        absent: Microseconds for rows without a stamp.
        oldest: First accepted Unix second.
        newest: Last accepted one.
        suspects: Rows not accepted are marked here.

    Returns:
        Unix microseconds; suspects have any value.
    """
    lengths = list_lengths(array)
    flat = array.flatten()
    seconds = flat.field(0).to_numpy(zero_copy_only=False)
    nanos = flat.field(1).to_numpy(zero_copy_only=False)
    one = lengths == 1
    if not one.all():
        suspects |= lengths > 1
        starts = np.cumsum(lengths) - lengths
        places = starts[one]
        seconds, nanos = seconds[places], nanos[places]
    last = min(newest, LAST_SECOND)
    good = (seconds >= oldest) & (seconds <= last) & (nanos >= 0) & (nanos < 1_000_000_000)
    if not good.all():
        seconds = np.where(good, seconds, 0)
        nanos = np.where(good, nanos, 0)
    micros: Integers = seconds * 1_000_000 + nanos // 1000
    if one.all():
        suspects |= ~good
        return micros
    every = absent.copy()
    every[one] = micros
    suspects[np.flatnonzero(one)[~good]] = True
    return every


def timestamps(micros: Integers) -> pa.Array:
    """Give microseconds as a column of times."""
    return pa.Array.from_buffers(TIMESTAMP, len(micros), [None, pa.py_buffer(micros)])
