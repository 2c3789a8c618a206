"""Owners as processes of their own, and what of PostgreSQL is alive."""

# Nothing else waits for this loop: files may be looked at, and conditions polled, in it.
# ruff: noqa: ASYNC110
from __future__ import annotations

import asyncio
import contextlib
import json
import os
import signal
import subprocess
import sys
from collections.abc import AsyncIterator, Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

OWNER_PROGRAM = Path(__file__).with_name("owner_program.py")
DEADLINE_SECONDS = 30.0


@dataclass
class Owner:
    """A running owner_program.py that said that its cluster serves."""

    process: asyncio.subprocess.Process
    dsn: str
    postmaster: int

    @property
    def pid(self) -> int:
        return self.process.pid

    async def kill(self) -> None:
        self.process.kill()
        await self.process.wait()

    async def stop(self) -> tuple[int, str]:
        """End it gently; gives its exit code and what it said on stderr."""
        assert self.process.stdin is not None
        self.process.stdin.close()
        _output, errors = await self.process.communicate()
        assert self.process.returncode is not None
        return self.process.returncode, errors.decode()


@dataclass
class Launch:
    """How an owner is to be started."""

    fields: dict[str, Any]
    tie: str = "kernel"
    python: str = sys.executable
    environment: dict[str, str] = field(default_factory=dict)
    uid: int | None = None
    gid: int | None = None

    async def start(self) -> asyncio.subprocess.Process:
        clean = {name: os.environ[name] for name in os.environ if not name.startswith("FERNANDO_")}
        fields = self.fields | {"data_dir": str(self.fields["data_dir"])}
        who: dict[str, Any] = {}
        if self.uid is not None:
            who = {"user": self.uid, "group": self.gid, "extra_groups": []}
        return await asyncio.create_subprocess_exec(
            *(self.python, str(OWNER_PROGRAM), json.dumps(fields), self.tie),
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            cwd="/",
            env=clean | self.environment,
            **who,
        )

    async def refusal(self) -> str:
        """Start an owner that must not start; gives the one sentence."""
        process = await self.start()
        _output, errors = await process.communicate()
        assert process.returncode == 1, errors.decode()
        lines = errors.decode().splitlines()
        assert len(lines) == 1, lines
        return lines[0]

    @contextlib.asynccontextmanager
    async def owner(self) -> AsyncIterator[Owner]:
        """Run an owner; killed at the end if it still runs."""
        process = await self.start()
        try:
            assert process.stdout is not None
            assert process.stderr is not None
            async with asyncio.timeout(DEADLINE_SECONDS):
                line = await process.stdout.readline()
            if not line:
                raise AssertionError((await process.stderr.read()).decode())
            told = json.loads(line)
            yield Owner(process, told["dsn"], told["postmaster"])
        finally:
            if process.returncode is None:
                process.kill()
            await process.communicate()


def living_postgres(data_dir: Path) -> list[int]:
    """Give the pids of postgres processes of a data directory; zombies count as dead.

    The postmaster names the folder in its command line; its children work in it.
    """
    pgdata = str((data_dir / "pgdata").resolve())
    found = []
    for entry in Path("/proc").iterdir():
        if not entry.name.isdigit():
            continue
        with contextlib.suppress(OSError):
            state = (entry / "stat").read_text().rpartition(")")[2].split()[0]
            words = (entry / "cmdline").read_bytes().split(b"\0")
            named = words[0].endswith(b"postgres") and pgdata.encode() in words
            if state not in "ZX" and (named or _works_in(entry, pgdata)):
                found.append(int(entry.name))
    return found


def _works_in(entry: Path, pgdata: str) -> bool:
    with contextlib.suppress(OSError):
        return str((entry / "cwd").readlink()) == pgdata
    return False


async def until(condition: Callable[[], bool], seconds: float = DEADLINE_SECONDS) -> None:
    """Poll a condition; fails if it does not come true in time."""
    async with asyncio.timeout(seconds):
        while not condition():
            await asyncio.sleep(0.01)


async def until_none_lives(data_dir: Path) -> None:
    try:
        await until(lambda: not living_postgres(data_dir))
    except TimeoutError:
        orphans = living_postgres(data_dir)
        for pid in orphans:
            with contextlib.suppress(ProcessLookupError):
                os.kill(pid, signal.SIGKILL)
        raise AssertionError(f"orphans of {data_dir}: {orphans}") from None
