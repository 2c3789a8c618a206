"""The server under test: `fernando-telemetry serve` as a child process, with its own database."""

from __future__ import annotations

import asyncio
import contextlib
import os
import shutil
import signal
import sys
import tempfile
import time
from collections.abc import AsyncIterator, Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Final

import asyncpg

from fernando_telemetry.bench.failure import BenchFailed
from fernando_telemetry.embedded import running_server
from fernando_telemetry.embedded.launcher import launch_command

if TYPE_CHECKING:
    Connection = asyncpg.Connection[asyncpg.Record]
else:  # the stubs make it generic, the driver itself does not
    Connection = asyncpg.Connection

START_SECONDS: Final = 90.0
STOP_SECONDS: Final = 60.0
POLL_SECONDS: Final = 0.05
_PREFIX: Final = "FERNANDO_"
# What a benchmark decides itself; other settings of the environment reach the server.
_OWN: Final = ("dsn", "read_dsn", "control_dsn", "config", "agent_target", "host")


@dataclass(frozen=True, slots=True)
class Server:
    """A serving process.

    Attributes:
        address: host:port of gRPC.
        dsn: Its database.
        pid: Its process id.
        data_dir: Its folder.
        given_settings: Settings that the environment of the benchmark gave it.
    """

    address: str
    dsn: str
    pid: int
    data_dir: Path
    given_settings: dict[str, str]

    async def connect(self) -> Connection:
        """Open a session as the baseline has it: synchronous_commit = on, UTC."""
        return await asyncpg.connect(
            self.dsn, server_settings={"synchronous_commit": "on", "TimeZone": "UTC"}
        )


def settings_given(environment: Mapping[str, str], decided: Iterable[str]) -> dict[str, str]:
    """Give the settings of an environment that reach the server: none that a benchmark decides."""
    own = {f"{_PREFIX}{name.upper()}" for name in (*_OWN, *decided)}
    return {
        name: value
        for name, value in environment.items()
        if name.startswith(_PREFIX) and name not in own
    }


@contextlib.asynccontextmanager
async def serving(folder: Path | None = None, /, **settings: object) -> AsyncIterator[Server]:
    """Run a server in a temporary folder, which is removed afterwards.

    Args:
        folder: Where instead; made if need be, and kept.
        settings: Settings of the server beside those every benchmark has: embedded PostgreSQL
            with fsync, agent and health metrics off, any free port.

    Raises:
        BenchFailed: It did not start; with the end of its log.
    """
    is_kept = folder is not None
    folder = _make_folder(folder)
    own = {
        "data_dir": folder / "data",
        "port": 0,
        "agent": "false",
        "health_interval_seconds": 0,
        "pg_fsync": "true",
    } | settings
    given = settings_given(os.environ, own)
    variables = {key: value for key, value in os.environ.items() if not key.startswith(_PREFIX)}
    variables |= given | {f"{_PREFIX}{name.upper()}": str(value) for name, value in own.items()}
    log_file = folder / "serve.log"
    with log_file.open("wb") as output:
        process = await asyncio.create_subprocess_exec(
            *_tied(sys.executable, "-m", "fernando_telemetry", "serve", "--log-format", "json"),
            stdin=asyncio.subprocess.DEVNULL,
            stdout=asyncio.subprocess.DEVNULL,
            stderr=output,
            env=variables,
            cwd="/",
            # Ctrl-C is for the benchmark, which then stops the server.
            start_new_session=True,
        )
    try:
        address, dsn = await _wait_until_serving(process, folder / "data", log_file)
        yield Server(address, dsn, process.pid, folder / "data", given)
    finally:
        await _stop(process)
        if not is_kept:
            await asyncio.to_thread(shutil.rmtree, folder, ignore_errors=True)


def _tied(*command: str) -> list[str]:
    """Let a program end with this process, also by `kill -9` (where there is such a signal)."""
    tie = "kernel" if sys.platform.startswith("linux") else "watchdog"
    return [*launch_command(tie), *command]


def _make_folder(folder: Path | None) -> Path:
    if folder is None:
        folder = Path(tempfile.mkdtemp(prefix="fernando-bench-"))
    folder.mkdir(parents=True, exist_ok=True)
    # Where root runs PostgreSQL as a lesser user, that one has to get in.
    folder.chmod(0o755)
    return folder


def _last_words(log_file: Path) -> str:
    lines = log_file.read_text(encoding="utf-8", errors="replace").strip().splitlines()
    return " ".join(lines[-3:])


async def _wait_until_serving(
    process: asyncio.subprocess.Process, data_dir: Path, log_file: Path
) -> tuple[str, str]:
    deadline = time.monotonic() + START_SECONDS
    while process.returncode is None and time.monotonic() < deadline:
        running = running_server(data_dir)
        if running is not None and running.grpc_address:
            return running.grpc_address, running.dsn
        await asyncio.sleep(POLL_SECONDS)
    raise BenchFailed(f"The server did not start; its last words: {_last_words(log_file)}")


async def _stop(process: asyncio.subprocess.Process) -> None:
    if process.returncode is not None:
        return
    process.send_signal(signal.SIGTERM)
    try:
        async with asyncio.timeout(STOP_SECONDS):
            await process.wait()
    except TimeoutError:
        process.kill()
        await process.wait()
