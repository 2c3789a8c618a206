"""`serve --workers 2` as a person meets it."""

from __future__ import annotations

import json
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from tests.e2e.processes import environment, serve


def cli(*arguments: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-m", "fernando_telemetry", *arguments],
        capture_output=True,
        text=True,
        env=environment(),
        cwd="/",
        timeout=60,
        check=False,
    )


def test_the_banner_and_its_commands(tmp_path: Path) -> None:
    data = str(tmp_path / "data")
    with serve("--data-dir", data, "--no-agent", "--workers", "2") as serving:
        assert "  workers   2" in serving.banner
        for _ in range(4):
            sent = subprocess.run(
                serving.command("send"), capture_output=True, text=True, check=False
            )
            assert sent.returncode == 0, sent.stderr
        rows = cli(
            "sql", "SELECT count(*) FROM telemetry_events", "--json", "--data-dir", data
        ).stdout
        assert json.loads(rows) == {"count": 4}
        stopped = subprocess.run(serving.command("stop"), capture_output=True, check=False)
        assert stopped.returncode == 0
        assert serving.process.wait(60) == 0
        assert "Traceback" not in serving.log.read_text()


def test_ctrl_c_ends_with_exit_code_0(tmp_path: Path) -> None:
    with serve("--data-dir", str(tmp_path), "--no-agent", "--workers", "2") as serving:
        assert serving.stop(signal.SIGINT) == 0
        assert "Traceback" not in serving.log.read_text()


def test_a_signal_while_it_starts_ends_with_exit_code_0(tmp_path: Path) -> None:
    process = subprocess.Popen(
        [sys.executable, "-m", "fernando_telemetry", "serve", "--port", "0", "--workers", "2"],
        stderr=subprocess.PIPE,
        stdout=subprocess.DEVNULL,
        text=True,
        env=environment(FERNANDO_DATA_DIR=str(tmp_path), FERNANDO_AGENT="false"),
        cwd="/",
    )
    assert process.stderr is not None
    for line in process.stderr:
        if "embedded_postgres_started" in line:
            break
    process.send_signal(signal.SIGTERM)
    assert "Traceback" not in process.stderr.read()
    assert process.wait(60) == 0
    process.stderr.close()


def test_every_worker_and_the_agent_have_metrics_of_their_own(tmp_path: Path) -> None:
    data = str(tmp_path)
    variables = environment(
        FERNANDO_PORT="0",
        FERNANDO_DATA_DIR=data,
        FERNANDO_HOST_NAME="box",
        FERNANDO_HEALTH_INTERVAL_SECONDS="0.2",
        FERNANDO_AGENT_INTERVAL_SECONDS="0.2",
    )
    process = subprocess.Popen(
        [sys.executable, "-m", "fernando_telemetry", "serve", "--workers", "2"],
        stderr=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        text=True,
        env=variables,
        cwd="/",
    )
    try:
        assert process.stdout is not None
        address = next(line.split()[1] for line in process.stdout if "gRPC" in line)
        port = address.rpartition(":")[2]
        wanted = {f"box:{port}#1", f"box:{port}#2", ""}
        seen: set[str] = set()
        deadline = time.monotonic() + 30
        query = "SELECT DISTINCT coalesce(instance_id, '') AS instance_id FROM system_metrics"
        while not wanted <= seen:
            assert time.monotonic() < deadline, seen
            rows = cli("sql", query, "--json", "--data-dir", data).stdout
            seen = {json.loads(line)["instance_id"] for line in rows.splitlines()}
        process.send_signal(signal.SIGTERM)
        assert process.wait(60) == 0
    finally:
        if process.poll() is None:
            process.kill()
        process.wait(30)
        assert process.stdout is not None
        process.stdout.close()


@pytest.mark.parametrize(("first", "second"), [("2", "2"), ("1", "2"), ("2", "1")])
def test_a_taken_port_is_one_sentence_and_exit_code_1(
    tmp_path: Path, first: str, second: str
) -> None:
    with serve("--data-dir", str(tmp_path / "a"), "--no-agent", "--workers", first) as serving:
        port = serving.address.rpartition(":")[2]
        other = ["--data-dir", str(tmp_path / "b"), "--no-agent", "--port", port]
        refused = cli("serve", *other, "--workers", second, "--log-level", "error")
        assert refused.returncode == 1
        # gRPC itself says something too where it is the one that cannot bind.
        *others, sentence = refused.stderr.splitlines()
        assert second == "1" or not others
        assert sentence.startswith(f"fernando-telemetry: Port {port} on 127.0.0.1 cannot be bound")
        assert serving.stop() == 0
