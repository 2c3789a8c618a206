"""What a flush adds to the sketches of users: the bits of its users, one delta a group."""

from __future__ import annotations

from collections.abc import Callable
from datetime import datetime
from typing import Final

import numpy as np
import pyarrow as pa

from fernando_telemetry.domain.user_sketch import COMPONENT_BITS, COMPONENTS, WORD_BITS
from fernando_telemetry.storage.columns import Integers
from fernando_telemetry.storage.fresh_rows import FreshRows
from fernando_telemetry.storage.row_groups import HOUR_MICROS, SHARD, TIME, lists_by_group, runs
from fernando_telemetry.storage.rows import EVENTS

EVENT_USER_KEYS: Final = ("event_type", "event_category", "license_id")
EVENT_USER_DELTA_COLUMNS: Final = (
    "flushed_at",
    "shard",
    "hour",
    *EVENT_USER_KEYS,
    "user_words",
    "user_bits",
)
_BITS: Final = COMPONENTS * COMPONENT_BITS
_WORDS: Final = _BITS // WORD_BITS


def event_user_deltas(
    fresh: FreshRows, flushed_at: datetime, places_of: Callable[[pa.Array], Integers]
) -> pa.RecordBatch | None:
    """Group the users of a flush.

    Args:
        fresh: Its fresh rows.
        flushed_at: The flush's time by the database's clock.
        places_of: Tells the users' bits.

    Returns:
        A row of EVENT_USER_DELTA_COLUMNS for each hour and key; None where there are no users.
    """
    rows = fresh.of(EVENTS)
    if not len(rows):
        return None
    users = rows.column("user_id")
    if users.null_count == len(users):
        return None
    groups = rows.groups(HOUR_MICROS, EVENT_USER_KEYS)
    codes = groups.codes
    if users.null_count:
        codes = codes[users.is_valid().to_numpy(zero_copy_only=False)]
        users = users.drop_null()
    places, _ = runs(codes * _BITS + places_of(users))
    # A group's words lie side by side, in their order.
    words = places // WORD_BITS
    firsts = np.flatnonzero(np.diff(words, prepend=-1))
    bits = np.uint64(1) << (places % WORD_BITS).astype(np.uint64)
    merged = np.bitwise_or.reduceat(bits, firsts).view(np.int64)
    met = words[firsts]
    deltas = pa.RecordBatch.from_arrays(
        [
            pa.repeat(pa.scalar(flushed_at, TIME), len(groups)),
            pa.repeat(pa.scalar(SHARD, pa.int16()), len(groups)),
            groups.times,
            *groups.keys,
            *lists_by_group(
                met,
                _WORDS,
                len(groups),
                pa.array((met % _WORDS).astype(np.int16)),
                pa.array(merged),
            ),
        ],
        names=list(EVENT_USER_DELTA_COLUMNS),
    )
    if users is rows.column("user_id"):
        return deltas
    has_some = np.bincount(codes, minlength=len(groups)) > 0
    return deltas.filter(pa.array(has_some))
