"""`serve` as a person meets it: banner, the commands it prints, signals, sentences."""

from __future__ import annotations

import asyncio
import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import asyncpg
import pytest

from tests.e2e.processes import Serving, environment, serve

POSTGRESQL_15 = Path("/usr/lib/postgresql/15/bin")


def cli(*arguments: str, **more: str) -> subprocess.CompletedProcess[str]:
    """Run the program."""
    return subprocess.run(
        [sys.executable, "-m", "fernando_telemetry", *arguments],
        capture_output=True,
        text=True,
        env=environment(**more),
        cwd="/",
        timeout=60,
        check=False,
    )


def test_banner_commands_work_as_printed(tmp_path: Path) -> None:
    data = tmp_path / "data"
    with serve("--data-dir", str(data), "--no-agent") as serving:
        banner = "\n".join(serving.banner)
        assert serving.address in banner
        assert str(data) in banner
        sent = subprocess.run(serving.command("send"), capture_output=True, text=True, check=False)
        assert sent.returncode == 0, sent.stderr
        asked = subprocess.run(
            serving.command("query"), capture_output=True, text=True, check=False
        )
        assert asked.returncode == 0, asked.stderr
        assert "hello" in asked.stdout
        counted = subprocess.run(serving.command("sql"), capture_output=True, check=False)
        assert counted.returncode == 0, counted.stderr
        assert b"hello" in counted.stdout
        dsn = cli("dsn", "--data-dir", str(data)).stdout.strip()
        assert asyncio.run(_count(dsn)) == 1
        stopped = subprocess.run(serving.command("stop"), capture_output=True, check=False)
        assert stopped.returncode == 0
        assert serving.process.wait(30) == 0
    assert "Traceback" not in banner


async def _count(dsn: str) -> int:
    connection = await asyncpg.connect(dsn)
    try:
        found: int = await connection.fetchval("SELECT count(*) FROM telemetry_events")
        return found
    finally:
        await connection.close()


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_signal_ends_with_exit_code_0(tmp_path: Path, number: signal.Signals) -> None:
    with serve("--data-dir", str(tmp_path / "data"), "--no-agent") as serving:
        assert serving.stop(number) == 0


def test_second_start_has_the_data_of_the_first(tmp_path: Path) -> None:
    data = str(tmp_path / "data")
    for expected in (1, 2):
        with serve("--data-dir", data, "--no-agent") as serving:
            subprocess.run(serving.command("send"), capture_output=True, check=True)
            counted = cli(
                "sql", "SELECT count(*) FROM telemetry_events", "--json", "--data-dir", data
            )
            assert json.loads(counted.stdout) == {"count": expected}
            assert serving.stop() == 0


def test_own_agent_and_health_metrics_arrive(tmp_path: Path) -> None:
    data = str(tmp_path / "data")
    services = {"host", "fernando_telemetry"}
    with _Quick(data) as serving:
        assert "this host, every 0.2 s" in "\n".join(serving.banner)
        with _Quick(str(tmp_path / "second")) as second:
            assert "not started" in "\n".join(second.banner)
            assert second.stop() == 0
        deadline = time.monotonic() + 30
        seen: set[str] = set()
        while not services <= seen:
            assert time.monotonic() < deadline, (seen, serving.log.read_text())
            answer = cli(
                "sql",
                "SELECT DISTINCT service_name FROM system_metrics",
                "--json",
                "--data-dir",
                data,
            )
            seen = {json.loads(line)["service_name"] for line in answer.stdout.splitlines()}
        assert serving.stop() == 0


class _Quick:
    """A server whose agent and health loop turn every 0.2 s."""

    def __init__(self, data: str) -> None:
        self._settings = Path(data).parent / "quick.toml"
        # A host name of its own: the agent's lock is per host, and a real one may run here.
        self._settings.write_text(
            "agent_interval_seconds = 0.2\nhealth_interval_seconds = 0.2\n"
            f'host_name = "test-{os.getpid()}"\n'
        )
        program = ["env", f"FERNANDO_CONFIG={self._settings}", sys.executable, "-m"]
        self._serving = serve("--data-dir", data, program=[*program, "fernando_telemetry"])

    def __enter__(self) -> Serving:
        return self._serving.__enter__()

    def __exit__(self, *details: object) -> None:
        self._serving.__exit__(*details)  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("arguments", "sentence"),
    [
        (["--host", "0.0.0.0"], "insecure-bind"),
        (["--dsn", "postgresql://postgres@127.0.0.1:1/none"], "does not answer"),
        (["--dsn", "nonsense"], "FERNANDO_DSN"),
        (["--migrate", "perhaps"], "migrate"),
    ],
)
def test_trouble_at_start_is_one_sentence_and_exit_code_1(
    tmp_path: Path, arguments: list[str], sentence: str
) -> None:
    ended = cli("serve", "--port", "0", "--data-dir", str(tmp_path / "data"), *arguments)
    assert ended.returncode == 1
    assert sentence in ended.stderr
    assert "Traceback" not in ended.stderr


def test_port_in_use_is_one_sentence(tmp_path: Path) -> None:
    with serve("--data-dir", str(tmp_path / "one"), "--no-agent") as first:
        port = first.address.rsplit(":", 1)[1]
        ended = cli("serve", "--port", port, "--data-dir", str(tmp_path / "two"), "--no-agent")
        assert ended.returncode == 1
        assert ended.stderr.startswith(f"fernando-telemetry: Port {port} on 127.0.0.1 ")
        assert ended.stderr.count("\n") == 1
        assert not (tmp_path / "two").exists(), "a database was made for nothing"
        assert first.stop() == 0


def test_sql_is_read_only_and_names_the_fault(tmp_path: Path) -> None:
    data = str(tmp_path / "data")
    with serve("--data-dir", data, "--no-agent") as serving:
        wrote = cli("sql", "DELETE FROM telemetry_events", "--data-dir", data)
        assert wrote.returncode == 1
        assert "read-only" in wrote.stderr
        broken = cli("sql", "SELEC 1", "--data-dir", data)
        assert broken.returncode == 1
        assert "at character 1" in broken.stderr
        query = (
            """SELECT '{"a": 1.10}'::jsonb j, ARRAY['{"b": 2}'::json] js, 7 n, """
            "timestamptz '2026-05-17 11:30+02' t, int4range(1, 5) r, ROW(1, 'x') w"
        )
        said = cli("sql", query, "--json", "--data-dir", data).stdout
        assert '{"a": 1.10}' in said
        assert json.loads(said) == {
            "j": {"a": 1.1},
            "js": [{"b": 2}],
            "n": 7,
            "t": "2026-05-17T09:30:00Z",
            "r": "[1,5)",
            "w": [1, "x"],
        }
        aligned = cli("sql", query, "--data-dir", data)
        heading, row = aligned.stdout.splitlines()
        assert heading.split() == ["j", "js", "n", "t", "r", "w"]
        assert row.startswith('{"a": 1.10}  [{"b": 2}]  7  2026-05-17T09:30:00Z  [1,5)')
        assert aligned.stderr == "(1 row)\n"
        assert serving.stop() == 0


def test_dsn_without_a_server_says_how_to_start_one(tmp_path: Path) -> None:
    ended = cli("dsn", "--data-dir", str(tmp_path))
    assert ended.returncode == 1
    assert "serve" in ended.stderr


def test_version() -> None:
    assert cli("--version").stdout.startswith("fernando-telemetry 0.")


def test_migrate_brings_up_the_embedded_database_and_ends(tmp_path: Path) -> None:
    assert "up to date" in cli("migrate", "--data-dir", str(tmp_path / "data")).stdout


@pytest.mark.skipif(
    not POSTGRESQL_15.is_dir(), reason="needs Debian's package postgresql-15 (oldest supported)"
)
def test_serves_on_the_oldest_supported_postgresql(tmp_path: Path) -> None:
    program = ["env", f"FERNANDO_PG_BIN={POSTGRESQL_15}", sys.executable, "-m"]
    data = str(tmp_path / "data")
    with serve(
        "--data-dir", data, "--no-agent", program=[*program, "fernando_telemetry"]
    ) as serving:
        assert "PostgreSQL 15" in "\n".join(serving.banner)
        subprocess.run(serving.command("send"), capture_output=True, check=True)
        counted = cli("sql", "SELECT count(*) FROM telemetry_events", "--json", "--data-dir", data)
        assert json.loads(counted.stdout) == {"count": 1}
        assert serving.stop() == 0
