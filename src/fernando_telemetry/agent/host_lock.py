"""One agent per host: a lock on a file in a place all processes of the host share.

The kernel frees the lock when its holder ends, however it ends. The file stays: were it
removed, a third agent could lock the new file while a second one holds the old.
"""

from __future__ import annotations

import fcntl
import json
import os
import re
import tempfile
from dataclasses import dataclass
from pathlib import Path
from types import TracebackType
from typing import Final, Self

from fernando_telemetry.domain.errors import StartupError

_RUN_LOCK: Final = Path("/run/lock")


@dataclass(frozen=True, slots=True)
class LockHeld:
    """Somebody else has the lock.

    Attributes:
        path: The lock file.
        holder: Who, as the holder wrote it, such as `serve, pid 42`; "" if that is not readable.
    """

    path: Path
    holder: str

    def __str__(self) -> str:
        return f"{self.holder or 'another process'} holds {self.path}"


def default_lock_path(host_name: str) -> Path:
    """Give the lock file of a host: in /run/lock where this user may write, else in the temp dir.

    By host name, as the producer's id is: containers that share /run/lock have names of their
    own and may each have an agent.
    """
    folder = _RUN_LOCK if os.access(_RUN_LOCK, os.W_OK) else Path(tempfile.gettempdir())
    name = re.sub(r"[^A-Za-z0-9._-]", "-", host_name)[:128]
    return folder / f"fernando-telemetry-agent-{name}.lock"


class HostLock:
    """A lock that is held until `release`, or until this process ends."""

    def __init__(self, path: Path, descriptor: int) -> None:
        self.path = path
        self._descriptor: int | None = descriptor

    @classmethod
    def acquire(cls, path: Path, owner: str) -> HostLock | LockHeld:
        """Take the lock, or say who has it; does not wait.

        Args:
            path: The lock file; its folder exists.
            owner: What this process calls itself, for others to read; a pid is added.

        Raises:
            StartupError: The file can be neither opened nor made.
        """
        descriptor = _open(path)
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            holder = _read_holder(descriptor)
            os.close(descriptor)
            return LockHeld(path, holder)
        except OSError as error:
            os.close(descriptor)
            raise StartupError(f"The agent's lock {path} does not work: {error}.") from None
        _write_holder(descriptor, owner)
        return cls(path, descriptor)

    def release(self) -> None:
        """Give the lock back; more calls do nothing."""
        if self._descriptor is not None:
            os.close(self._descriptor)
            self._descriptor = None

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        self.release()


def _open(path: Path) -> int:
    # A link planted in a shared folder must not make us write elsewhere. O_CREAT only where the
    # file is missing: in sticky folders Linux refuses it for another user's file, even to root.
    flags = os.O_RDWR | os.O_NOFOLLOW | os.O_CLOEXEC
    try:
        return os.open(path, flags)
    except FileNotFoundError:
        pass
    except PermissionError:
        # Another user's: enough to see whether it is locked, and to lock it.
        return _or_refuse(path, os.O_RDONLY | os.O_NOFOLLOW | os.O_CLOEXEC)
    except OSError as error:
        raise StartupError(f"The agent's lock {path} cannot be opened: {error}.") from None
    return _or_refuse(path, flags | os.O_CREAT)


def _or_refuse(path: Path, flags: int) -> int:
    try:
        return os.open(path, flags, 0o644)
    except OSError as error:
        raise StartupError(f"The agent's lock {path} cannot be opened: {error}.") from None


def _write_holder(descriptor: int, owner: str) -> None:
    text = json.dumps({"owner": owner, "pid": os.getpid()}).encode()
    try:
        os.ftruncate(descriptor, 0)
        os.pwrite(descriptor, text, 0)
    except OSError:
        return  # another user's file: the lock holds all the same, without a name


def _read_holder(descriptor: int) -> str:
    try:
        holder = json.loads(os.pread(descriptor, 4096, 0))
        return f"{holder['owner']}, pid {int(holder['pid'])}"
    except (OSError, ValueError, KeyError, TypeError):
        return ""
