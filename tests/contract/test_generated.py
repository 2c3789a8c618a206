"""The SDK distribution: its code is what the contract generates, its dependencies what it needs."""

from __future__ import annotations

import filecmp
import re
import sys
import tomllib
from pathlib import Path

import pytest

from tests.contract.repository import GENERATED, PACKAGE, run, well_known_types


@pytest.fixture(scope="module")
def regenerated(tmp_path_factory: pytest.TempPathFactory) -> Path:
    well_known_types()
    pytest.importorskip("mypy_protobuf", reason="mypy-protobuf is not installed")
    out = tmp_path_factory.mktemp("regenerated")
    result = run(sys.executable, GENERATED / "generate.py", "--out", out)
    assert result.returncode == 0, result.stderr
    return out / PACKAGE


def names(folder: Path) -> set[str]:
    return {path.name for path in folder.iterdir() if path.is_file()}


def test_the_committed_code_is_what_the_contract_generates(regenerated: Path) -> None:
    committed = GENERATED / PACKAGE
    assert names(committed) == names(regenerated)
    _, different, unreadable = filecmp.cmpfiles(
        committed, regenerated, sorted(names(committed)), shallow=False
    )
    assert (different, unreadable) == ([], []), "run generated/generate.py"


def dependencies() -> dict[str, str]:
    project = tomllib.loads((GENERATED / "pyproject.toml").read_text())["project"]
    return dict(re.split(r"(?=[><=!~])", line, maxsplit=1) for line in project["dependencies"])


def demanded(pattern: str, files: str) -> set[str]:
    found = set()
    for path in sorted((GENERATED / PACKAGE).glob(files)):
        match = re.search(pattern, path.read_text())
        assert match, path.name
        found.add(match[1])
    assert found
    return found


def test_the_sdk_depends_on_four_packages_and_nothing_else() -> None:
    assert set(dependencies()) == {"grpcio", "protobuf", "types-grpcio", "types-protobuf"}


def test_the_floor_of_protobuf_is_what_the_messages_demand() -> None:
    floors = demanded(r"# Protobuf Python Version: (\S+)", "*_pb2.py")
    assert floors == {dependencies()["protobuf"].removeprefix(">=")}


def test_the_floor_of_grpcio_is_what_the_stubs_demand() -> None:
    floors = demanded(r"GRPC_GENERATED_VERSION = '(\S+)'", "*_pb2_grpc.py")
    assert floors == {dependencies()["grpcio"].removeprefix(">=")}


IMPORTS = """
import importlib, pkgutil, sys
import fernando.telemetry
for module in pkgutil.walk_packages(fernando.telemetry.__path__, "fernando.telemetry."):
    importlib.import_module(module.name)
print("\\n".join(sorted({name.partition(".")[0] for name in sys.modules})))
"""


def test_the_sdk_imports_nothing_of_the_server() -> None:
    result = run(sys.executable, "-c", IMPORTS)
    assert result.returncode == 0, result.stderr
    imported = set(result.stdout.split())
    assert {"fernando", "grpc", "google"} <= imported
    assert imported.isdisjoint({"fernando_telemetry", "asyncpg", "sqlalchemy", "alembic"})
