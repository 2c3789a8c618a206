"""The checkout under test, and the programs that judge its contract."""

from __future__ import annotations

import shutil
import subprocess
import sys
from importlib.util import find_spec
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]
PROTOS = ROOT / "protos"
PACKAGE = Path("fernando/telemetry/v1")
GENERATED = ROOT / "generated"


def sources() -> list[Path]:
    """Give the contract's files, relative to `PROTOS`."""
    return sorted(path.relative_to(PROTOS) for path in PROTOS.joinpath(PACKAGE).glob("*.proto"))


def run(*command: str | Path, cwd: Path = ROOT) -> subprocess.CompletedProcess[str]:
    """Run a program to its end; its exit code is the caller's to judge."""
    return subprocess.run(
        [str(part) for part in command], cwd=cwd, capture_output=True, text=True, check=False
    )


def buf(*arguments: str | Path, cwd: Path = ROOT) -> subprocess.CompletedProcess[str]:
    """Run buf (of the wheel buf-bin, else of PATH); skips the test where there is none."""
    beside_python = Path(sys.executable).with_name("buf")
    program = str(beside_python) if beside_python.exists() else shutil.which("buf")
    if program is None:
        pytest.skip("buf is not installed (pip install buf-bin)")
    return run(program, *arguments, cwd=cwd)


def well_known_types() -> Path:
    """Give the folder of google/protobuf/*.proto; skips where grpcio-tools is absent."""
    spec = find_spec("grpc_tools")
    if spec is None or spec.origin is None:
        pytest.skip("grpcio-tools is not installed")
    return Path(spec.origin).parent / "_proto"


def copy_contract(to: Path) -> Path:
    """Copy protos/ and buf.yaml, for a test that breaks them; gives the copy's root."""
    to.mkdir()
    shutil.copytree(PROTOS, to / "protos")
    shutil.copy(ROOT / "buf.yaml", to)
    return to
