"""The advisory locks of the control database that let one server, or one session, do something.

Lanes have locks of their own (sql/flush.sql), and so has leading (sql/leadership.sql).
"""

from __future__ import annotations

from enum import IntEnum, unique
from typing import Final

LOCK_CLASS: Final = 1179603533
"""The first of a lock's two numbers: ours, among the programs that use the database."""


@unique
class Lock(IntEnum):
    """The second number; none is ever given to something else."""

    MIGRATING = 1
    MAKING_PARTITIONS = 2
    SEALING = 3
    SUMMARISING = 4
    CLEANING_REJECTED = 5
    EXPIRING_SERIES = 6
    EXPIRING_REQUESTS = 7
    DROPPING = 8
    FOLDING = 9
    CLEANING_UP = 10
    CLOSING_GAPS = 11

    @property
    def figure(self) -> str:
        """The name by which statements have it in braces: {sealing_lock}."""
        return f"{self.name.lower()}_lock"

    @property
    def arguments(self) -> str:
        """Both numbers, as PostgreSQL's functions take them."""
        return f"{LOCK_CLASS}, {self.value}"
