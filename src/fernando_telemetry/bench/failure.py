"""The one way a benchmark fails: a sentence."""

from __future__ import annotations

from fernando_telemetry.domain.errors import TelemetryError


class BenchFailed(TelemetryError):
    """The benchmark has no figure to give; the sentence says why."""
