"""The built wheels, installed into an empty environment, serve: migrations are carried along."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

from tests.e2e.processes import serve

ROOT = Path(__file__).resolve().parents[2]


@pytest.mark.timeout(300)
def test_wheels_serve_from_an_empty_environment(tmp_path: Path) -> None:
    wheels = tmp_path / "wheels"
    for source in (ROOT / "generated", ROOT):
        subprocess.run(
            [sys.executable, "-m", "build", "--wheel", "--no-isolation", "-o", wheels, source],
            check=True,
            capture_output=True,
        )
    venv = tmp_path / "venv"
    subprocess.run([sys.executable, "-m", "venv", "--without-pip", venv], check=True)
    python = venv / "bin" / "python"
    base = Path(sys.base_prefix) / "bin" / "python3"
    installed = subprocess.run(
        [
            *map(str, (base, "-m", "pip", "--python", python, "install", "-q")),
            # What is imported compiles itself; the rest of the libraries need not be.
            "--no-compile",
            *map(str, ("-c", ROOT / "constraints.txt", *wheels.glob("*.whl"))),
        ],
        capture_output=True,
        text=True,
        check=False,
    )
    assert installed.returncode == 0, installed.stderr
    program = [str(venv / "bin" / "fernando-telemetry")]
    with serve("--data-dir", str(tmp_path / "data"), "--no-agent", program=program) as serving:
        sent = subprocess.run(serving.command("send"), capture_output=True, text=True, check=False)
        assert sent.returncode == 0, sent.stderr
        assert serving.stop() == 0
