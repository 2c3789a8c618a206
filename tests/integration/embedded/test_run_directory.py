"""The folder of the socket: short, private, and nobody else's."""

from __future__ import annotations

import os
import stat
import tempfile
from pathlib import Path

import pytest

from fernando_telemetry.domain.errors import StartupError
from fernando_telemetry.embedded import run_directory
from fernando_telemetry.embedded.privileges import Identity
from fernando_telemetry.embedded.run_directory import make_run_directory
from tests.integration.embedded.conftest import needs_root

SELF = Identity("self", os.getuid(), os.getgid(), "me")


@pytest.fixture
def runtime(run_folder: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    folder = run_folder / "run"
    folder.mkdir(mode=0o700)
    monkeypatch.setenv("XDG_RUNTIME_DIR", str(folder))
    return folder


@pytest.fixture
def elsewhere(run_folder: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Give the temporary folder that is the second choice."""
    folder = run_folder / "tmp"
    folder.mkdir(mode=0o700)
    monkeypatch.setattr(tempfile, "tempdir", str(folder))
    return folder


def test_it_is_private_and_the_same_each_time(runtime: Path, tmp_path: Path) -> None:
    made = make_run_directory(tmp_path / "data", SELF)
    assert made.parent == runtime
    assert stat.S_IMODE(made.stat().st_mode) == 0o700
    made.chmod(0o777)
    assert make_run_directory(tmp_path / "data", SELF) == made
    assert stat.S_IMODE(made.stat().st_mode) == 0o700
    assert make_run_directory(tmp_path / "other", SELF) != made


def test_a_link_in_its_place_is_not_followed(
    runtime: Path, elsewhere: Path, tmp_path: Path
) -> None:
    trap = tmp_path / "trap"
    trap.mkdir(mode=0o755)
    made = make_run_directory(tmp_path / "data", SELF)
    made.rmdir()
    made.symlink_to(trap)
    assert make_run_directory(tmp_path / "data", SELF).parent == elsewhere
    assert stat.S_IMODE(trap.stat().st_mode) == 0o755


def test_what_a_killed_postmaster_left_in_it_is_cleared(runtime: Path, tmp_path: Path) -> None:
    made = make_run_directory(tmp_path / "data", SELF)
    for name in (".s.PGSQL.5432", ".s.PGSQL.5432.lock"):
        (made / name).touch()
    make_run_directory(tmp_path / "data", SELF)
    assert list(made.iterdir()) == []


@needs_root
def test_a_folder_of_somebody_else_is_not_taken(
    runtime: Path, elsewhere: Path, tmp_path: Path
) -> None:
    made = make_run_directory(tmp_path / "data", SELF)
    os.chown(made, 54_321, 54_321)
    assert make_run_directory(tmp_path / "data", SELF).parent == elsewhere
    assert made.stat().st_uid == 54_321


@needs_root
def test_a_runtime_folder_of_another_user_is_not_used(
    runtime: Path, elsewhere: Path, tmp_path: Path
) -> None:
    os.chown(runtime, 54_321, 54_321)
    assert make_run_directory(tmp_path / "data", SELF).parent == elsewhere


def test_a_base_where_others_may_replace_it_is_not_used(
    runtime: Path, elsewhere: Path, tmp_path: Path
) -> None:
    runtime.chmod(0o777)
    assert make_run_directory(tmp_path / "data", SELF).parent == elsewhere
    runtime.chmod(0o1777)
    assert make_run_directory(tmp_path / "data", SELF).parent == runtime


@pytest.mark.parametrize("name", ["x" * 80, "a,b", "a b", "%41"])
def test_a_base_that_does_not_fit_into_a_dsn_or_a_socket(
    name: str, run_folder: Path, elsewhere: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (run_folder / name).mkdir()
    monkeypatch.setenv("XDG_RUNTIME_DIR", str(run_folder / name))
    assert make_run_directory(tmp_path / "data", SELF).parent == elsewhere


def test_no_place_at_all(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    nowhere = [tmp_path / "gone", tmp_path / ("x" * 90)]
    monkeypatch.setattr(run_directory, "_bases", lambda _data_dir: nowhere)
    with pytest.raises(StartupError, match="XDG_RUNTIME_DIR"):
        make_run_directory(tmp_path / "data", SELF)
