"""Memory of the server's processes, PostgreSQL left out."""

from __future__ import annotations

import asyncio
import contextlib
from pathlib import Path
from typing import Final, Self

import psutil

SAMPLE_SECONDS: Final = 0.25
_POSTGRES: Final = "postgres"


def server_pids(pid: int) -> list[int]:
    """Give a process and all that descend from it but PostgreSQL's."""
    found: list[int] = []
    open_ends = [pid]
    while open_ends:
        current = open_ends.pop()
        with contextlib.suppress(psutil.NoSuchProcess):
            process = psutil.Process(current)
            if process.name() == _POSTGRES:
                continue
            found.append(current)
            open_ends += [child.pid for child in process.children()]
    return found


def postgres_pids(pid: int) -> list[int]:
    """Give PostgreSQL's processes below a process."""
    found: list[int] = []
    with contextlib.suppress(psutil.NoSuchProcess):
        for child in psutil.Process(pid).children(recursive=True):
            with contextlib.suppress(psutil.NoSuchProcess):
                if child.name() == _POSTGRES:
                    found.append(child.pid)
    return found


def pss_bytes(pid: int) -> int:
    """Give a process's proportional set size: shared pages count by their share. 0: it ended."""
    try:
        lines = Path(f"/proc/{pid}/smaps_rollup").read_text(encoding="ascii").splitlines()
    except (FileNotFoundError, ProcessLookupError):
        return 0
    return sum(int(line.split()[1]) * 1024 for line in lines if line.startswith("Pss:"))


class MemoryWatch:
    """Notes the highest memory of a server while it is entered: `async with MemoryWatch(pid)`.

    Attributes:
        highest_bytes: The highest sum over its processes seen so far.
    """

    def __init__(self, pid: int) -> None:
        self._pid = pid
        self._task: asyncio.Task[None] | None = None
        self.highest_bytes = 0

    @property
    def highest_mb(self) -> float:
        """The highest sum in 10^6 bytes."""
        return round(self.highest_bytes / 1e6, 1)

    def look(self) -> int:
        """Weigh the server now."""
        weight = sum(pss_bytes(pid) for pid in server_pids(self._pid))
        self.highest_bytes = max(self.highest_bytes, weight)
        return weight

    async def __aenter__(self) -> Self:
        self._task = asyncio.create_task(self._watch(), name="memory-watch")
        return self

    async def __aexit__(self, *_: object) -> None:
        assert self._task is not None
        self.look()
        self._task.cancel()
        await asyncio.gather(self._task, return_exceptions=True)

    async def _watch(self) -> None:
        while True:
            self.look()
            await asyncio.sleep(SAMPLE_SECONDS)
