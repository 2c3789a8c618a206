"""Fixtures of the embedded PostgreSQL's tests: small clusters in folders of their own."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Callable, Iterator
from pathlib import Path

import asyncpg
import pytest

from fernando_telemetry.domain.errors import StartupError
from fernando_telemetry.embedded.privileges import choose_identity
from fernando_telemetry.settings import Settings, load_settings
from tests.integration.embedded.processes import Launch

POSTGRESQL_15 = Path("/usr/lib/postgresql/15/bin")

needs_root = pytest.mark.skipif(os.getuid() != 0, reason="only root can do this")
needs_proc = pytest.mark.skipif(not Path("/proc/self/stat").exists(), reason="needs /proc")
needs_postgresql_15 = pytest.mark.skipif(
    not (POSTGRESQL_15 / "initdb").exists(), reason=f"no PostgreSQL in {POSTGRESQL_15}"
)

MakeSettings = Callable[..., Settings]
MakeLaunch = Callable[..., Launch]


@pytest.fixture(autouse=True)
def run_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """Put the run directories of a test where they are swept up: killed owners leave theirs."""
    with tempfile.TemporaryDirectory(prefix="run-", dir="/tmp") as name:
        folder = Path(name)
        folder.chmod(0o1777)
        monkeypatch.delenv("XDG_RUNTIME_DIR", raising=False)
        monkeypatch.setenv("TMPDIR", name)
        monkeypatch.setattr(tempfile, "tempdir", name)
        yield folder


@pytest.fixture
def data_dir(tmp_path: Path) -> Path:
    return tmp_path / "data"


@pytest.fixture
def open_dir() -> Iterator[Path]:
    """Give a folder that every user can reach; pytest's own are closed."""
    folder = Path(tempfile.mkdtemp(prefix="fernando-open-"))
    folder.chmod(0o777)
    yield folder
    shutil.rmtree(folder)


@pytest.fixture
def make_settings(data_dir: Path, monkeypatch: pytest.MonkeyPatch) -> MakeSettings:
    for name in [name for name in os.environ if name.startswith("FERNANDO_")]:
        monkeypatch.delenv(name)

    def make(**fields: object) -> Settings:
        small = {"data_dir": data_dir, "pg_fsync": False, "pg_shared_buffers_mib": 16}
        return load_settings(**(small | fields))

    return make


@pytest.fixture
def make_launch(data_dir: Path) -> MakeLaunch:
    def make(tie: str = "kernel", **fields: object) -> Launch:
        small = {"data_dir": data_dir, "pg_fsync": False, "pg_shared_buffers_mib": 16}
        return Launch(small | fields, tie)

    return make


@pytest.fixture
def tmpfs(tmp_path: Path) -> Iterator[Callable[[int], Path]]:
    """Mount small file systems; each is gone at the end of the test."""
    mounted: list[Path] = []

    def mount(size_mib: int) -> Path:
        folder = tmp_path / f"disk{len(mounted)}"
        folder.mkdir()
        command = ["mount", "-t", "tmpfs", "-o", f"size={size_mib}m", "tmpfs", str(folder)]
        done = subprocess.run(command, capture_output=True, text=True, check=False)
        if done.returncode != 0:
            pytest.skip(f"cannot mount a tmpfs: {done.stderr.strip()}")
        mounted.append(folder)
        return folder

    yield mount
    for folder in mounted:
        subprocess.run(["umount", str(folder)], check=True)


def skip_without(root_mode: str) -> None:
    """Skip where this user cannot run PostgreSQL in that mode."""
    try:
        choose_identity(root_mode)  # type: ignore[arg-type]
    except StartupError as error:
        pytest.skip(str(error))


def python_for_everyone() -> tuple[str, dict[str, str]]:
    """Give a Python, and its environment, that a user without rights can run.

    The one of the tests may lie in a closed home; then the system's, if it is of the same version.
    """
    paths = [entry for entry in sys.path if entry.endswith("site-packages")]
    source = Path(__file__).parents[3] / "src"
    for python in (sys.executable, "/usr/bin/python3"):
        probe = "import sys, asyncpg, pydantic_settings; print(*sys.version_info[:2])"
        environment = {"PYTHONPATH": os.pathsep.join([str(source), *paths]), "HOME": "/"}
        try:
            done = subprocess.run(
                [python, "-c", probe],
                capture_output=True,
                text=True,
                check=False,
                cwd="/",
                user="nobody",
                extra_groups=[],
                env=os.environ | environment,
            )
        except OSError:
            continue
        if done.returncode == 0 and done.stdout.split() == [str(n) for n in sys.version_info[:2]]:
            return python, environment
    pytest.skip("no Python with the packages of this one is open to user nobody")


async def query(dsn: str, text: str) -> object:
    """Run one statement on a connection of its own; gives the first value."""
    connection = await asyncpg.connect(dsn)
    try:
        return await connection.fetchval(text)
    finally:
        await connection.close()
