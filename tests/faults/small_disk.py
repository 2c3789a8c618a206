"""A small file system of the test's own, which can be filled and emptied."""

from __future__ import annotations

import contextlib
import os
import shutil
import subprocess
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest

MIB = 1024 * 1024


@dataclass
class SmallDisk:
    """A mounted tmpfs."""

    folder: Path

    @property
    def filler(self) -> Path:
        return self.folder / "filler"

    def free_bytes(self) -> int:
        return shutil.disk_usage(self.folder).free

    def total_bytes(self) -> int:
        return shutil.disk_usage(self.folder).total

    def fill(self, leave_bytes: int = 0) -> None:
        """Take all room but this much; called again, what has become free meanwhile."""
        with self.filler.open("ab") as file, contextlib.suppress(OSError):
            while (free := self.free_bytes() - leave_bytes) > 0:
                os.write(file.fileno(), bytes(min(free, MIB)))

    def give_back(self, room_bytes: int) -> None:
        """Give this much of it back."""
        os.truncate(self.filler, self.filler.stat().st_size - room_bytes)

    def make_room(self) -> None:
        """Give back what `fill` took."""
        self.filler.unlink(missing_ok=True)


@contextlib.contextmanager
def small_disk(folder: Path, mib: int) -> Iterator[SmallDisk]:
    """Mount a tmpfs of this size; skips where that is not allowed."""
    folder.mkdir()
    mount, umount = shutil.which("mount"), shutil.which("umount")
    if mount is None or umount is None or os.getuid() != 0:
        pytest.skip("needs root, to mount a small file system")
    done = subprocess.run(
        [mount, "-t", "tmpfs", "-o", f"size={mib}m,mode=0711", "tmpfs", str(folder)],
        capture_output=True,
        text=True,
        check=False,
    )
    if done.returncode != 0:
        pytest.skip(f"a small file system cannot be mounted here: {done.stderr.strip()}")
    try:
        yield SmallDisk(folder)
    finally:
        # Lazily: a process that is just ending may still stand in it.
        subprocess.run([umount, "-l", str(folder)], check=True)
