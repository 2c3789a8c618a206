"""Each collector on the real machine, and what no machine can be asked to show."""

from __future__ import annotations

import time
from collections import Counter
from dataclasses import dataclass
from pathlib import Path

import psutil
import pytest

from fernando_telemetry.agent.collection import host_collectors
from fernando_telemetry.agent.cpu import CpuCollector, usage_between
from fernando_telemetry.agent.disk import DiskSource, DiskSpaceCollector, DiskTrafficCollector
from fernando_telemetry.agent.memory import MemoryCollector
from fernando_telemetry.agent.network import NetworkCollector
from fernando_telemetry.agent.process import ProcessCollector
from fernando_telemetry.agent.samples import Collector, Sample


def by_name(samples: list[Sample]) -> dict[str, list[Sample]]:
    found: dict[str, list[Sample]] = {}
    for sample in samples:
        found.setdefault(sample.metric_name, []).append(sample)
    return found


def burn(seconds: float) -> None:
    end = time.monotonic() + seconds
    while time.monotonic() < end:
        pass


@pytest.mark.parametrize("collector", host_collectors(), ids=lambda collector: collector.name)
def test_every_value_is_in_range_and_every_series_once(collector: Collector) -> None:
    collector.collect()
    burn(0.05)
    samples = collector.collect()
    for sample in samples:
        assert sample.metric_value >= 0, sample
        if sample.metric_unit == "percentage" and sample.metric_name != "process_cpu_usage":
            assert sample.metric_value <= 100, sample
        assert sample.metric_name == sample.metric_name.lower()
        assert all(isinstance(value, str) and value for value in sample.labels.values())
    series = Counter((s.metric_name, *sorted(s.labels.items())) for s in samples)
    assert set(series.values()) <= {1}


def test_names_and_units_of_the_guide() -> None:
    collectors = (CpuCollector(), MemoryCollector(), DiskSpaceCollector())
    for collector in collectors:
        collector.collect()
    burn(0.05)
    found = by_name([sample for collector in collectors for sample in collector.collect()])
    for name in ("cpu_usage", "memory_usage", "disk_usage"):
        assert {(s.metric_unit, s.metric_type) for s in found[name]} == {("percentage", "gauge")}


def test_cpu_usage_is_of_the_time_between_two_readings() -> None:
    collector = CpuCollector()
    begun = time.monotonic()
    first = by_name(collector.collect())
    assert "cpu_usage" not in first
    assert "cpu_core_usage" not in first
    before = time.process_time()
    burn(0.3)
    burnt = time.process_time() - before
    found = by_name(collector.collect())
    passed = time.monotonic() - begun
    cores = psutil.cpu_count() or 1
    (usage,) = found["cpu_usage"]
    # The kernel counts in hundredths of a second, and others may use the rest.
    assert usage.metric_value >= 100 * (burnt - 0.05) / (passed + 0.05) / cores
    assert {s.labels["core"] for s in found["cpu_core_usage"]} <= {str(n) for n in range(cores)}
    assert [s.labels["window"] for s in found["load_average"]] == ["1m", "5m", "15m"]
    assert found["cpu_count"][0].metric_value == cores


def test_cpu_usage_needs_time_to_have_passed() -> None:
    assert usage_between((1.0, 10.0), (1.0, 10.0)) is None
    assert usage_between((5.0, 10.0), (1.0, 2.0)) is None  # counters were reset
    assert usage_between((1.0, 10.0), (2.0, 14.0)) == 25.0
    assert usage_between((2.0, 10.0), (1.9, 14.0)) == 0.0  # iowait may fall


def test_memory_adds_up() -> None:
    found = by_name(MemoryCollector().collect())
    (total,), (used,), (available,) = (
        found[f"memory_{word}"] for word in ("total", "used", "available")
    )
    assert total.metric_unit == "bytes"
    assert total.metric_value == psutil.virtual_memory().total
    assert 0 < used.metric_value < total.metric_value
    assert 0 < available.metric_value <= total.metric_value
    (usage,) = found["memory_usage"]
    expected = 100 * (total.metric_value - available.metric_value) / total.metric_value
    assert usage.metric_value == pytest.approx(expected, abs=0.1)
    assert ("swap_usage" in found) == (found["swap_total"][0].metric_value > 0)


def test_disk_usage_always_has_the_root() -> None:
    found = by_name(DiskSpaceCollector().collect())
    roots = {s.labels["mount_point"]: s.metric_value for s in found["disk_usage"]}
    assert roots["/"] == pytest.approx(psutil.disk_usage("/").percent, abs=1)
    (total,) = [s for s in found["disk_total"] if s.labels["mount_point"] == "/"]
    assert total.metric_value == psutil.disk_usage("/").total


@dataclass
class FakeMount:
    device: str
    mountpoint: str
    fstype: str = "ext4"


def test_mounts_that_are_no_disks_of_their_own_are_left_out(tmp_path: Path) -> None:
    (tmp_path / "data" / "bind").mkdir(parents=True)
    (tmp_path / "snap").mkdir()
    (tmp_path / "gone").mkdir()
    (tmp_path / "hosts").write_text("")
    mounts = [
        FakeMount("/dev/sdb", str(tmp_path / "data" / "bind")),
        FakeMount("/dev/sdb", str(tmp_path / "data")),
        FakeMount("/dev/loop1", str(tmp_path / "snap"), "squashfs"),
        FakeMount("/dev/sdc", str(tmp_path / "hosts")),
        FakeMount("/dev/sdd", str(tmp_path / "never")),
        FakeMount("/dev/sde", str(tmp_path / "gone")),
    ]

    def usage(path: str) -> object:
        if path.endswith("gone"):
            raise PermissionError(path)
        return psutil.disk_usage(path)

    source = DiskSource(mounts=lambda: mounts, usage=usage)  # type: ignore[arg-type]
    found = by_name(DiskSpaceCollector(source).collect())
    points = [s.labels["mount_point"] for s in found["disk_usage"]]
    assert points == ["/", str(tmp_path / "data")]


def test_disk_traffic_counts_disks_and_not_their_partitions(tmp_path: Path) -> None:
    seen = psutil.disk_io_counters(perdisk=True)
    real = [name for name in seen if not name.startswith(("loop", "ram", "zram", "fd", "sr"))]
    if not real:
        pytest.skip("this machine shows no disk")
    none_is_a_disk = DiskTrafficCollector(tmp_path)
    assert none_is_a_disk.collect() == []
    (tmp_path / real[0].replace("/", "!")).mkdir()
    found = by_name(DiskTrafficCollector(tmp_path).collect())
    assert {s.labels["device"] for s in found["disk_read_bytes"]} == {real[0]}
    assert found["disk_read_bytes"][0].metric_value >= seen[real[0]].read_bytes
    assert {s.metric_type for samples in found.values() for s in samples} == {"counter"}
    without_sysfs = by_name(DiskTrafficCollector(tmp_path / "none").collect())
    assert {s.labels["device"] for s in without_sysfs["disk_writes"]} == set(real)


def test_network_counts_what_is_sent() -> None:
    import socket

    def received() -> float:
        found = by_name(NetworkCollector().collect())
        samples = found.get("network_received_bytes", [])
        return sum(s.metric_value for s in samples if s.labels["interface"] == "lo")

    before = received()
    with (
        socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as sender,
        socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as receiver,
    ):
        receiver.bind(("127.0.0.1", 0))
        sender.sendto(b"x" * 10_000, receiver.getsockname())
        receiver.recv(20_000)
    if not psutil.net_io_counters(pernic=True).get("lo"):
        pytest.skip("the loopback interface has another name here")
    assert received() >= before + 10_000


def test_own_process_is_measured() -> None:
    now = [100.0]
    collector = ProcessCollector(clock=lambda: now[0])
    first = by_name(collector.collect())
    assert "process_cpu_usage" not in first
    before = time.process_time()
    burn(0.2)
    burnt = time.process_time() - before
    now[0] += 2.0
    found = by_name(collector.collect())
    # As much CPU as was burnt, over two seconds of the given clock.
    assert found["process_cpu_usage"][0].metric_value >= 100 * (burnt - 0.05) / 2
    assert found["process_memory_used"][0].metric_value > 10_000_000
    assert found["process_count"][0].metric_value >= 1
    rise = found["process_cpu_time"][0].metric_value - first["process_cpu_time"][0].metric_value
    assert rise >= burnt - 0.05
