"""EmbeddedPostgres: starts PostgreSQL, restarts it when it dies, stops it."""

from __future__ import annotations

import asyncio
import contextlib
import os
import subprocess
import sys
import time
from datetime import UTC, datetime
from pathlib import Path
from types import TracebackType
from typing import Any, Self
from urllib.parse import quote

import asyncpg
import structlog

from fernando_telemetry.domain.errors import StartupError
from fernando_telemetry.embedded.binaries import Binaries, find_binaries
from fernando_telemetry.embedded.data_directory import DataDirectory, NoRoom
from fernando_telemetry.embedded.initdb import make_cluster
from fernando_telemetry.embedded.leftovers import clear_leftovers
from fernando_telemetry.embedded.owner_lock import (
    OwnerLock,
    remove_server_file,
    write_server_file,
)
from fernando_telemetry.embedded.postmaster import Postmaster
from fernando_telemetry.embedded.privileges import (
    Identity,
    choose_identity,
    effective_data_dir,
    reachable_binaries,
    require_reachable,
)
from fernando_telemetry.embedded.run_directory import (
    PORT,
    make_run_directory,
    remove_run_directory,
)
from fernando_telemetry.settings import Settings

DATABASE = "fernando"
# A postmaster that dies this often, each time sooner than it takes to trust it again, is given up.
# In all that is 40 s: longer than batches are held for a database that is away.
RESTARTS_IN_A_ROW = 10
TRUSTED_AFTER_SECONDS = 60.0
FIRST_PAUSE_SECONDS = 0.1
LONGEST_PAUSE_SECONDS = 10.0
_WATCHDOG = Path(__file__).with_name("watchdog.py")

_log = structlog.get_logger(__name__)


class EmbeddedPostgres:
    """A PostgreSQL of this process's own, reachable by a unix socket only.

    Ends when this process ends, also by `kill -9`. Restarted when it dies before that. Start it
    in the main thread (see `launcher.py`). Use as `async with EmbeddedPostgres(settings) as
    postgres`, or by `start` and `stop`; one object starts once.

    Args:
        settings: `data_dir`, `pg_*`.
        watchdog: Use the watchdog process instead of the kernel's parent-death signal. By
            default only where there is no such signal (not Linux).
    """

    def __init__(self, settings: Settings, *, watchdog: bool | None = None) -> None:
        self._settings = settings
        self._watched = not sys.platform.startswith("linux") if watchdog is None else watchdog
        self._directory: DataDirectory | None = None
        self._binaries: Binaries | None = None
        self._identity: Identity | None = None
        self._lock: OwnerLock | None = None
        self._run_directory: Path | None = None
        self._postmaster: Postmaster | None = None
        self._watchdog: subprocess.Popen[bytes] | None = None
        self._supervisor: asyncio.Task[None] | None = None
        self._failure: asyncio.Future[StartupError] | None = None
        self._server: dict[str, Any] = {}

    @property
    def dsn(self) -> str:
        """Where PostgreSQL is, for psql and asyncpg; fit to use from the end of `start`."""
        assert self._run_directory is not None, "not started"
        return _dsn(self._run_directory, DATABASE)

    @property
    def data_dir(self) -> Path:
        """The data directory in use (`effective_data_dir`)."""
        assert self._directory is not None, "not started"
        return self._directory.root

    @property
    def pgdata(self) -> Path:
        """PostgreSQL's own data directory."""
        assert self._directory is not None, "not started"
        return self._directory.pgdata

    @property
    def postmaster_pid(self) -> int:
        """Process id of PostgreSQL; changes when it is restarted."""
        assert self._postmaster is not None, "not started"
        return self._postmaster.pid

    @property
    def version(self) -> str:
        """Version of PostgreSQL, such as `18.6`."""
        assert self._binaries is not None, "not started"
        return self._binaries.version

    @property
    def programs_folder(self) -> Path:
        """Folder of PostgreSQL's programs, such as psql and pg_dump."""
        assert self._binaries is not None, "not started"
        return self._binaries.folder

    async def __aenter__(self) -> Self:
        await self.start()
        return self

    async def __aexit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        await self.stop()

    async def start(self) -> str:
        """Make the cluster if there is none, start it and wait until it serves.

        Returns:
            The DSN.

        Raises:
            StartupError: One sentence: what is in the way and what to do. Nothing is left running.
        """
        assert self._failure is None, "an EmbeddedPostgres starts once"
        self._failure = asyncio.get_running_loop().create_future()
        begun = time.monotonic()
        try:
            await self._prepare()
            await self._run()
            await self._ensure_database()
            self._announce()
        except BaseException:
            await self.stop()
            raise
        self._supervisor = asyncio.create_task(self._supervise(), name="embedded-postgres")
        self._supervisor.add_done_callback(self._notice_end)
        _log.info(
            "embedded_postgres_started",
            version=self.version,
            data_dir=str(self.data_dir),
            pid=self.postmaster_pid,
            run_as=self._identity.mode if self._identity else None,
            seconds=round(time.monotonic() - begun, 3),
        )
        if not self._settings.pg_fsync:
            _log.warning("embedded_postgres_without_fsync", data_dir=str(self.data_dir))
        return self.dsn

    async def stop(self) -> None:
        """Stop PostgreSQL and let the data directory go. Called again it does nothing."""
        if self._supervisor is not None:
            self._supervisor.cancel()
            # Its own failure, if it had one, was told by wait_failed.
            await asyncio.wait([self._supervisor])
            self._supervisor = None
        if self._directory is not None and self._lock is not None:
            remove_server_file(self._directory.root)
        if self._postmaster is not None and self._directory is not None:
            await self._end_postmaster()
            # The process that writes PostgreSQL's log ends a moment after the postmaster.
            with contextlib.suppress(StartupError):
                timeout_seconds = self._settings.pg_stop_timeout_seconds
                await clear_leftovers(self._directory.pgdata, timeout_seconds)
        self._end_watchdog()
        if self._run_directory is not None:
            remove_run_directory(self._run_directory)
        if self._lock is not None:
            self._lock.release()
            self._lock = None

    async def wait_failed(self) -> StartupError:
        """Wait until PostgreSQL has died and could not be brought back; never else."""
        assert self._failure is not None, "not started"
        return await asyncio.shield(self._failure)

    def publish(self, **fields: str | int | None) -> None:
        """Add fields, such as `grpc_address`, to what `running_server` tells others.

        Raises:
            StartupError: The data directory cannot be written.
        """
        assert self._directory is not None, "not started"
        self._server.update(fields)
        try:
            write_server_file(self._directory.root, self._server)
        except OSError as error:
            raise self._directory.explain(error) from None

    async def _prepare(self) -> None:
        settings = self._settings
        identity = await asyncio.to_thread(choose_identity, settings.pg_root_mode)
        binaries = await asyncio.to_thread(find_binaries, settings.pg_bin)
        directory = DataDirectory(await asyncio.to_thread(effective_data_dir, settings))
        self._identity, self._directory = identity, directory
        require_reachable(directory.root, identity)
        directory.check_owner()
        directory.make(identity)
        # Once more: folders made just now may be closed by the umask.
        require_reachable(directory.root, identity)
        try:
            self._lock = await OwnerLock.acquire(directory.root)
        except OSError as error:
            raise directory.explain(error) from None
        if directory.has_cluster():
            directory.check_cluster(binaries)
            directory.check_room()
        if identity.mode == "user":
            programs = directory.programs
            binaries = await asyncio.to_thread(reachable_binaries, binaries, identity, programs)
        self._binaries = binaries
        if not directory.has_cluster():
            await make_cluster(directory, binaries, identity, durable=settings.pg_fsync)
        directory.remove_half_made()
        # A PostgreSQL that is just ending still writes: wait for it before files change owner.
        await clear_leftovers(directory.pgdata, settings.pg_start_timeout_seconds)
        directory.hand_to(identity)
        if self._watched:
            self._start_watchdog()

    async def _run(self) -> None:
        assert self._directory is not None
        assert self._binaries is not None
        assert self._identity is not None
        timeout_seconds = self._settings.pg_start_timeout_seconds
        await clear_leftovers(self._directory.pgdata, timeout_seconds)
        # At a restart also: somebody may have cleaned the temporary folder meanwhile.
        run_directory = make_run_directory(self._directory.root, self._identity)
        if self._run_directory not in {None, run_directory}:
            raise StartupError(f"{self._run_directory}, the folder of the socket, is taken.")
        self._run_directory = run_directory
        self._postmaster = await Postmaster.start(
            self._settings,
            self._binaries,
            self._identity,
            self._directory,
            run_directory,
            "watchdog" if self._watched else "kernel",
        )
        await self._postmaster.wait_ready(timeout_seconds)

    async def _ensure_database(self) -> None:
        assert self._directory is not None
        assert self._run_directory is not None
        timeout_seconds = self._settings.pg_start_timeout_seconds
        try:
            connection = await asyncpg.connect(
                _dsn(self._run_directory, "postgres"), timeout=timeout_seconds
            )
            try:
                query = "SELECT 1 FROM pg_database WHERE datname = $1"
                if await connection.fetchval(query, DATABASE) is None:
                    await connection.execute(f"CREATE DATABASE {DATABASE}")
            finally:
                await connection.close(timeout=timeout_seconds)
        except (OSError, asyncpg.PostgresError, asyncpg.InterfaceError) as error:
            if self._directory.is_full() or isinstance(error, asyncpg.DiskFullError):
                raise self._directory.full() from None
            raise StartupError(f"PostgreSQL started but cannot be used: {error}") from None

    def _announce(self) -> None:
        started_at = datetime.now(UTC).isoformat(timespec="seconds")
        self.publish(pid=os.getpid(), dsn=self.dsn, grpc_address=None, started_at=started_at)

    async def _supervise(self) -> None:
        deaths, since = 0, time.monotonic()
        while True:
            assert self._postmaster is not None
            code = await self._postmaster.wait()
            if time.monotonic() - since > TRUSTED_AFTER_SECONDS:
                deaths = 0
            deaths += 1
            reason = self._postmaster.last_words()
            _log.error("embedded_postgres_died", exit_code=code, last_words=reason, deaths=deaths)
            pause_seconds = FIRST_PAUSE_SECONDS * 2 ** (deaths - 1)
            while deaths <= RESTARTS_IN_A_ROW:
                await self._end_postmaster()
                await asyncio.sleep(min(pause_seconds, LONGEST_PAUSE_SECONDS))
                pause_seconds = min(pause_seconds * 2, LONGEST_PAUSE_SECONDS)
                try:
                    await self._run()
                    break
                except (StartupError, OSError) as error:
                    # Room is waited for, however long it takes.
                    deaths += not isinstance(error, NoRoom)
                    reason = str(error)
                    _log.error("embedded_postgres_restart_failed", error=reason, deaths=deaths)
            else:
                self._give_up(reason)
                return
            since = time.monotonic()
            _log.warning("embedded_postgres_restarted", pid=self.postmaster_pid, deaths=deaths)

    def _notice_end(self, supervisor: asyncio.Task[None]) -> None:
        if not supervisor.cancelled() and (error := supervisor.exception()) is not None:
            self._give_up(repr(error))

    def _give_up(self, words: str) -> None:
        _log.error("embedded_postgres_given_up", last_words=words)
        assert self._failure is not None
        if not self._failure.done():
            sentence = f"PostgreSQL died and could not be brought back: {words}"
            self._failure.set_result(StartupError(sentence))

    async def _end_postmaster(self) -> None:
        # Forgotten after its end, not before: whoever cancels this calls it again.
        if self._postmaster is not None:
            await self._postmaster.stop(self._settings.pg_stop_timeout_seconds)
            self._postmaster.close()
            self._postmaster = None

    def _start_watchdog(self) -> None:
        assert self._directory is not None
        quit_seconds = str(self._settings.pg_stop_timeout_seconds)
        self._watchdog = subprocess.Popen(  # noqa: S603 - a program of this package
            [sys.executable, "-I", "-S", _WATCHDOG, self._directory.pgdata, quit_seconds],
            stdin=subprocess.PIPE,
            start_new_session=True,
            cwd="/",
        )

    def _end_watchdog(self) -> None:
        watchdog, self._watchdog = self._watchdog, None
        if watchdog is not None:
            watchdog.kill()
            watchdog.communicate()


def _dsn(run_directory: Path, database: str) -> str:
    return (
        f"postgresql://postgres@/{database}?host={quote(str(run_directory), safe='/')}&port={PORT}"
    )
