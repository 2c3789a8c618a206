"""The parent of workers: owns the port and the database, and serves nothing itself."""

from __future__ import annotations

import asyncio
import time

import structlog

from fernando_telemetry.embedded import EmbeddedPostgres
from fernando_telemetry.settings import Settings
from fernando_telemetry.storage.migrating import migrate
from fernando_telemetry.storage.sessions import SessionSettings
from fernando_telemetry.transport.listening import require_safe_host
from fernando_telemetry.workers.group import WorkerGroup
from fernando_telemetry.workers.held_port import HeldPort
from fernando_telemetry.workers.order import settings_of_worker
from fernando_telemetry.workers.process import worker_command

log = structlog.get_logger(__name__)


class Supervisor:
    """A server of several processes, used as an `Application` is. One object starts once."""

    def __init__(self, settings: Settings) -> None:
        self._settings = settings
        self._embedded: EmbeddedPostgres | None = None
        self._port: HeldPort | None = None
        self._workers: WorkerGroup | None = None
        self._failure: asyncio.Future[BaseException] | None = None
        self._watching: asyncio.Task[None] | None = None
        self.address = ""

    @property
    def embedded(self) -> EmbeddedPostgres | None:
        """The embedded PostgreSQL, or None where FERNANDO_DSN names another."""
        return self._embedded

    @property
    def worker_pids(self) -> dict[int, int]:
        """Process ids of the workers, by number."""
        return self._workers.pids if self._workers is not None else {}

    async def start(self) -> None:
        """Start everything; returns when all workers serve.

        Raises:
            StartupError: One sentence; nothing is left running.
        """
        begun = time.monotonic()
        self._failure = asyncio.get_running_loop().create_future()
        settings = self._settings
        require_safe_host(settings.host, insecure_bind=settings.insecure_bind)
        try:
            self._port = HeldPort.take(settings.host, settings.port)
            dsn = await self._open_database()
            self._workers = WorkerGroup(
                worker_command(),
                settings_of_worker(settings, dsn=dsn, port=self._port.port),
                settings.workers,
                settings.worker_start_timeout_seconds,
            )
            self.address = await self._workers.start()
        except BaseException:
            await self.stop()
            raise
        if self._embedded is not None:
            self._embedded.publish(grpc_address=self.address)
        log.info(
            "serving",
            address=self.address,
            workers=self.worker_pids,
            seconds=round(time.monotonic() - begun, 3),
        )

    async def wait_failed(self) -> BaseException:
        """Wait until something the server cannot live without has ended; never else."""
        assert self._failure is not None, "not started"
        return await asyncio.shield(self._failure)

    async def stop(self) -> None:
        """Let the workers drain, then stop PostgreSQL."""
        if self._workers is not None:
            await self._workers.stop(self._settings.drain_seconds)
        if self._watching is not None:
            self._watching.cancel()
            await asyncio.gather(self._watching, return_exceptions=True)
        if self._embedded is not None:
            await self._embedded.stop()
        if self._port is not None:
            self._port.release()
        log.info("stopped")

    async def _open_database(self) -> str:
        settings = self._settings
        dsn = settings.dsn
        if not dsn:
            self._embedded = EmbeddedPostgres(settings)
            dsn = await self._embedded.start()
            self._watching = asyncio.create_task(self._watch_embedded(self._embedded))
        control = SessionSettings.of(settings, settings.control_dsn or dsn, "control")
        await migrate(control, allowed=settings.migrate == "on")
        return dsn

    async def _watch_embedded(self, embedded: EmbeddedPostgres) -> None:
        error = await embedded.wait_failed()
        if self._failure is not None and not self._failure.done():
            self._failure.set_result(error)
