"""What a flush adds to the event roll-up: its own rows grouped, one delta a group."""

from __future__ import annotations

from datetime import datetime
from typing import Final

import pyarrow as pa

from fernando_telemetry.storage.fresh_rows import FreshRows
from fernando_telemetry.storage.row_groups import HOUR_MICROS, SHARD, TIME, duration_sums
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


def event_deltas(fresh: FreshRows, flushed_at: datetime) -> pa.RecordBatch | None:
    """Group the events of a flush.

    Args:
        fresh: Its fresh rows.
        flushed_at: The flush's time by the database's clock.

    Returns:
        A row of EVENT_DELTA_COLUMNS for each hour and key; None where there are no events.
    """
    rows = fresh.of(EVENTS)
    if not len(rows):
        return None
    groups = rows.groups(HOUR_MICROS, EVENT_KEYS)
    return pa.RecordBatch.from_arrays(
        [
            pa.repeat(pa.scalar(flushed_at, TIME), len(groups)),
            pa.repeat(pa.scalar(SHARD, pa.int16()), len(groups)),
            groups.times,
            *groups.keys,
            pa.array(groups.counts),
            *duration_sums(rows.column("duration_ms"), groups),
        ],
        names=list(EVENT_DELTA_COLUMNS),
    )
