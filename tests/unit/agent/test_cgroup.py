"""Control groups on recorded and written trees; see tests/testdata/cgroups/README.md."""

from __future__ import annotations

import shutil
from pathlib import Path

import pytest

from fernando_telemetry.agent.cgroup import CgroupCollector

TREES = Path(__file__).parents[2] / "testdata" / "cgroups"


def collector(tree: Path, now: list[float]) -> CgroupCollector:
    return CgroupCollector(tree / "root", tree / "proc_self_cgroup", clock=lambda: now[0])


def read(tree: Path) -> dict[str, float]:
    samples = collector(tree, [0.0]).collect()
    assert len({sample.metric_name for sample in samples}) == len(samples)
    return {sample.metric_name: sample.metric_value for sample in samples}


def test_v1_limits_of_the_group_above_hold() -> None:
    assert read(TREES / "v1_limited") == {
        "cgroup_cpu_limit": 0.5,
        "cgroup_cpu_time": pytest.approx(0.865728442),
        "cgroup_cpu_periods": 21,
        "cgroup_cpu_throttled_periods": 7,
        "cgroup_cpu_throttled_time": pytest.approx(0.116052509),
        "cgroup_memory_limit": 268_435_456,
        "cgroup_memory_used": 22_466_560,
        "cgroup_memory_working_set": 22_466_560 - 21_000_192,
        "cgroup_memory_usage": pytest.approx(100 * (22_466_560 - 21_000_192) / 268_435_456),
    }


def test_v1_without_limits_tells_its_use(tmp_path: Path) -> None:
    tree = shutil.copytree(TREES / "v1_limited", tmp_path / "tree")
    (tree / "proc_self_cgroup").write_text("4:memory:/\n2:cpuacct:/\n1:cpu:/\n0::/\n")
    found = read(tree)
    assert found["cgroup_cpu_time"] == pytest.approx(905.017027746)
    assert "cgroup_cpu_limit" not in found
    assert "cgroup_memory_limit" not in found
    assert found["cgroup_memory_used"] == 3_127_119_872


def test_v1_container_that_sees_the_path_of_its_host(tmp_path: Path) -> None:
    # Without a namespace the path is the host's, and the mount shows our group as its root.
    tree = tmp_path / "tree"
    for controller in ("cpu", "cpuacct", "memory"):
        source = TREES / "v1_limited" / "root" / controller / "limited"
        shutil.copytree(source, tree / "root" / controller)
    (tree / "proc_self_cgroup").write_text(
        "4:memory:/docker/abc\n1:cpu,cpuacct:/docker/../../etc\n"
    )
    found = read(tree)
    assert found["cgroup_cpu_limit"] == 0.5
    assert found["cgroup_memory_limit"] == 268_435_456


def test_v2_container() -> None:
    assert read(TREES / "v2_container") == {
        "cgroup_cpu_limit": 1.5,
        "cgroup_cpu_time": pytest.approx(123.456789),
        "cgroup_cpu_periods": 4200,
        "cgroup_cpu_throttled_periods": 37,
        "cgroup_cpu_throttled_time": 1.5,
        "cgroup_memory_limit": 536_870_912,
        "cgroup_memory_used": 314_572_800,
        "cgroup_memory_working_set": 314_572_800 - 104_857_600,
        "cgroup_memory_usage": pytest.approx(100 * (314_572_800 - 104_857_600) / 536_870_912),
    }


def test_v2_tightest_limit_on_the_way_up_holds() -> None:
    found = read(TREES / "v2_nested")
    # CPU from the container, memory from its pod: each where the limit is.
    assert (found["cgroup_cpu_limit"], found["cgroup_cpu_time"]) == (2.0, 7.0)
    assert found["cgroup_memory_limit"] == 1_073_741_824
    assert found["cgroup_memory_used"] == 734_003_200


def test_v2_without_controllers_has_only_cpu_time() -> None:
    assert set(read(TREES / "v2_bare")) == {"cgroup_cpu_time"}


def test_no_groups_no_samples(tmp_path: Path) -> None:
    assert read(tmp_path) == {}


def test_cpu_usage_is_the_share_of_the_limit(tmp_path: Path) -> None:
    tree = shutil.copytree(TREES / "v2_container", tmp_path / "tree")
    now = [10.0]
    cgroup = collector(tree, now)
    assert "cgroup_cpu_usage" not in {sample.metric_name for sample in cgroup.collect()}
    stat = tree / "root" / "cpu.stat"
    stat.write_text(stat.read_text().replace("usage_usec 123456789", "usage_usec 126456789"))
    now[0] += 4.0
    (usage,) = (s for s in cgroup.collect() if s.metric_name == "cgroup_cpu_usage")
    # 3 s of CPU in 4 s, where 1.5 cores are allowed.
    assert usage.metric_value == pytest.approx(50.0)
    assert usage.metric_unit == "percentage"


def test_this_machine_is_read_without_error() -> None:
    for sample in CgroupCollector().collect():
        assert sample.metric_value >= 0
