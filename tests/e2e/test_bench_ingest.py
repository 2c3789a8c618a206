"""Every mode of `bench ingest`, as a person runs it and as small as it gets: keys, never speed."""

from __future__ import annotations

import asyncio
import json
import os
import signal
import sys
from pathlib import Path
from typing import Any

import psutil
import pytest

from fernando_telemetry.bench.ingest_targets import RUNS, TARGETS
from tests.e2e.benchmarks import run_bench
from tests.e2e.processes import environment

RATE_KEYS = {
    "rows_per_second",
    "copy_rows_per_second",
    "ratio",
    "p50_ms",
    "p99_ms",
    "server_rss_mb",
    "load_average",
    "records",
    "streams",
    "seconds",
}
SMALL = ("--seconds", "0.3", "--rounds", "1", "--batch-records", "1000")
pytestmark = [
    pytest.mark.timeout(300),
    pytest.mark.skipif(
        not Path("/proc/self/smaps_rollup").exists(), reason="needs /proc/self/smaps_rollup"
    ),
]


async def _bench(folder: Path, *arguments: str, code: int = 0) -> tuple[str, str]:
    """Run `bench ingest`, small; gives its output and its errors."""
    return await run_bench(folder, "ingest", *SMALL, *arguments, code=code)


def _checked(out: str, run: str) -> dict[str, Any]:
    """Give the JSON object of the one line, if it has what the closing table asks of the run."""
    (line,) = out.splitlines()
    figures: dict[str, Any] = json.loads(line)
    wanted = {target.key for target in TARGETS if target.run == run}
    assert wanted
    assert wanted <= set(figures)
    assert all(figures[key] > 0 for key in wanted)
    assert figures["rows_stored"] > 0
    return figures


@pytest.mark.parametrize("kind", ["events", "samples", "points", "spans"])
async def test_rate(tmp_path: Path, kind: str) -> None:
    out, err = await _bench(tmp_path, "--records", kind, "--json")
    assert err == ""
    figures = _checked(out, kind)
    assert set(figures) >= RATE_KEYS
    assert figures["records"] == kind
    assert figures["rows_stored"] == figures["rows_acknowledged"] + figures["rows_copied"]


async def test_many_streams_are_compared_with_one(tmp_path: Path) -> None:
    out, err = await _bench(tmp_path, "--streams", "3", "--batch-records", "500")
    figures = _checked(out, "streams")
    assert figures["streams"] == 3
    assert figures["batch_records"] == 500
    assert set(figures) >= RATE_KEYS
    assert "ratio_to_one_stream" in err  # the table for people


async def test_latency(tmp_path: Path) -> None:
    out, _ = await _bench(tmp_path, "--measure", "latency", "--json")
    figures = _checked(out, "latency")
    assert figures["rows_stored"] == figures["rows_acknowledged"] + figures["rows_inserted"]


async def test_memory(tmp_path: Path) -> None:
    out, _ = await _bench(tmp_path, "--measure", "memory", "--stalled-clients", "2", "--json")
    figures = _checked(out, "memory")
    assert figures["rows_stored"] == figures["rows_acknowledged"]
    assert figures["server_rss_stalled_mb"] > figures["server_rss_at_rest_mb"] > 0


async def test_partition_size(tmp_path: Path) -> None:
    out, _ = await _bench(
        tmp_path, "--measure", "partition-size", "--preload-rows", "5000", "--json"
    )
    figures = _checked(out, "partition size")
    assert (
        figures["rows_stored"]
        == figures["rows_acknowledged"] + figures["rows_copied"] + figures["many_rows"]
    )


async def test_sustained(tmp_path: Path) -> None:
    out, _ = await _bench(
        *(tmp_path, "--measure", "sustained", "--partitions", "2"),
        # Small batches: what comes in 20 seconds is sealed, and copied twice.
        *("--partition-length", "10 seconds", "--batch-records", "20", "--json"),
    )
    figures = _checked(out, "sustained")
    assert set(figures) >= RATE_KEYS
    assert figures["sealed_partitions"] >= 2
    assert figures["hot_indexes"] != figures["sealed_indexes"]
    assert figures["rows_stored"] == figures["rows_acknowledged"]


async def test_rollups(tmp_path: Path) -> None:
    out, _ = await _bench(tmp_path, "--measure", "rollups", "--json")
    figures = json.loads(out)
    (ratio,) = figures["ratios"]
    assert (
        figures["ratio"]
        == ratio
        == pytest.approx(figures["rows_per_second"] / figures["rows_per_second_without"], abs=0.01)
    )
    assert figures["rows_stored"] == figures["rows_acknowledged"] > 0
    assert figures["cpu_ratio"] == pytest.approx(
        figures["cpu_micros_per_row_without"] / figures["cpu_micros_per_row"], abs=0.01
    )
    assert figures["fold_lag_seconds"] >= figures["fold_lag_median_seconds"] >= 0
    assert figures["summary_lag_records"] == 0


async def test_retention(tmp_path: Path) -> None:
    out, _ = await _bench(tmp_path, "--measure", "retention", "--preload-rows", "3000", "--json")
    figures = _checked(out, "retention")
    assert (figures["dropped_partitions"], figures["dropped_rows"]) == (30, 3_000)
    assert figures["dropped_bytes"] > 0
    assert figures["longest_stall_without_ms"] > 0
    # All that was there before has gone, and nothing else.
    assert figures["rows_stored"] == figures["rows_acknowledged"]


async def test_tail(tmp_path: Path) -> None:
    out, err = await _bench(tmp_path, "--measure", "tail", "--tails", "3", "--json")
    assert err == ""
    figures = _checked(out, "tail")
    for name in ("", "full_", "half_"):
        assert figures[f"{name}p99_ms"] >= figures[f"{name}p50_ms"] > 0
        assert figures[f"{name}calls"] > 0
    for name in ("", "tailed_", "filtered_", "many_", "full_", "half_"):
        assert figures[f"{name}rows_per_second"] > 0
    assert figures["tails"] == 3
    assert figures["many_ratio"] > 0
    assert figures["many_server_rss_mb"] > 0
    assert figures["events_came"] > 0
    for name in ("many_idle_", "many_full_"):
        assert figures[f"{name}p99_ms"] >= figures[f"{name}p50_ms"] > 0
        assert figures[f"{name}deliveries"] >= 3
    assert figures["many_full_rows_per_second"] > 0


async def test_settings_reach_the_server_and_a_bad_one_is_a_sentence(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    process = await asyncio.create_subprocess_exec(
        *(sys.executable, "-m", "fernando_telemetry", "bench", "ingest", *SMALL),
        stdin=asyncio.subprocess.DEVNULL,
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.PIPE,
        env=environment(TMPDIR=str(tmp_path), FERNANDO_WRITERS="99"),
    )
    out, err = await process.communicate()
    assert process.returncode == 1
    assert out == b""
    assert b"did not start" in err
    assert b"writers" in err


@pytest.mark.parametrize("arguments", [("--measure", "foo"), ("--records", "rows")])
async def test_an_unknown_word_is_a_mistake_of_usage(
    tmp_path: Path, arguments: tuple[str, str]
) -> None:
    _, err = await _bench(tmp_path, *arguments, code=2)
    assert arguments[1] in err


def test_each_target_belongs_to_a_run() -> None:
    assert {target.run for target in TARGETS} == set(RUNS)


@pytest.mark.parametrize(("number", "code"), [(signal.SIGINT, 130), (signal.SIGTERM, 143)])
async def test_a_signal_leaves_nothing_behind(
    tmp_path: Path, number: signal.Signals, code: int
) -> None:
    process = await asyncio.create_subprocess_exec(
        *(sys.executable, "-m", "fernando_telemetry", "bench", "ingest"),
        stdin=asyncio.subprocess.DEVNULL,
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.PIPE,
        env=environment(TMPDIR=str(tmp_path)),
    )
    assert process.stderr is not None
    # The server runs when its address is told.
    assert b"server 127.0.0.1" in await process.stderr.readline()
    (serving,) = [
        child.pid for child in psutil.Process(process.pid).children() if "serve" in child.cmdline()
    ]
    process.send_signal(number)
    out, err = await process.communicate()
    assert process.returncode == code, (out, err)
    assert out == b""
    assert b"Traceback" not in err
    assert not psutil.pid_exists(serving)
    assert not await asyncio.to_thread(os.listdir, tmp_path)
