"""What programs of PostgreSQL wrote before they failed, and the line of it that says why."""

from __future__ import annotations

import errno
import os
from typing import IO

# While a dead PostgreSQL cannot recover, everybody who tries to reach it leaves a line of some 100
# bytes: a server's sessions, thousands of them, behind the one that says why.
_TAIL_BYTES = 1024**2
_REFUSAL_OF_A_CLIENT = "FATAL:  the database system is "


def tail_lines(file: IO[bytes], since: int = 0) -> list[str]:
    """Give the last lines of a file, at most 1 MiB of it and none from before offset `since`."""
    end = file.seek(0, os.SEEK_END)
    # A log that is shorter now was begun anew.
    file.seek(max(since if since <= end else 0, end - _TAIL_BYTES))
    lines = file.read().decode("utf-8", "replace").splitlines()
    return [line.strip() for line in lines if line.strip()]


def tells_of_full_disk(lines: list[str]) -> bool:
    """Tell whether one of the lines is about a disk, or a quota, that is used up."""
    marks = (os.strerror(errno.ENOSPC), os.strerror(errno.EDQUOT))
    return any(mark in line for line in lines for mark in marks)


def worst_line(lines: list[str]) -> str:
    """Give the line that says most about a failure: the last error, else the last line.

    That clients were refused because PostgreSQL starts, recovers or ends says least of all.
    """
    telling = [line for line in lines if _REFUSAL_OF_A_CLIENT not in line]
    for mark in ("PANIC:", "FATAL:", "ERROR:", "error:"):
        for line in reversed(telling):
            if mark in line:
                return line
    return (telling or lines or ["(it said nothing)"])[-1]
