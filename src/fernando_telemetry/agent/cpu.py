"""CPU usage of the host and its cores, and the load averages.

psutil.cpu_percent remembers its last call per *thread*, and readings come from changing ones;
so the differences are taken here.
"""

from __future__ import annotations

from typing import Any

import psutil

from fernando_telemetry.agent.samples import Sample

_LOAD_WINDOWS = ("1m", "5m", "15m")


class CpuCollector:
    """`cpu_usage`, `cpu_core_usage` per core, `cpu_count`, `load_average` per window."""

    name = "cpu"

    def __init__(self) -> None:
        self._host: tuple[float, float] | None = None
        self._cores: list[tuple[float, float]] = []

    def collect(self) -> list[Sample]:
        """Read now; usages are those since the reading before."""
        host = _busy_and_total(psutil.cpu_times())
        cores = [_busy_and_total(times) for times in psutil.cpu_times(percpu=True)]
        samples = [Sample("cpu_count", float(len(cores)), "count")]
        for window, load in zip(_LOAD_WINDOWS, psutil.getloadavg(), strict=True):
            samples.append(Sample("load_average", load, "count", {"window": window}))
        if self._host is not None:
            usage = usage_between(self._host, host)
            if usage is not None:
                samples.append(Sample("cpu_usage", usage, "percentage"))
        # A core that goes offline shifts the others: no comparison then.
        if len(self._cores) == len(cores):
            for number, (before, now) in enumerate(zip(self._cores, cores, strict=True)):
                usage = usage_between(before, now)
                if usage is not None:
                    labels = {"core": str(number)}
                    samples.append(Sample("cpu_core_usage", usage, "percentage", labels))
        self._host, self._cores = host, cores
        return samples


def usage_between(before: tuple[float, float], now: tuple[float, float]) -> float | None:
    """Give the busy share, 0 to 100, between two (busy, total) readings in seconds.

    None: no time has passed by the kernel's clock of 10 ms, or the counters were reset.
    """
    busy, total = now[0] - before[0], now[1] - before[1]
    if total <= 0:
        return None
    return min(100.0, max(0.0, 100.0 * busy / total))


def _busy_and_total(times: Any) -> tuple[float, float]:
    """Sum up CPU seconds; guest time is part of user time already, as proc(5) says."""
    total = sum(times) - getattr(times, "guest", 0.0) - getattr(times, "guest_nice", 0.0)
    idle = times.idle + getattr(times, "iowait", 0.0)
    return total - idle, total
