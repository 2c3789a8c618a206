"""`kill -9` of the owner leaves no PostgreSQL; whatever is left, the next start serves."""

# Nothing else waits for this loop: files may be looked at, and conditions polled, in it.
# ruff: noqa: ASYNC240
from __future__ import annotations

import asyncio
import contextlib
import ctypes
import os
import signal
from collections.abc import Iterator
from pathlib import Path

import pytest

from fernando_telemetry.domain.errors import StartupError
from fernando_telemetry.embedded import EmbeddedPostgres
from fernando_telemetry.embedded.leftovers import processes_in
from tests.integration.embedded.conftest import (
    MakeLaunch,
    MakeSettings,
    needs_proc,
    needs_root,
    query,
    skip_without,
)
from tests.integration.embedded.processes import (
    Owner,
    living_postgres,
    until,
    until_none_lives,
)

pytestmark = needs_proc
PR_SET_CHILD_SUBREAPER = 36


@pytest.mark.parametrize("tie", ["kernel", "watchdog"])
async def test_a_killed_owner_leaves_no_process(
    tie: str, data_dir: Path, make_launch: MakeLaunch
) -> None:
    launch = make_launch(tie)
    async with launch.owner() as owner:
        await query(owner.dsn, "CREATE TABLE kept AS SELECT 7 AS number")
        # A session in the middle of a computation must not hold the shutdown up.
        busy = asyncio.create_task(query(owner.dsn, "SELECT sum(i) FROM generate_series(1,1e9) i"))
        assert owner.postmaster in living_postgres(data_dir)
        await owner.kill()
        await until_none_lives(data_dir)
        with contextlib.suppress(Exception):
            await busy
    async with launch.owner() as owner:
        assert await query(owner.dsn, "SELECT number FROM kept") == 7


@needs_root
@pytest.mark.parametrize("root_mode", ["namespace", "user"])
async def test_a_killed_owner_leaves_no_process_in_either_mode_of_root(
    root_mode: str, open_dir: Path, make_launch: MakeLaunch
) -> None:
    skip_without(root_mode)
    data_dir = open_dir / "data"
    async with make_launch(data_dir=data_dir, pg_root_mode=root_mode).owner() as owner:
        assert owner.postmaster in living_postgres(data_dir)
        await owner.kill()
        await until_none_lives(data_dir)


async def test_an_owner_killed_in_initdb_leaves_half_a_cluster_that_does_no_harm(
    data_dir: Path, make_launch: MakeLaunch
) -> None:
    process = await make_launch().start()
    await until(lambda: any(data_dir.glob("initdb-*/base")))
    process.kill()
    await process.communicate()
    assert not (data_dir / "pgdata").exists()
    async with make_launch().owner() as owner:
        assert await query(owner.dsn, "SELECT 1") == 1
    assert not list(data_dir.glob("initdb-*"))


async def test_the_next_start_comes_at_once(data_dir: Path, make_launch: MakeLaunch) -> None:
    launch = make_launch()
    for _turn in range(4):
        async with launch.owner() as owner:
            await owner.kill()
    await until_none_lives(data_dir)


@pytest.fixture
def subreaper() -> Iterator[None]:
    """Become, as process 1 of a container is, the parent of orphans, and do not reap them."""
    libc = ctypes.CDLL(None)
    if libc.prctl(PR_SET_CHILD_SUBREAPER, 1, 0, 0, 0) != 0:
        pytest.skip("no subreaper here")
    try:
        yield
    finally:
        libc.prctl(PR_SET_CHILD_SUBREAPER, 0, 0, 0, 0)
        for pid in _zombies_of_postgres():
            os.waitpid(pid, 0)


def _zombies_of_postgres() -> list[int]:
    found = []
    for entry in Path("/proc").iterdir():
        with contextlib.suppress(OSError, ValueError):
            name, _, rest = (entry / "stat").read_text().partition("(")[2].rpartition(")")
            state, parent = rest.split()[:2]
            if name == "postgres" and state == "Z" and int(parent) == os.getpid():
                found.append(int(entry.name))
    return found


def _is_stopped(pid: int) -> bool:
    threads = Path(f"/proc/{pid}/task").iterdir()
    return all((thread / "stat").read_text().rpartition(")")[2][1] == "T" for thread in threads)


@pytest.mark.usefixtures("subreaper")
async def test_a_zombie_postmaster_counts_as_dead(data_dir: Path, make_launch: MakeLaunch) -> None:
    async with make_launch().owner() as owner:
        # Stopped, it cannot reap the postmaster before it is killed itself.
        os.kill(owner.pid, signal.SIGSTOP)
        await until(lambda: _is_stopped(owner.pid))
        os.kill(owner.postmaster, signal.SIGKILL)
        await owner.kill()
    await until(lambda: owner.postmaster in _zombies_of_postgres())
    assert (data_dir / "pgdata" / "postmaster.pid").read_text().startswith(str(owner.postmaster))
    async with make_launch().owner() as second:
        assert await query(second.dsn, "SELECT 1") == 1
        assert owner.postmaster in _zombies_of_postgres(), "the test proved nothing"


async def test_a_pid_file_that_names_another_program(
    data_dir: Path, make_launch: MakeLaunch
) -> None:
    async with make_launch().owner() as owner:
        os.kill(owner.postmaster, signal.SIGKILL)
        await owner.kill()
    await until_none_lives(data_dir)
    pid_file = data_dir / "pgdata" / "postmaster.pid"
    lines = pid_file.read_text().splitlines()
    pid_file.write_text("\n".join([str(os.getppid()), *lines[1:]]) + "\n")
    async with make_launch().owner() as owner:
        assert await query(owner.dsn, "SELECT 1") == 1


async def _tie_cut(owner: Owner) -> None:
    """Kill an owner and, before it, the watchdog that would end its PostgreSQL."""
    children = Path(f"/proc/{owner.pid}/task/{owner.pid}/children").read_text().split()
    watchdogs = [
        int(pid) for pid in children if b"watchdog.py" in Path(f"/proc/{pid}/cmdline").read_bytes()
    ]
    assert len(watchdogs) == 1
    os.kill(watchdogs[0], signal.SIGKILL)
    await owner.kill()


async def test_a_postgresql_that_does_not_end_is_named(
    data_dir: Path, make_launch: MakeLaunch, make_settings: MakeSettings
) -> None:
    async with make_launch("watchdog").owner() as owner:
        await _tie_cut(owner)
    try:
        # Without the watchdog it lives on: so it was the watchdog that ended it above.
        assert owner.postmaster in processes_in(data_dir / "pgdata")
        with pytest.raises(StartupError, match=rf"process {owner.postmaster}\).*kill -INT"):
            await EmbeddedPostgres(make_settings()).start()
        assert owner.postmaster in living_postgres(data_dir), "it is not ours to end"
    finally:
        os.kill(owner.postmaster, signal.SIGINT)
    async with EmbeddedPostgres(make_settings()) as postgres:
        assert await query(postgres.dsn, "SELECT 1") == 1
