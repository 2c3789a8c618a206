"""Space of the mounted file systems and I/O of the disks."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol

import psutil

from fernando_telemetry.agent.samples import Sample, counter

# Images mounted read-only: always full, never news.
_IMAGES = frozenset({"squashfs", "iso9660", "erofs", "udf", "cramfs"})

# Devices that are no disks of their own: files, memory, and what has never held a byte.
_NO_DISKS = ("loop", "ram", "zram", "fd", "sr")


class Mount(Protocol):
    """What psutil tells of a mount."""

    @property
    def device(self) -> str:
        """Block device."""

    @property
    def mountpoint(self) -> str:
        """Where it is mounted."""

    @property
    def fstype(self) -> str:
        """File system, as the kernel calls it."""


class Usage(Protocol):
    """What psutil tells of a file system's space, in bytes and percent."""

    @property
    def total(self) -> int:
        """All bytes."""

    @property
    def used(self) -> int:
        """Bytes taken."""

    @property
    def free(self) -> int:
        """Bytes an ordinary user may still take."""

    @property
    def percent(self) -> float:
        """Share taken of what an ordinary user may take, 0 to 100."""


@dataclass(frozen=True, slots=True)
class DiskSource:
    """Where mounts and their space are read from."""

    mounts: Callable[[], Iterable[Mount]] = psutil.disk_partitions
    usage: Callable[[str], Usage] = psutil.disk_usage


class DiskSpaceCollector:
    """`disk_usage` per mount point with its bytes, for real file systems.

    A mount that vanished or may not be read is left out.
    """

    name = "disk_space"

    def __init__(self, source: DiskSource | None = None) -> None:
        self._source = source or DiskSource()

    def collect(self) -> list[Sample]:
        """Read now."""
        samples: list[Sample] = []
        for mount_point in self._mount_points():
            try:
                space = self._source.usage(mount_point)
            except OSError:
                continue  # unmounted since it was listed, or not ours to see
            if not space.total:
                continue
            labels = {"mount_point": mount_point}
            samples += (
                Sample("disk_usage", space.percent, "percentage", labels),
                Sample("disk_used", float(space.used), "bytes", labels),
                Sample("disk_free", float(space.free), "bytes", labels),
                Sample("disk_total", float(space.total), "bytes", labels),
            )
        return samples

    def _mount_points(self) -> list[str]:
        """Give one mount point per device, the shortest, and always `/`.

        Bind mounts show a device many times (a container's /etc/hosts is one), and a
        container's own root is an overlay, which psutil does not count as physical.
        """
        chosen: dict[str, str] = {}
        for mount in self._source.mounts():
            if mount.fstype in _IMAGES or not _is_folder(mount.mountpoint):
                continue
            known = chosen.get(mount.device)
            if known is None or len(mount.mountpoint) < len(known):
                chosen[mount.device] = mount.mountpoint
        return sorted({"/", *chosen.values()})


class DiskTrafficCollector:
    """Counters per disk: bytes and operations read and written, and busy seconds."""

    name = "disk_traffic"

    def __init__(self, block_devices: Path = Path("/sys/block")) -> None:
        self._block_devices = block_devices

    def collect(self) -> list[Sample]:
        """Read now; partitions are left out, their disk has counted them."""
        samples: list[Sample] = []
        # nowrap off: a counter that falls is a reset by contract, psutil need not hide it.
        for device, traffic in psutil.disk_io_counters(perdisk=True, nowrap=False).items():
            if not self._is_disk(device):
                continue
            labels = {"device": device}
            samples += (
                counter("disk_read_bytes", float(traffic.read_bytes), "bytes", labels),
                counter("disk_written_bytes", float(traffic.write_bytes), "bytes", labels),
                counter("disk_reads", float(traffic.read_count), "count", labels),
                counter("disk_writes", float(traffic.write_count), "count", labels),
            )
            busy_ms = getattr(traffic, "busy_time", None)
            if busy_ms is not None:
                samples.append(counter("disk_busy_time", busy_ms / 1000, "seconds", labels))
        return samples

    def _is_disk(self, device: str) -> bool:
        if device.startswith(_NO_DISKS):
            return False
        # sysfs writes the slash of a device name as an exclamation mark.
        folder = self._block_devices / device.replace("/", "!")
        return folder.is_dir() or not self._block_devices.is_dir()


def _is_folder(path: str) -> bool:
    try:
        return Path(path).is_dir()
    except OSError:
        return False
