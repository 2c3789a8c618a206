"""A folder of exports: which ones are complete, by their manifests, and what is left of others.

DIR/events/manifests/000001.json       the last thing an export writes: with it, it counts
DIR/events/day=2026-01-31/part-000001-0001.parquet
"""

from __future__ import annotations

import contextlib
import fcntl
import json
import os
import re
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, Final

from fernando_telemetry.cli.parquet_files import sync_folder
from fernando_telemetry.domain.errors import TelemetryError

MANIFEST_FORMAT: Final = 1
_PART: Final = re.compile(r"\.?part-(\d{6,})-\d{4,}\.parquet(\.tmp)?")
_MANIFEST: Final = re.compile(r"(\d{6,})\.json")


class FolderUnusable(TelemetryError):
    """An export cannot go into a folder; the sentence says why."""


class ExportFolder:
    """The folder of one kind of record. Hold it by `held` while writing into it.

    Args:
        folder: Where it is; made when it is held.
    """

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self._manifests = folder / "manifests"

    @contextlib.contextmanager
    def held(self) -> Iterator[None]:
        """Keep other exports out, and take away what broken ones left.

        Where what is done meanwhile fails, folders that were made for it go again.

        Raises:
            FolderUnusable: Another export writes into it.
            OSError: It cannot be made or written.
        """
        folders = (self._manifests, *self._manifests.parents)
        made = [folder for folder in folders if not folder.exists()]
        self._manifests.mkdir(parents=True, exist_ok=True)
        path = self._manifests / ".lock"
        with path.open("wb") as lock:
            try:
                fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except BlockingIOError:
                raise self._taken() from None
            # One that failed just now has taken its lock's file away.
            if not path.exists() or not os.path.samestat(os.fstat(lock.fileno()), path.stat()):
                raise self._taken()
            self._clear()
            try:
                yield
            except BaseException:
                if self._manifests in made and not self._numbers():
                    path.unlink()
                    _remove_empty(made)
                raise

    def _taken(self) -> FolderUnusable:
        return FolderUnusable(f"Another export writes into {self.folder}.")

    def last(self) -> dict[str, Any] | None:
        """Give the newest manifest; None: there is none.

        Raises:
            FolderUnusable: It is of another version of this program, or damaged.
        """
        numbers = self._numbers()
        if not numbers:
            return None
        path = self._path(max(numbers))
        try:
            manifest = json.loads(path.read_text())
            known = manifest["format"] == MANIFEST_FORMAT and manifest["next_token"]
        except (ValueError, KeyError, TypeError):
            known = False
        if not known:
            raise FolderUnusable(f"{path} is no manifest that this version can go on from.")
        found: dict[str, Any] = manifest
        return found

    def next_number(self) -> int:
        """Give the number of the next export."""
        return max(self._numbers(), default=0) + 1

    def write(self, number: int, manifest: Mapping[str, Any]) -> None:
        """Write a manifest: from here on its export counts.

        Raises:
            OSError: The disk is full; the export does not count.
        """
        path = self._path(number)
        hidden = path.with_name(f".{path.name}.tmp")
        try:
            with hidden.open("w") as file:
                json.dump(manifest, file, indent=2)
                file.write("\n")
                file.flush()
                os.fsync(file.fileno())
            hidden.rename(path)
        except BaseException:
            with contextlib.suppress(OSError):
                hidden.unlink()
            raise
        sync_folder(self._manifests)

    def _path(self, number: int) -> Path:
        return self._manifests / f"{number:06}.json"

    def _numbers(self) -> set[int]:
        names = (path.name for path in self._manifests.iterdir())
        return {int(found[1]) for name in names if (found := _MANIFEST.fullmatch(name))}

    def _clear(self) -> None:
        complete = self._numbers()
        for path in self.folder.glob("day=*/*part-*"):
            found = _PART.fullmatch(path.name)
            if found and (found[2] or int(found[1]) not in complete):
                path.unlink()
        for path in self._manifests.glob(".*.json.tmp"):
            path.unlink()


def _remove_empty(folders: Sequence[Path]) -> None:
    """Remove folders, the innermost first, up to one that has something in it."""
    with contextlib.suppress(OSError):
        for folder in folders:
            folder.rmdir()
