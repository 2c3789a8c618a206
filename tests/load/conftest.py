from __future__ import annotations

from tests.faults.left_behind import stopped

__all__ = ["stopped"]
