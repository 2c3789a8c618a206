"""Processes of an earlier PostgreSQL on the same folder, and the pid file it left.

PostgreSQL itself takes a dead process that nobody reaped (process 1 of a container may not), or
another program that got the old number, for a live postmaster. Here the working folder of a
process tells, which is PGDATA for everything PostgreSQL runs.
"""

from __future__ import annotations

import asyncio
import contextlib
import os
import signal
import time
from pathlib import Path

from fernando_telemetry.domain.errors import StartupError
from fernando_telemetry.embedded.postmaster import POLL_SECONDS, read_pid_file

# How long a postmaster that shows no sign of ending is waited for: after the owner's death the
# signal to end is on its way.
_PATIENCE_SECONDS = 5.0
# A backend in the middle of a computation does not notice that its postmaster is dead.
_QUIT_AFTER_SECONDS = 1.0
_KILL_AFTER_SECONDS = 3.0


async def clear_leftovers(pgdata: Path, timeout_seconds: float) -> None:
    """Wait for processes of an earlier run that are just ending, then remove its pid file.

    The caller holds the owner's lock. Without /proc (macOS) it leaves all to PostgreSQL.

    Args:
        pgdata: PostgreSQL's data directory.
        timeout_seconds: How long a shutdown may take that has begun.

    Raises:
        StartupError: A PostgreSQL runs on this folder and is not ending.
    """
    if not os.access("/proc/self/cwd", os.F_OK):
        return
    begun = time.monotonic()
    while left := processes_in(pgdata):
        waited = time.monotonic() - begun
        found = read_pid_file(pgdata)
        if found is not None and found.pid in left:
            patience = timeout_seconds if found.status == "stopping" else _PATIENCE_SECONDS
            if waited > patience:
                raise StartupError(
                    f"A PostgreSQL that this program did not start (process {found.pid}) runs on "
                    f"{pgdata}; stop it with `kill -INT {found.pid}` and start again."
                )
        elif waited > timeout_seconds:
            raise StartupError(
                f"Processes of an earlier PostgreSQL on {pgdata} do not end: "
                f"{', '.join(map(str, left))}."
            )
        elif waited > _QUIT_AFTER_SECONDS:
            _signal(left, signal.SIGKILL if waited > _KILL_AFTER_SECONDS else signal.SIGQUIT)
        await asyncio.sleep(POLL_SECONDS)
    with contextlib.suppress(FileNotFoundError):
        (pgdata / "postmaster.pid").unlink()


def processes_in(pgdata: Path) -> list[int]:
    """Give the live processes of PostgreSQL on a data directory; a zombie is not one."""
    wanted = os.path.realpath(pgdata)
    return [int(entry) for entry in os.listdir("/proc") if _is_in(entry, wanted)]  # noqa: PTH208


def _is_in(entry: str, wanted: str) -> bool:
    if not entry.isdigit():
        return False
    try:
        # A zombie has no working folder any more: reading it fails. Others, such as a shell, may
        # stand in the folder too.
        if os.readlink(f"/proc/{entry}/cwd") != wanted:  # noqa: PTH115
            return False
        return Path(f"/proc/{entry}/comm").read_text(encoding="ascii").strip() == "postgres"
    except (OSError, UnicodeDecodeError):
        return False


def _signal(pids: list[int], number: signal.Signals) -> None:
    for pid in pids:
        with contextlib.suppress(ProcessLookupError, PermissionError):
            os.kill(pid, number)
