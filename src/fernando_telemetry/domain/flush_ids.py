"""Flush ids and commit tokens: which lane, which flush of it, and how clients are told.

`flush_id = lane << 40 | number`. A commit token is the flush id as 16 hex digits; clients take it
as opaque. Both count from 1.
"""

from __future__ import annotations

import re
from typing import Final

from fernando_telemetry.domain.errors import InvalidField

LANE_SHIFT: Final = 40
NUMBER_MASK: Final = (1 << LANE_SHIFT) - 1
# A flush id is an int8, and so is the first one of the lane behind.
LAST_LANE: Final = (1 << 63 - LANE_SHIFT) - 2
_TOKEN = re.compile(r"[0-9a-f]{16}")


def flush_id_of(lane: int, number: int) -> int:
    """Give the id of a lane's flush; number 0 stands before the first."""
    return lane << LANE_SHIFT | number


def lane_of(flush_id: int) -> int:
    """Give the lane of a flush."""
    return flush_id >> LANE_SHIFT


def number_of(flush_id: int) -> int:
    """Give a flush's number in its lane."""
    return flush_id & NUMBER_MASK


def commit_token(flush_id: int) -> str:
    """Give the token of a flush."""
    return f"{flush_id:016x}"


def parse_commit_token(token: str, field: str) -> int | None:
    """Give the flush that a token names; None for "".

    Args:
        token: As the caller gave it.
        field: Whose value it is.

    Raises:
        InvalidField: No server ever gave such a token.
    """
    if not token:
        return None
    flush_id = int(token, 16) if _TOKEN.fullmatch(token) else 0
    if not 0 < lane_of(flush_id) <= LAST_LANE or not number_of(flush_id):
        raise InvalidField(field, "it is damaged: give the commit_token of an ack as it came.")
    return flush_id
