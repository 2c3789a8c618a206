"""All roll-ups."""

from __future__ import annotations

from typing import Final

from fernando_telemetry.storage.event_rollup import EVENT_ROLLUP
from fernando_telemetry.storage.event_user_rollup import EVENT_USER_ROLLUP
from fernando_telemetry.storage.rollup import Rollup
from fernando_telemetry.storage.sample_rollup import SAMPLE_ROLLUP
from fernando_telemetry.storage.span_rollup import SPAN_ROLLUP

ROLLUPS: Final[tuple[Rollup, ...]] = (
    EVENT_ROLLUP,
    EVENT_USER_ROLLUP,
    SAMPLE_ROLLUP,
    SPAN_ROLLUP,
)
