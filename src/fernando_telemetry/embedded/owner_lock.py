"""One owner a data directory, and how other commands find it.

The lock is `flock` on `owner.lock`: the kernel drops it when the owner ends, however it ends. It
works between containers that share the folder, as a process id would not.
"""

from __future__ import annotations

import asyncio
import contextlib
import fcntl
import json
import os
import time
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from fernando_telemetry.domain.errors import StartupError

LOCK_NAME = "owner.lock"
SERVER_NAME = "server.json"
# `running_server` holds the lock for a moment to see whether it is free.
_PATIENCE_SECONDS = 1.0
_PAUSE_SECONDS = 0.02


@dataclass(frozen=True)
class RunningServer:
    """What a live owner wrote about itself.

    Args:
        pid: The process that owns the data directory (not PostgreSQL's).
        dsn: Of its PostgreSQL, for psql and asyncpg.
        grpc_address: `host:port`, or None while it does not serve.
        started_at: RFC 3339, UTC.
    """

    pid: int
    dsn: str
    grpc_address: str | None
    started_at: str


class OwnerLock:
    """The lock of this process on a data directory, from `acquire` to `release`."""

    def __init__(self, handle: int) -> None:
        self._handle = handle

    @classmethod
    async def acquire(cls, data_dir: Path) -> OwnerLock:
        """Take the lock; waits up to a second if somebody else holds it.

        Raises:
            StartupError: Another process owns the folder; the sentence names its process id.
            OSError: The lock file cannot be made or opened.
        """
        handle = os.open(data_dir / LOCK_NAME, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
        try:
            await cls._take(handle, data_dir)
        except BaseException:
            os.close(handle)
            raise
        # A full disk may refuse this; the lock holds without it.
        with contextlib.suppress(OSError):
            os.ftruncate(handle, 0)
            os.pwrite(handle, f"{os.getpid()}\n".encode(), 0)
        return cls(handle)

    @staticmethod
    async def _take(handle: int, data_dir: Path) -> None:
        deadline = time.monotonic() + _PATIENCE_SECONDS
        while True:
            try:
                fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except BlockingIOError:
                if time.monotonic() > deadline:
                    owner = os.pread(handle, 32, 0).decode("ascii", "replace").strip()
                    raise StartupError(
                        f"Process {owner or '(unknown)'} already serves {data_dir}; stop it "
                        "first, or let FERNANDO_DATA_DIR name another folder."
                    ) from None
                await asyncio.sleep(_PAUSE_SECONDS)
            else:
                return

    def release(self) -> None:
        """Let others own the folder. Called again it does nothing."""
        if self._handle >= 0:
            os.close(self._handle)
            self._handle = -1


def write_server_file(data_dir: Path, fields: dict[str, Any]) -> None:
    """Write `server.json`, readable by its owner only, at once or not at all.

    Raises:
        OSError: The folder cannot be written.
    """
    target = data_dir / SERVER_NAME
    fresh = target.with_suffix(".json.new")
    fresh.unlink(missing_ok=True)
    handle = os.open(fresh, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o600)
    with os.fdopen(handle, "w", encoding="utf-8") as file:
        json.dump(fields, file)
    fresh.replace(target)


def remove_server_file(data_dir: Path) -> None:
    """Remove `server.json`; that it is not there or cannot be removed is no error."""
    with contextlib.suppress(OSError):
        (data_dir / SERVER_NAME).unlink()


def running_server(data_dir: Path) -> RunningServer | None:
    """Tell which live server owns a data directory; None: none, or it is just starting."""
    try:
        handle = os.open(data_dir / LOCK_NAME, os.O_RDONLY | os.O_CLOEXEC)
    except OSError:
        return None
    try:
        # Shared, so that two commands asking at once do not take each other for the owner.
        fcntl.flock(handle, fcntl.LOCK_SH | fcntl.LOCK_NB)
    except BlockingIOError:
        return _read_server_file(data_dir)
    finally:
        os.close(handle)
    return None


def _read_server_file(data_dir: Path) -> RunningServer | None:
    try:
        fields = json.loads((data_dir / SERVER_NAME).read_text(encoding="utf-8"))
        return RunningServer(
            pid=int(fields["pid"]),
            dsn=str(fields["dsn"]),
            grpc_address=fields.get("grpc_address"),
            started_at=str(fields["started_at"]),
        )
    except (OSError, ValueError, KeyError, TypeError):
        return None
