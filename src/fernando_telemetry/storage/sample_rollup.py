"""The roll-up of plain samples by series and minute, and by series and hour."""

from __future__ import annotations

from typing import Any, Final

from fernando_telemetry.storage.partitions import SAMPLE_DELTAS
from fernando_telemetry.storage.rollup import (
    Comparison,
    Expiry,
    Oldest,
    Proof,
    RebuildStatement,
    Rollup,
)
from fernando_telemetry.storage.sample_deltas import SAMPLE_DELTA_COLUMNS, sample_deltas
from fernando_telemetry.storage.statements import load

sql = load("sample_rollup")


def _fold_arguments(oldest: Oldest) -> tuple[Any, ...]:
    return (oldest["minute"], oldest["hour"])


SAMPLE_ROLLUP: Final = Rollup(
    "sample",
    SAMPLE_DELTAS,
    sample_deltas,
    SAMPLE_DELTA_COLUMNS,
    sql.fold,
    _fold_arguments,
    sql.make_up,
    (Expiry(sql.expire_minutes, "minute"), Expiry(sql.expire_hours, "hour")),
    Proof(
        "metric_samples",
        "system_metric",
        (
            Comparison("sample_minutes", sql.compare_minutes, "minute"),
            Comparison("sample_hours", sql.compare_hours, "hour"),
        ),
        (
            RebuildStatement(sql.forget_deltas),
            RebuildStatement(sql.forget_minutes),
            RebuildStatement(sql.forget_hours),
            RebuildStatement(sql.fill_minutes, "minute"),
            RebuildStatement(sql.fill_hours, "hour"),
        ),
    ),
)
