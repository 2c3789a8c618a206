"""How many processes there are, and what this one uses."""

from __future__ import annotations

import time
from collections.abc import Callable

import psutil

from fernando_telemetry.agent.samples import Sample, counter


class ProcessCollector:
    """`process_count`, and memory, CPU and threads of the process the agent runs in.

    Inside `serve` that is the server; the label `process` is `fernando-telemetry` either way,
    without a pid, which would begin a new series at each start.
    """

    name = "process"

    def __init__(self, clock: Callable[[], float] = time.monotonic) -> None:
        self._clock = clock
        self._process = psutil.Process()
        self._before: tuple[float, float] | None = None

    def collect(self) -> list[Sample]:
        """Read now; `process_cpu_usage` is that since the reading before, 100 being one core."""
        labels = {"process": "fernando-telemetry"}
        with self._process.oneshot():
            times = self._process.cpu_times()
            used = float(self._process.memory_info().rss)
            threads = float(self._process.num_threads())
        cpu_seconds, now = times.user + times.system, self._clock()
        samples = [
            Sample("process_count", float(len(psutil.pids())), "count"),
            Sample("process_memory_used", used, "bytes", labels),
            Sample("process_threads", threads, "count", labels),
            counter("process_cpu_time", cpu_seconds, "seconds", labels),
        ]
        if self._before is not None and now > self._before[1]:
            share = 100.0 * (cpu_seconds - self._before[0]) / (now - self._before[1])
            samples.append(Sample("process_cpu_usage", max(0.0, share), "percentage", labels))
        self._before = cpu_seconds, now
        return samples
