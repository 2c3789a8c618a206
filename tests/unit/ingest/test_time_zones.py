"""Time zones of KPIs do not depend on what the system has installed."""

from __future__ import annotations

import os
import subprocess
import sys

PROGRAM = """
from zoneinfo import TZPATH
from fernando_telemetry.ingest.checks.business_metric import _zone
assert TZPATH == (), TZPATH
assert all(_zone(name) is not None for name in ("UTC", "Europe/Berlin"))
assert _zone("Europe/Nowhere") is None
"""


def test_zones_are_known_without_the_systems_database() -> None:
    ended = subprocess.run(
        [sys.executable, "-c", PROGRAM],
        env=os.environ | {"PYTHONTZPATH": ""},
        capture_output=True,
        text=True,
        check=False,
    )
    assert ended.returncode == 0, ended.stderr
