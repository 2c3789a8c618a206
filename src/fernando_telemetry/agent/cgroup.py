"""Limits and use of the control group this process runs in: what a container really has.

Formats: Linux's Documentation/admin-guide/cgroup-v2.rst, and cgroup-v1/{memory,cpuacct}.rst and
scheduler/sched-bwc.rst. A limit may stand on any group above ours; the tightest one holds, and
use is read from the group that has it, because all below share it.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from fernando_telemetry.agent.samples import Sample, counter

# v1 writes "no limit" as the largest page-aligned number; nothing real comes near it.
_NO_LIMIT: Final = 1 << 60


@dataclass(frozen=True, slots=True)
class CpuGroup:
    """CPU of one group; `limit_cores` None is no limit, the throttling counts may be absent."""

    limit_cores: float | None
    used_seconds: float
    periods: int | None
    throttled_periods: int | None
    throttled_seconds: float | None


@dataclass(frozen=True, slots=True)
class MemoryGroup:
    """Memory of one group in bytes; `working_set` leaves out file pages not used lately."""

    limit: int | None
    used: int
    working_set: int


class CgroupCollector:
    """`cgroup_cpu_…` and `cgroup_memory_…`; nothing where there are no control groups.

    Args:
        root: Where the control groups are mounted; v2 there, or v1 with a folder a controller.
        membership: The kernel's list of this process's groups.
        clock: Monotonic seconds, for the usage between two readings.
    """

    name = "cgroup"

    def __init__(
        self,
        root: Path = Path("/sys/fs/cgroup"),
        membership: Path = Path("/proc/self/cgroup"),
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._root = root
        self._membership = membership
        self._clock = clock
        self._before: tuple[float, float] | None = None

    def collect(self) -> list[Sample]:
        """Read now; `cgroup_cpu_usage` is the share of the limit since the reading before."""
        paths = _read_membership(self._membership)
        if (self._root / "cgroup.controllers").is_file():
            cpu = read_cpu_v2(self._root, paths.get("", "/"))
            memory = read_memory_v2(self._root, paths.get("", "/"))
        else:
            cpu = read_cpu_v1(self._root, paths)
            memory = read_memory_v1(self._root, paths)
        samples: list[Sample] = []
        if cpu is not None:
            samples += self._cpu_samples(cpu)
        if memory is not None:
            samples += _memory_samples(memory)
        return samples

    def _cpu_samples(self, cpu: CpuGroup) -> Iterator[Sample]:
        now = self._clock()
        yield counter("cgroup_cpu_time", cpu.used_seconds, "seconds", {})
        if cpu.periods is not None and cpu.throttled_periods is not None:
            yield counter("cgroup_cpu_periods", float(cpu.periods), "count", {})
            throttled = float(cpu.throttled_periods)
            yield counter("cgroup_cpu_throttled_periods", throttled, "count", {})
        if cpu.throttled_seconds is not None:
            yield counter("cgroup_cpu_throttled_time", cpu.throttled_seconds, "seconds", {})
        if cpu.limit_cores is not None:
            yield Sample("cgroup_cpu_limit", cpu.limit_cores, "count")
            if self._before is not None and now > self._before[1] and cpu.limit_cores > 0:
                cores = (cpu.used_seconds - self._before[0]) / (now - self._before[1])
                share = max(0.0, 100.0 * cores / cpu.limit_cores)
                yield Sample("cgroup_cpu_usage", share, "percentage")
        self._before = cpu.used_seconds, now


def _memory_samples(memory: MemoryGroup) -> Iterator[Sample]:
    yield Sample("cgroup_memory_used", float(memory.used), "bytes")
    yield Sample("cgroup_memory_working_set", float(memory.working_set), "bytes")
    if memory.limit is not None:
        yield Sample("cgroup_memory_limit", float(memory.limit), "bytes")
        if memory.limit > 0:
            share = 100.0 * memory.working_set / memory.limit
            yield Sample("cgroup_memory_usage", share, "percentage")


def read_cpu_v2(root: Path, path: str) -> CpuGroup | None:
    """Read cpu.max and cpu.stat; None where the group has no CPU accounting."""
    best: tuple[Path, float | None] | None = None
    for group in _groups(root, path):
        if not (group / "cpu.stat").is_file():
            continue
        limit = None
        if (group / "cpu.max").is_file():
            quota, _, period = _text(group / "cpu.max").partition(" ")
            limit = None if quota == "max" else int(quota) / int(period or 100_000)
        best = _tighter(best, group, limit)
    if best is None:
        return None
    stat = _numbers(best[0] / "cpu.stat")
    throttled = stat.get("throttled_usec")
    return CpuGroup(
        limit_cores=best[1],
        used_seconds=stat["usage_usec"] / 1e6,
        periods=stat.get("nr_periods"),
        throttled_periods=stat.get("nr_throttled"),
        throttled_seconds=None if throttled is None else throttled / 1e6,
    )


def read_memory_v2(root: Path, path: str) -> MemoryGroup | None:
    """Read memory.max, memory.current and memory.stat; None for the root of the host."""
    best: tuple[Path, float | None] | None = None
    for group in _groups(root, path):
        if not (group / "memory.current").is_file():
            continue
        text = _text(group / "memory.max")
        best = _tighter(best, group, None if text == "max" else int(text))
    if best is None:
        return None
    group, limit = best
    used = int(_text(group / "memory.current"))
    inactive = _numbers(group / "memory.stat").get("inactive_file", 0)
    return MemoryGroup(None if limit is None else int(limit), used, max(0, used - inactive))


def read_cpu_v1(root: Path, paths: Mapping[str, str]) -> CpuGroup | None:
    """Read cpu.cfs_*, cpu.stat and cpuacct.usage; None where cpuacct is not mounted."""
    best: tuple[Path, float | None] | None = None
    for group in _groups(root / "cpu", paths.get("cpu", "/")):
        if not (group / "cpu.cfs_quota_us").is_file():
            continue
        quota, period = (int(_text(group / f"cpu.cfs_{word}_us")) for word in ("quota", "period"))
        best = _tighter(best, group, quota / period if quota > 0 and period > 0 else None)
    # The two controllers may be mounted apart; the group has one path in both as a rule.
    path = paths.get("cpuacct", "/")
    if best is not None and best[1] is not None:
        path = "/" + str(best[0].relative_to(root / "cpu"))
    used = _first_file(root / "cpuacct", path, "cpuacct.usage")
    if used is None:
        return None
    stat = _numbers(best[0] / "cpu.stat") if best is not None else {}
    throttled = stat.get("throttled_time")
    return CpuGroup(
        limit_cores=best[1] if best is not None else None,
        used_seconds=int(_text(used)) / 1e9,
        periods=stat.get("nr_periods"),
        throttled_periods=stat.get("nr_throttled"),
        throttled_seconds=None if throttled is None else throttled / 1e9,
    )


def read_memory_v1(root: Path, paths: Mapping[str, str]) -> MemoryGroup | None:
    """Read memory.limit_in_bytes, memory.usage_in_bytes and memory.stat."""
    best: tuple[Path, float | None] | None = None
    for group in _groups(root / "memory", paths.get("memory", "/")):
        if not (group / "memory.usage_in_bytes").is_file():
            continue
        limit = int(_text(group / "memory.limit_in_bytes"))
        best = _tighter(best, group, limit if limit < _NO_LIMIT else None)
    if best is None:
        return None
    group, tightest = best
    used = int(_text(group / "memory.usage_in_bytes"))
    inactive = _numbers(group / "memory.stat").get("total_inactive_file", 0)
    return MemoryGroup(None if tightest is None else int(tightest), used, max(0, used - inactive))


def _tighter(
    best: tuple[Path, float | None] | None, group: Path, limit: float | None
) -> tuple[Path, float | None]:
    """Keep the group with the lowest limit; without any limit the first, which is ours."""
    if best is None or (limit is not None and (best[1] is None or limit < best[1])):
        return group, limit
    return best


def _groups(mount: Path, path: str) -> Iterator[Path]:
    """Give our group and those above it, up to the mount.

    Without a namespace of its own a container sees the host's path, which does not exist below
    its mount; the mount is its group then.
    """
    own = mount / path.lstrip("/")
    if ".." in Path(path).parts or not own.is_dir():
        own = mount
    while own != mount:
        yield own
        own = own.parent
    yield mount


def _first_file(mount: Path, path: str, name: str) -> Path | None:
    return next((group / name for group in _groups(mount, path) if (group / name).is_file()), None)


def _read_membership(file: Path) -> dict[str, str]:
    """Give the path per v1 controller, and the v2 path under ""."""
    paths: dict[str, str] = {}
    if file.is_file():
        for line in file.read_text().splitlines():
            _, _, rest = line.partition(":")
            controllers, _, path = rest.partition(":")
            for controller in controllers.split(","):
                paths[controller] = path
    return paths


def _text(file: Path) -> str:
    return file.read_text().strip()


def _numbers(file: Path) -> dict[str, int]:
    """Read `name number` lines; no file, no numbers."""
    if not file.is_file():
        return {}
    pairs = (line.split() for line in file.read_text().splitlines())
    return {pair[0]: int(pair[1]) for pair in pairs if len(pair) == 2}
