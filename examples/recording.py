"""What the readers of recorded files share: the shift of times, batches, names of log lines."""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from datetime import date, datetime, timedelta
from typing import Final, TypeVar

# 500 records of the longest lines are about 300 KiB. A batch must stay under the 512 KiB that a
# server grants at the least, so that a batch of a file has the same number at every run.
BATCH_RECORDS: Final = 500

_Record = TypeVar("_Record")

_VARYING: Final = re.compile(
    r"[0-9a-f]{8}(?:-[0-9a-f]{4}){3}-[0-9a-f]{12}"  # UUIDs
    r"|\b[0-9a-f]{32,40}\b"  # ids and hashes without dashes
    r"|(?<![A-Za-z0-9_])-?\d+(?:[.:-]\d+)*"  # numbers, dates, times, addresses
)
_NAME_CHARACTERS: Final = 200


def shift_to(newest: datetime, last_day: date | None) -> timedelta:
    """Give the whole days that move `newest` to `last_day`; None moves nothing.

    Whole days keep the hour of each row, so that daily patterns stay where they were.
    """
    return timedelta(0) if last_day is None else last_day - newest.date()


def chunks(records: Sequence[_Record], size: int = BATCH_RECORDS) -> Iterator[Sequence[_Record]]:
    """Cut into parts of `size` records, in their order."""
    for start in range(0, len(records), size):
        yield records[start : start + size]


def message_name(message: str) -> str:
    """Give the part of a log message that does not vary, as an event's name.

    Ids, numbers and addresses become `#`: names are a small vocabulary that summaries group by.
    """
    return _VARYING.sub("#", message)[:_NAME_CHARACTERS].strip()


def unreadable(source: str, number: int) -> ValueError:
    """Give the error of a line (counted from 1) that is not of its file's format."""
    return ValueError(f"{source}, line {number}: not of the format of this file")
