"""The data directory: what lies in it, and what is wrong with it in one sentence.

owner.lock      held by the process that owns the folder
server.json     where that process serves, while it does
pgdata/         PostgreSQL's own data directory
log/            PostgreSQL's log, a file a weekday
programs/       a copy of PostgreSQL's programs, where its user cannot reach the original
initdb-*/       a cluster in the making; removed at the next start
"""

from __future__ import annotations

import contextlib
import errno
import os
import pwd
import shutil
from pathlib import Path

from fernando_telemetry.domain.errors import StartupError
from fernando_telemetry.embedded.binaries import Binaries
from fernando_telemetry.embedded.owner_lock import LOCK_NAME
from fernando_telemetry.embedded.privileges import Identity, owned_uids

HOW_TO_MOVE = "docs/how-to/move-data-to-a-newer-postgresql.md"
HALF_MADE_PREFIX = "initdb-"
LEAST_FREE_BYTES = 1024 * 1024
_FULL = {errno.ENOSPC, errno.EDQUOT}


class NoRoom(StartupError):
    """The disk is full: nothing but room helps, and it may come at any time."""


class DataDirectory:
    """Paths and checks of one data directory; nothing is touched before a method is called."""

    def __init__(self, root: Path) -> None:
        self.root = root
        self.pgdata = root / "pgdata"
        self.log = root / "log"
        self.programs = root / "programs"

    def make(self, identity: Identity) -> None:
        """Make the folder itself, if it may be ours.

        Raises:
            StartupError: It holds other files, is no folder, or cannot be made or written.
        """
        try:
            self.root.mkdir(mode=0o700, parents=True, exist_ok=True)
            self._refuse_foreign()
            if identity.mode == "user":
                self.root.chmod(self.root.stat().st_mode | 0o711)
        except OSError as error:
            raise self.explain(error) from None

    def has_cluster(self) -> bool:
        """Tell whether PostgreSQL's data is there; half of an initdb does not count."""
        return self.pgdata.exists()

    def check_cluster(self, binaries: Binaries) -> None:
        """Refuse a cluster that these binaries cannot run.

        Raises:
            StartupError: Of another major version, or not a cluster.
        """
        try:
            text = (self.pgdata / "PG_VERSION").read_text(encoding="ascii").strip()
        except FileNotFoundError:
            raise StartupError(
                f"{self.pgdata} is not a PostgreSQL data directory (it has no PG_VERSION); move "
                "it away, or let FERNANDO_DATA_DIR name another folder."
            ) from None
        except OSError as error:
            raise self.explain(error) from None
        if text != str(binaries.major):
            raise StartupError(
                f"The data in {self.pgdata} is of PostgreSQL {text} and the programs are "
                f"PostgreSQL {binaries.version} in {binaries.folder}; let FERNANDO_PG_BIN name "
                f"the bin folder of a PostgreSQL {text}, or move the data as {HOW_TO_MOVE} says."
            )

    def check_owner(self) -> None:
        """Refuse a cluster of another user; reads only, so fit to call before the lock.

        Raises:
            StartupError: As it says.
        """
        try:
            owner = self.pgdata.stat().st_uid
        except FileNotFoundError:
            return
        except OSError as error:
            raise self.explain(error) from None
        if owner not in owned_uids():
            raise StartupError(
                f"The data in {self.pgdata} belongs to user {_name_of(owner)} and this is user "
                f"{_name_of(os.getuid())}; run as {_name_of(owner)}, or let FERNANDO_DATA_DIR "
                "name another folder."
            )

    def hand_to(self, identity: Identity) -> None:
        """Make the log folder, and give what PostgreSQL writes to the user it runs as.

        Root may have run it in the other way before: then everything changes owner.

        Raises:
            StartupError: The folder cannot be written.
        """
        try:
            self.log.mkdir(mode=0o700, exist_ok=True)
            for folder in (self.log, self.pgdata):
                if folder.is_dir() and folder.stat().st_uid != identity.uid:
                    _change_owner(folder, identity)
        except OSError as error:
            raise self.explain(error) from None

    def check_room(self) -> None:
        """Refuse to start on a disk that is full or cannot be written.

        Raises:
            StartupError: Less than 1 MiB is free, or a file of that size cannot be written.
        """
        probe = self.root / "room.probe"
        try:
            try:
                probe.write_bytes(bytes(LEAST_FREE_BYTES))
            finally:
                with contextlib.suppress(OSError):
                    probe.unlink()
        except OSError as error:
            raise self.explain(error) from None
        if self.is_full():
            raise self.full()

    def disk_bytes(self) -> int:
        """Give the size of its file system."""
        found = os.statvfs(self.root)
        return found.f_blocks * found.f_frsize

    def is_full(self) -> bool:
        """Tell whether less is free than PostgreSQL needs to start."""
        found = os.statvfs(self.root)
        return found.f_bavail * found.f_frsize < LEAST_FREE_BYTES

    def full(self) -> NoRoom:
        """Give the error for a full disk."""
        return NoRoom(
            f"The disk of {self.root} is full; make room, or let FERNANDO_DATA_DIR name a folder "
            "on another disk."
        )

    def explain(self, error: OSError) -> StartupError:
        """Turn an error of the file system into a sentence."""
        place = error.filename or self.root
        match error.errno:
            case errno.EROFS:
                return StartupError(
                    f"The data directory {self.root} lies on a read-only file system; mount it "
                    "writable, or let FERNANDO_DATA_DIR name another folder."
                )
            case errno.EACCES | errno.EPERM:
                return StartupError(
                    f"User {_name_of(os.getuid())} has no permission for {place}; let "
                    "FERNANDO_DATA_DIR name a folder of your own."
                )
            case errno.EEXIST | errno.ENOTDIR:
                return StartupError(
                    f"{place} is not a folder; let FERNANDO_DATA_DIR name a folder."
                )
            case number if number in _FULL:
                return self.full()
            case _:
                return StartupError(
                    f"The data directory {self.root} cannot be used: {error.strerror} ({place})."
                )

    def remove_half_made(self) -> None:
        """Remove what an initdb that was killed left behind."""
        for leftover in self.root.glob(f"{HALF_MADE_PREFIX}*"):
            shutil.rmtree(leftover, ignore_errors=True)

    def _refuse_foreign(self) -> None:
        if (self.root / LOCK_NAME).exists() or self.pgdata.exists():
            return
        names = sorted(entry.name for entry in self.root.iterdir())
        if "PG_VERSION" in names:
            raise StartupError(
                f"{self.root} is itself a data directory of PostgreSQL; let FERNANDO_DATA_DIR "
                "name an empty folder, or FERNANDO_DSN that PostgreSQL."
            )
        # A file system of its own has lost+found at its root.
        foreign = [name for name in names if name != "lost+found"]
        if foreign:
            raise StartupError(
                f"{self.root} holds files that are not of this program ({', '.join(foreign[:3])}"
                f"{' …' if len(foreign) > 3 else ''}); let FERNANDO_DATA_DIR name an empty folder."
            )


def _change_owner(folder: Path, identity: Identity) -> None:
    for path, _folders, files in os.walk(folder):
        os.chown(path, identity.uid, identity.gid, follow_symlinks=False)
        for file in files:
            os.chown(Path(path, file), identity.uid, identity.gid, follow_symlinks=False)


def _name_of(uid: int) -> str:
    try:
        return pwd.getpwuid(uid).pw_name
    except KeyError:
        return str(uid)
