"""Processor time of the server's processes, of its PostgreSQL and of a client program."""

from __future__ import annotations

import contextlib
import resource
from collections.abc import Iterable, Iterator
from typing import Any

import psutil

from fernando_telemetry.bench.memory import postgres_pids, server_pids


def cpu_seconds(pid: int, *, but: int | None = None) -> float:
    """Give the CPU time of a process and of all below it, those that have ended included.

    Args:
        pid: The process.
        but: One below it that does not count.
    """
    pids = [one for one in (*server_pids(pid), *postgres_pids(pid)) if one != but]
    total = 0.0
    for _, times in _times_of(pids):
        total += times.user + times.system + times.children_user + times.children_system
    return total


class CpuTimes:
    """Counts from when it is made.

    Args:
        server_pid: The serving process; its embedded PostgreSQL is found below it.
    """

    def __init__(self, server_pid: int) -> None:
        self._server_pid = server_pid
        self._begun = self._read()

    def seconds(self) -> dict[str, float]:
        """Give what was spent by `postgresql`, `server` and `client`: child programs that ended.

        The steps of the system's clock are 10 ms. What processes took that have ended meanwhile is
        missing, but for clients.
        """
        return {
            part: sum(taken - self._begun[part].get(pid, 0.0) for pid, taken in times.items())
            for part, times in self._read().items()
        }

    def _read(self) -> dict[str, dict[int, float]]:
        children = resource.getrusage(resource.RUSAGE_CHILDREN)
        return {
            "postgresql": _own_seconds(postgres_pids(self._server_pid)),
            "server": _own_seconds(server_pids(self._server_pid)),
            "client": {0: children.ru_utime + children.ru_stime},
        }


def _own_seconds(pids: Iterable[int]) -> dict[int, float]:
    return {pid: times.user + times.system for pid, times in _times_of(pids)}


def _times_of(pids: Iterable[int]) -> Iterator[tuple[int, Any]]:
    """Give the times of those processes that have not ended."""
    for pid in pids:
        with contextlib.suppress(psutil.NoSuchProcess):
            yield pid, psutil.Process(pid).cpu_times()
