"""One run of PostgreSQL: its command line, its pid file, its stop, and what a dead run left."""

from __future__ import annotations

import asyncio
import contextlib
import os
import signal
import sys
import tempfile
import threading
import time
from dataclasses import dataclass
from pathlib import Path
from typing import IO, Literal

from fernando_telemetry.domain.errors import StartupError
from fernando_telemetry.embedded.binaries import Binaries
from fernando_telemetry.embedded.data_directory import DataDirectory
from fernando_telemetry.embedded.last_words import tail_lines, tells_of_full_disk, worst_line
from fernando_telemetry.embedded.launcher import launch_command
from fernando_telemetry.embedded.privileges import Identity
from fernando_telemetry.embedded.run_directory import PORT
from fernando_telemetry.settings import Settings

POLL_SECONDS = 0.01
Tie = Literal["kernel", "watchdog"]
_QUIT_TIMEOUT_SECONDS = 5.0
# How long a leftover that shows no sign of ending is waited for.
_LEFTOVER_PATIENCE_SECONDS = 5.0
# WAL that stays after calm times, to be written again. A new file is 16 MB of zeros and a sync that
# all commits wait for: 95 % took up to 80 ms, and 23 where old files are used again.
_LEAST_KEPT_WAL_MIB = 80
_MOST_KEPT_WAL_MIB = 1024
_DISK_SHARE_OF_KEPT_WAL = 50


@dataclass(frozen=True)
class PidFile:
    """What `postmaster.pid` says: lines 1 and 8 of it."""

    pid: int
    status: str


def read_pid_file(pgdata: Path) -> PidFile | None:
    """Read `postmaster.pid`; None while it is absent or only begun."""
    try:
        lines = (pgdata / "postmaster.pid").read_text(encoding="utf-8", errors="replace")
        first, *rest = lines.splitlines()
        return PidFile(int(first), rest[6].strip() if len(rest) > 6 else "")
    except (OSError, ValueError):
        return None


async def launch(
    identity: Identity, command: list[str], output: IO[bytes], tie: Tie = "kernel"
) -> asyncio.subprocess.Process:
    """Start a program of PostgreSQL that gets SIGINT when this process ends.

    Args:
        identity: As whom to run it.
        command: Program, with its path, and arguments.
        output: Takes its stdout and stderr.
        tie: `watchdog`: leave the SIGINT to the watchdog.

    Must be called in the main thread: the kernel sends the signal when the thread that made the
    child ends, and the main thread lives longest.
    """
    assert threading.current_thread() is threading.main_thread(), "start PostgreSQL from main"
    return await asyncio.create_subprocess_exec(
        *identity.prefix,
        *launch_command(tie, identity.become),
        *command,
        stdin=asyncio.subprocess.DEVNULL,
        stdout=output,
        stderr=output,
        # Its user may not be able to enter the current folder.
        cwd="/",
        env=_environment(),
        # Ctrl-C in a terminal is for this process, which drains before it stops PostgreSQL.
        start_new_session=True,
    )


def _environment() -> dict[str, str]:
    # PGDATA, PGOPTIONS, LC_ALL and the like would speak to PostgreSQL also, and secrets of this
    # program are none of its business.
    kept = ("PATH", "LD_LIBRARY_PATH", "DYLD_LIBRARY_PATH")
    inherited = {name: os.environ[name] for name in kept if name in os.environ}
    return {**inherited, "LC_ALL": "C", "TZ": "UTC"}


class Postmaster:
    """A started `postgres`.

    Args:
        process: What `launch` gave; its pid is PostgreSQL's.
        output: Where its stderr goes until its own log begins.
    """

    def __init__(
        self, process: asyncio.subprocess.Process, output: IO[bytes], directory: DataDirectory
    ) -> None:
        self._process = process
        self._output = output
        self._directory = directory
        self._log_sizes = {path: path.stat().st_size for path in directory.log.glob("*.log")}

    @classmethod
    async def start(
        cls,
        settings: Settings,
        binaries: Binaries,
        identity: Identity,
        directory: DataDirectory,
        run_directory: Path,
        tie: Tie,
    ) -> Postmaster:
        """Start it and return at once; `wait_ready` tells when it serves."""
        output = capture_file()
        options = _options(settings, directory, run_directory)
        arguments = [part for name, value in options.items() for part in ("-c", f"{name}={value}")]
        command = [binaries.program("postgres"), "-D", str(directory.pgdata), *arguments]
        try:
            process = await launch(identity, command, output, tie)
        except BaseException:
            output.close()
            raise
        return cls(process, output, directory)

    @property
    def pid(self) -> int:
        """Process id of the postmaster."""
        return self._process.pid

    async def wait_ready(self, timeout_seconds: float) -> None:
        """Wait until it accepts connections.

        Raises:
            StartupError: It ended or did not get ready in time; with its last words.
        """
        deadline = time.monotonic() + timeout_seconds
        while True:
            if self._process.returncode is not None:
                words = self.last_words()
                if self._directory.is_full() or tells_of_full_disk([words]):
                    raise self._directory.full()
                raise StartupError(f"PostgreSQL ended while it started: {words}")
            found = read_pid_file(self._directory.pgdata)
            if found is not None and found.pid == self.pid and found.status == "ready":
                return
            if time.monotonic() > deadline:
                raise StartupError(
                    f"PostgreSQL was not ready within {timeout_seconds:g} s "
                    f"(FERNANDO_PG_START_TIMEOUT_SECONDS); its last words: {self.last_words()}"
                )
            await asyncio.sleep(POLL_SECONDS)

    async def wait(self) -> int:
        """Wait for its end; gives the exit code, negative for a signal."""
        return await self._process.wait()

    async def stop(self, timeout_seconds: float) -> int:
        """Stop it: fast shutdown, after the time-out immediate shutdown, then SIGKILL.

        Returns:
            Its exit code; 0 is a clean stop.
        """
        for number, patience in (
            (signal.SIGINT, timeout_seconds),
            (signal.SIGQUIT, _QUIT_TIMEOUT_SECONDS),
            (signal.SIGKILL, None),
        ):
            with contextlib.suppress(ProcessLookupError):
                self._process.send_signal(number)
            try:
                async with asyncio.timeout(patience):
                    return await self._process.wait()
            except TimeoutError:
                continue
        raise AssertionError("a wait without time-out cannot time out")

    def last_words(self) -> str:
        """Give the line that says most about its end, from its stderr or from its log."""
        lines = tail_lines(self._output)
        for path in self._directory.log.glob("*.log"):
            with contextlib.suppress(OSError), path.open("rb") as file:
                lines += tail_lines(file, self._log_sizes.get(path, 0))
        return worst_line(lines)

    def close(self) -> None:
        """Let go of its stderr; for after the end."""
        self._output.close()


def _options(settings: Settings, directory: DataDirectory, run_directory: Path) -> dict[str, str]:
    fsync = "on" if settings.pg_fsync else "off"
    return {
        "listen_addresses": "",
        "unix_socket_directories": str(run_directory),
        "unix_socket_permissions": "0700",
        "port": str(PORT),
        "max_connections": str(_max_connections(settings)),
        "shared_buffers": f"{settings.pg_shared_buffers_mib}MB",
        "max_wal_size": "2GB",
        "min_wal_size": f"{_kept_wal_mib(directory)}MB",
        # A query over all partitions of a table locks each of them and each of their indexes.
        "max_locks_per_transaction": "256",
        "wal_level": "replica",
        "fsync": fsync,
        # Torn pages matter only where a write may be lost at all.
        "full_page_writes": fsync,
        "TimeZone": "UTC",
        "log_timezone": "UTC",
        "logging_collector": "on",
        "log_directory": str(directory.log),
        "log_filename": "postgresql-%a.log",
        "log_file_mode": "0600",
        "log_rotation_age": "1d",
        "log_rotation_size": "0",
        "log_truncate_on_rotation": "on",
        "log_line_prefix": "%m [%p] %a ",
    }


def _max_connections(settings: Settings) -> int:
    """Give room for all workers at once, and for the people who look at the data."""
    # Writers, readers and the control sessions of one process, with room for those replaced.
    writers = settings.writers + settings.quick_writers
    one_process = writers + settings.reader_connections + 12
    return max(100, 40 + settings.workers * one_process)


def _kept_wal_mib(directory: DataDirectory) -> int:
    """Keep a fiftieth of the disk, so that a small one is not filled by it."""
    share = directory.disk_bytes() // _DISK_SHARE_OF_KEPT_WAL // 1024**2
    return min(max(share, _LEAST_KEPT_WAL_MIB), _MOST_KEPT_WAL_MIB)


def capture_file() -> IO[bytes]:
    """Give a file without a name for a program's output: it needs no room on the data's disk."""
    if sys.platform.startswith("linux"):
        with contextlib.suppress(OSError):
            return os.fdopen(os.memfd_create("postgresql-output"), "w+b")
    return tempfile.TemporaryFile()
