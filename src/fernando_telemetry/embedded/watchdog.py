"""Stops PostgreSQL when the process that wanted it is gone, without the kernel's help.

Run as a program of its own, `python -I -S watchdog.py PGDATA QUIT_SECONDS`, with the read end of
a pipe as its stdin, and imports nothing of the package. Only the owner holds the write end: the
end of the file is the owner's end, however it came. Then it asks the postmaster named by
`postmaster.pid` for a fast shutdown and, after QUIT_SECONDS, for an immediate one.
"""

from __future__ import annotations

import contextlib
import os
import signal
import sys
import time

# A postmaster started in the owner's last moment has not written its pid file yet.
APPEARS_WITHIN_SECONDS = 3.0
PAUSE_SECONDS = 0.05


def main(arguments: list[str]) -> int:
    """Wait for the owner's end, then for PostgreSQL's."""
    pgdata, quit_seconds = arguments[0], float(arguments[1])
    while os.read(0, 64):
        pass
    ended = time.monotonic()
    told: set[tuple[int, int]] = set()
    while True:
        waited = time.monotonic() - ended
        pid = _postmaster(pgdata)
        if pid is None:
            if told or waited > APPEARS_WITHIN_SECONDS:
                return 0
        else:
            number = signal.SIGQUIT if waited > quit_seconds else signal.SIGINT
            if (pid, number) not in told:
                told.add((pid, number))
                os.kill(pid, number)
        time.sleep(PAUSE_SECONDS)


def _postmaster(pgdata: str) -> int | None:
    """Give the live postmaster of the data directory."""
    with contextlib.suppress(OSError, ValueError, IndexError):
        with open(f"{pgdata}/postmaster.pid", encoding="utf-8") as file:  # noqa: PTH123
            pid = int(file.readline())
        os.kill(pid, 0)
        return pid
    return None


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
