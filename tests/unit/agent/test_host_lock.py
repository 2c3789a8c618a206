"""One agent per host."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

from fernando_telemetry.agent.host_lock import HostLock, LockHeld, default_lock_path
from fernando_telemetry.domain.errors import StartupError

HOLD = """
import sys
from pathlib import Path
from fernando_telemetry.agent.host_lock import HostLock
lock = HostLock.acquire(Path(sys.argv[1]), "serve")
print(type(lock).__name__, flush=True)
sys.stdin.read()
"""


def test_second_is_told_who_has_it(tmp_path: Path) -> None:
    path = tmp_path / "agent.lock"
    first = HostLock.acquire(path, "serve")
    assert isinstance(first, HostLock)
    second = HostLock.acquire(path, "agent")
    assert isinstance(second, LockHeld)
    assert second.holder == f"serve, pid {os.getpid()}"
    assert str(second) == f"serve, pid {os.getpid()} holds {path}"
    first.release()
    first.release()
    third = HostLock.acquire(path, "agent")
    assert isinstance(third, HostLock)
    with third:
        pass
    assert path.exists()


def test_kill_of_the_holder_frees_it(tmp_path: Path) -> None:
    path = tmp_path / "agent.lock"
    with subprocess.Popen(
        [sys.executable, "-c", HOLD, str(path)],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
    ) as holder:
        assert holder.stdout is not None
        assert holder.stdout.readline().strip() == "HostLock"
        held = HostLock.acquire(path, "agent")
        assert isinstance(held, LockHeld)
        assert held.holder == f"serve, pid {holder.pid}"
        holder.kill()
        holder.wait()
    free = HostLock.acquire(path, "agent")
    assert isinstance(free, HostLock)
    free.release()


def test_unreadable_holder_is_another_process(tmp_path: Path) -> None:
    path = tmp_path / "agent.lock"
    first = HostLock.acquire(path, "serve")
    path.write_text("[]")
    held = HostLock.acquire(path, "agent")
    assert isinstance(held, LockHeld)
    assert str(held) == f"another process holds {path}"
    assert isinstance(first, HostLock)
    first.release()


def test_planted_link_is_not_followed(tmp_path: Path) -> None:
    victim = tmp_path / "victim"
    victim.write_text("precious")
    link = tmp_path / "agent.lock"
    link.symlink_to(victim)
    with pytest.raises(StartupError, match=r"agent\.lock cannot be opened"):
        HostLock.acquire(link, "serve")
    assert victim.read_text() == "precious"


def test_missing_folder_is_one_sentence(tmp_path: Path) -> None:
    with pytest.raises(StartupError, match="cannot be opened"):
        HostLock.acquire(tmp_path / "none" / "agent.lock", "serve")


def test_path_is_per_host_and_a_plain_name() -> None:
    one, other = default_lock_path("web-1"), default_lock_path("../../etc/x y")
    assert one != other
    assert one.parent == other.parent
    assert one.parent.is_dir()
