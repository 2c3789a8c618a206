from __future__ import annotations

from tests.faults.left_behind import run_folder, stopped

__all__ = ["run_folder", "stopped"]
