"""The roll-up of events by hour, type, category, name, licence and source, and by type alone."""

from __future__ import annotations

from typing import Any, Final

from fernando_telemetry.domain.limits import EVENT_NAMES_PER_HOUR
from fernando_telemetry.storage.event_deltas import EVENT_DELTA_COLUMNS, event_deltas
from fernando_telemetry.storage.partitions import EVENT_DELTAS
from fernando_telemetry.storage.rollup import (
    Comparison,
    Expiry,
    Oldest,
    Proof,
    RebuildStatement,
    Rollup,
)
from fernando_telemetry.storage.statements import load

sql = load("event_rollup")


def _fold_arguments(oldest: Oldest) -> tuple[Any, ...]:
    return (EVENT_NAMES_PER_HOUR, oldest["hour"])


EVENT_ROLLUP: Final = Rollup(
    "event",
    EVENT_DELTAS,
    lambda fresh, _, flushed_at: event_deltas(fresh, flushed_at),
    EVENT_DELTA_COLUMNS,
    sql.fold,
    _fold_arguments,
    sql.make_up,
    (
        Expiry(sql.expire_hours, "hour"),
        Expiry(sql.expire_type_hours, "hour"),
        Expiry(sql.expire_names, "hour"),
    ),
    Proof(
        "telemetry_events",
        "event",
        (
            Comparison("event_hours", sql.compare_hours, "hour", (EVENT_NAMES_PER_HOUR,)),
            Comparison("event_type_hours", sql.compare_type_hours, "hour", proved_by="event_hours"),
        ),
        (
            RebuildStatement(sql.forget_deltas),
            RebuildStatement(sql.forget_hours),
            RebuildStatement(sql.forget_type_hours),
            RebuildStatement(sql.forget_names),
            RebuildStatement(sql.fill_names, "hour", (EVENT_NAMES_PER_HOUR,)),
            RebuildStatement(sql.fill_hours, "hour"),
            RebuildStatement(sql.fill_type_hours, "hour"),
        ),
    ),
)
