"""How much room the database's files have."""

from __future__ import annotations

import os
from pathlib import Path

from fernando_telemetry.domain.disk_room import Room


def least_room(folder: Path) -> Room:
    """Measure the file system with the smallest free part among those a data directory uses.

    PostgreSQL's data directory, its WAL and its tablespaces may lie on disks of their own; a
    folder that has none of these is measured alone. Blocks for a system call each.

    Raises:
        OSError: The folder is not there.
    """
    measured = {}
    for path in (folder, *_links(folder)):
        found = os.statvfs(path)
        total = found.f_blocks * found.f_frsize
        if total:
            # What is kept back for root is no room for PostgreSQL.
            free = found.f_bavail * found.f_frsize
            measured[free / total] = Room(str(path), free, total)
    return measured[min(measured)] if measured else Room()


def _links(folder: Path) -> list[Path]:
    tablespaces = folder / "pg_tblspc"
    links = list(tablespaces.iterdir()) if tablespaces.is_dir() else []
    return [path for path in (folder / "pg_wal", *links) if path.exists()]
