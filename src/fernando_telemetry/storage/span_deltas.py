"""What a flush adds to the span roll-up: its own spans grouped, one delta a group."""

from __future__ import annotations

from datetime import datetime
from typing import Final

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from fernando_telemetry.storage.fresh_rows import FreshRows
from fernando_telemetry.storage.row_groups import MINUTE_MICROS, SHARD, TIME, duration_sums
from fernando_telemetry.storage.rows import SPANS

SPAN_KEYS: Final = ("license_id", "service_name", "operation_name")
SPAN_DELTA_COLUMNS: Final = (
    "flushed_at",
    "shard",
    "minute",
    *SPAN_KEYS,
    "span_count",
    "error_count",
    "duration_count",
    "duration_sum",
    "duration_buckets",
    "duration_counts",
)


def span_deltas(fresh: FreshRows, flushed_at: datetime) -> pa.RecordBatch | None:
    """Group the spans of a flush.

    Args:
        fresh: Its fresh rows.
        flushed_at: The flush's time by the database's clock.

    Returns:
        A row of SPAN_DELTA_COLUMNS for each minute and key; None where there are no spans.
    """
    rows = fresh.of(SPANS)
    if not len(rows):
        return None
    groups = rows.groups(MINUTE_MICROS, SPAN_KEYS)
    failed = pc.fill_null(pc.equal(rows.column("status"), "error"), fill_value=False)
    is_error = failed.to_numpy(zero_copy_only=False)
    errors = np.bincount(groups.codes[is_error], minlength=len(groups))
    return pa.RecordBatch.from_arrays(
        [
            pa.repeat(pa.scalar(flushed_at, TIME), len(groups)),
            pa.repeat(pa.scalar(SHARD, pa.int16()), len(groups)),
            groups.times,
            *groups.keys,
            pa.array(groups.counts),
            pa.array(errors),
            *duration_sums(rows.column("duration_ms"), groups),
        ],
        names=list(SPAN_DELTA_COLUMNS),
    )
