"""Sketches of the users of an hour: by type, and by type, category and licence."""

from __future__ import annotations

from typing import Final

from fernando_telemetry.storage.event_user_deltas import (
    EVENT_USER_DELTA_COLUMNS,
    event_user_deltas,
)
from fernando_telemetry.storage.partitions import EVENT_USER_DELTAS
from fernando_telemetry.storage.rollup import Comparison, Expiry, Proof, RebuildStatement, Rollup
from fernando_telemetry.storage.statements import load
from fernando_telemetry.storage.user_places import UserPlaces

sql = load("event_user_rollup")

_places_of: Final = UserPlaces()


EVENT_USER_ROLLUP: Final = Rollup(
    "event_user",
    EVENT_USER_DELTAS,
    lambda fresh, _, flushed_at: event_user_deltas(fresh, flushed_at, _places_of),
    EVENT_USER_DELTA_COLUMNS,
    sql.fold,
    lambda oldest: (oldest["hour"],),
    sql.make_up,
    (Expiry(sql.expire_hours, "hour"), Expiry(sql.expire_type_hours, "hour")),
    Proof(
        "telemetry_events",
        "event",
        (
            Comparison("event_user_hours", sql.compare_hours, "hour"),
            Comparison(
                "event_type_user_hours",
                sql.compare_type_hours,
                "hour",
                proved_by="event_user_hours",
            ),
        ),
        (
            RebuildStatement(sql.forget_deltas),
            RebuildStatement(sql.forget_hours),
            RebuildStatement(sql.forget_type_hours),
            RebuildStatement(sql.fill_hours, "hour"),
            RebuildStatement(sql.fill_type_hours, "hour"),
        ),
    ),
)
