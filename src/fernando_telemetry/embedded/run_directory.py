"""The folder of the unix socket: short (a socket's path has 107 bytes) and private.

The data directory's own path may be as long as it likes. `-A trust` lets everyone in who reaches
the socket, so the folder is 0700 and its owner is checked: somebody else may have made a folder,
or a symbolic link, of that name before.
"""

from __future__ import annotations

import contextlib
import hashlib
import os
import re
import stat
import tempfile
from pathlib import Path

from fernando_telemetry.domain.errors import StartupError
from fernando_telemetry.embedded.privileges import Identity, is_reachable, owned_uids

SOCKET_PATH_MAX_BYTES = 107
PORT = 5432
SOCKET_NAME = f".s.PGSQL.{PORT}"
# PostgreSQL and asyncpg both split a list of hosts at commas; others need quoting somewhere.
_PLAIN_PATH = re.compile(r"/[A-Za-z0-9/_.+-]*")


def make_run_directory(data_dir: Path, identity: Identity) -> Path:
    """Make the folder, or take over and clear the one an earlier start left.

    For the owner of the data directory, when no PostgreSQL runs on it. `identity` gets the folder.

    Raises:
        StartupError: No place is short enough, reachable and safe.
    """
    digest = hashlib.sha256(os.fsencode(data_dir.resolve())).hexdigest()[:12]
    name = f"fernando-telemetry-{os.getuid()}-{digest}"
    reasons = []
    for base in _bases(data_dir):
        try:
            return _claim(base, name, identity)
        except (OSError, ValueError) as error:
            reasons.append(f"{base}: {error}")
    raise StartupError(
        "No folder is fit for the PostgreSQL socket "
        f"({'; '.join(reasons)}); let XDG_RUNTIME_DIR or TMPDIR name a short folder of your own."
    )


def remove_run_directory(directory: Path) -> None:
    """Remove the folder if PostgreSQL took its socket away, as it does unless it was killed."""
    with contextlib.suppress(OSError):
        directory.rmdir()


def _bases(data_dir: Path) -> list[Path]:
    runtime = os.environ.get("XDG_RUNTIME_DIR")
    named = [Path(runtime)] if runtime else []
    places = [*named, Path(tempfile.gettempdir()), Path("/tmp"), data_dir]  # noqa: S108
    return list(dict.fromkeys(places))


def _claim(base: Path, name: str, identity: Identity) -> Path:
    directory = base / name
    if not _PLAIN_PATH.fullmatch(str(directory)):
        raise ValueError("its path is relative or has unusual characters")
    if len(os.fsencode(directory / SOCKET_NAME)) > SOCKET_PATH_MAX_BYTES:
        raise ValueError(f"a socket's path has at most {SOCKET_PATH_MAX_BYTES} bytes")
    if not is_reachable(base, identity):
        raise ValueError(f"user {identity.name} cannot reach it")
    _refuse_rename_by_others(base)
    with contextlib.suppress(FileExistsError):
        directory.mkdir(mode=0o700)
    # A handle, not the path again: what is checked is what is then changed.
    handle = os.open(directory, os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW)
    try:
        found = os.fstat(handle)
        if found.st_uid not in owned_uids():
            raise ValueError(f"{name} in it belongs to uid {found.st_uid}")
        if found.st_uid != identity.uid:
            os.fchown(handle, identity.uid, identity.gid)
        os.fchmod(handle, 0o700)
        # Of a postmaster that was killed. A new one would believe the number in the lock file, be
        # it a zombie's or another program's; the data directory is guarded otherwise.
        for leftover in (SOCKET_NAME, f"{SOCKET_NAME}.lock"):
            with contextlib.suppress(FileNotFoundError):
                os.unlink(leftover, dir_fd=handle)
    finally:
        os.close(handle)
    return directory


def _refuse_rename_by_others(base: Path) -> None:
    found = base.stat()
    open_to_all = found.st_mode & (stat.S_IWGRP | stat.S_IWOTH)
    if found.st_uid not in {0, os.getuid()} or (open_to_all and not found.st_mode & stat.S_ISVTX):
        raise ValueError("others may replace folders in it")
