"""The only place that wires: database -> storage -> services -> servers; start, drain, stop."""

from __future__ import annotations

import asyncio
import time
from datetime import UTC, datetime
from functools import partial
from importlib.metadata import version
from types import TracebackType
from typing import Any, Self

import structlog

from fernando_telemetry.domain.disk_room import RoomLimits
from fernando_telemetry.domain.errors import StartupError
from fernando_telemetry.embedded import EmbeddedPostgres
from fernando_telemetry.heap import Heap
from fernando_telemetry.ingest.admission import ByteBudget, Grants
from fernando_telemetry.ingest.counters import IngestCounters
from fernando_telemetry.ingest.disk_budget import DiskBudget
from fernando_telemetry.ingest.group_check import GroupChecker
from fernando_telemetry.ingest.group_commit import GroupCommit
from fernando_telemetry.ingest.own_metrics import OwnMetrics
from fernando_telemetry.ingest.rejected import RejectedKeeper
from fernando_telemetry.ingest.replay import Replays
from fernando_telemetry.ingest.service import IngestOptions, IngestService
from fernando_telemetry.queries.events import EventQueries
from fernando_telemetry.queries.metrics import MetricQueries
from fernando_telemetry.queries.rejected import RejectedQueries
from fernando_telemetry.queries.traces import TraceQueries
from fernando_telemetry.settings import Settings
from fernando_telemetry.storage.disk import least_room
from fernando_telemetry.storage.migrating import migrate
from fernando_telemetry.storage.oldest_partitions import OldestPartitions
from fernando_telemetry.storage.partitions import (
    Partitions,
    raw_tables,
)
from fernando_telemetry.storage.producers import Producers
from fernando_telemetry.storage.rejected_records import RejectedRecords
from fernando_telemetry.storage.series import SeriesDictionary
from fernando_telemetry.storage.series_admission import SeriesLimits
from fernando_telemetry.storage.server_facts import database_bytes, server_facts
from fernando_telemetry.storage.sessions import ControlPool, ReaderPool, SessionSettings
from fernando_telemetry.storage.snapshots import Snapshots
from fernando_telemetry.storage.writer import Writer
from fernando_telemetry.transport.admin_servicer import ServerIdentity, admin_servicer
from fernando_telemetry.transport.listening import require_safe_host
from fernando_telemetry.transport.rejected_methods import RejectedMethods
from fernando_telemetry.transport.server import GrpcServer, ServerOptions
from fernando_telemetry.transport.services import SERVICES, registrations
from fernando_telemetry.upkeep import Upkeep, retention_of
from fernando_telemetry.workers.held_port import HeldPort

log = structlog.get_logger(__name__)


class Application:
    """One server process.

    Use as `async with Application(settings) as app`: inside, the server is SERVING; leaving
    drains and stops it. One object starts once.

    Args:
        settings: Of the server.
        worker: Its number where it is one of several processes on a port that their parent holds
            (supervisor.py); None: it is alone.
    """

    def __init__(self, settings: Settings, worker: int | None = None) -> None:
        self._settings = settings
        self._worker = worker
        self._embedded: EmbeddedPostgres | None = None
        self._control: ControlPool | None = None
        self._readers: ReaderPool | None = None
        self._ingest: IngestService | None = None
        self._server: GrpcServer | None = None
        self._loops: list[asyncio.Task[None]] = []
        self._failure: asyncio.Future[BaseException] | None = None
        self._identity: ServerIdentity | None = None
        self._upkeep: Upkeep | None = None
        self._heap = Heap()
        self._checker = GroupChecker(use_columns=settings.columnar_ingest)
        self.dsn = ""

    @property
    def address(self) -> str:
        """Where gRPC listens, as host:port."""
        assert self._server is not None, "not started"
        return self._server.address

    @property
    def port(self) -> int:
        """The gRPC port in use."""
        assert self._server is not None, "not started"
        return self._server.port

    @property
    def counters(self) -> IngestCounters:
        """What the write path has done so far."""
        assert self._ingest is not None, "not started"
        return self._ingest.counters

    @property
    def embedded(self) -> EmbeddedPostgres | None:
        """The embedded PostgreSQL, or None where FERNANDO_DSN names another."""
        return self._embedded

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

    async def start(self) -> None:
        """Start everything; returns when SERVING.

        Raises:
            StartupError: One sentence; nothing is left running.
        """
        begun = time.monotonic()
        self._failure = asyncio.get_running_loop().create_future()
        settings = self._settings
        require_safe_host(settings.host, insecure_bind=settings.insecure_bind)
        if self._worker is None:
            # Before a database is made or started for a server that cannot listen.
            HeldPort.take(settings.host, settings.port).release()
        try:
            await self._open_database()
            await self._build()
            assert self._server is not None
            await self._server.start()
        except BaseException:
            await self._close()
            raise
        if self._embedded is not None:
            self._embedded.publish(grpc_address=self.address)
        self._start_own_metrics()
        # "serving" is said once, by the parent when all workers do.
        event = "serving" if self._worker is None else "worker_serving"
        log.info(event, address=self.address, seconds=round(time.monotonic() - begun, 3))

    async def wait_failed(self) -> BaseException:
        """Wait until something the server cannot live without has ended; never else."""
        assert self._failure is not None, "not started"
        return await asyncio.shield(self._failure)

    async def stop(self) -> None:
        """Drain: streams go elsewhere, what was accepted is committed and answered; then stop."""
        settings = self._settings
        if self._server is not None and self._ingest is not None:
            await self._server.report_not_serving()
            await self._ingest.drain(settings.drain_seconds)
            await self._server.stop(1.0)
        await self._close()
        log.info("stopped")

    async def _close(self) -> None:
        for task in self._loops:
            task.cancel()
        await asyncio.gather(*self._loops, return_exceptions=True)
        self._loops.clear()
        for pool in (self._control, self._readers):
            if pool is not None:
                await pool.close()
        if self._embedded is not None:
            await self._embedded.stop()

    # Wiring ---------------------------------------------------------------------------------

    async def _open_database(self) -> None:
        settings = self._settings
        if settings.dsn:
            self.dsn = settings.dsn
        else:
            self._embedded = EmbeddedPostgres(settings)
            self.dsn = await self._embedded.start()
            self._loops.append(asyncio.create_task(self._watch_embedded(self._embedded)))
        control = SessionSettings.of(settings, settings.control_dsn or self.dsn, "control")
        await migrate(control, allowed=settings.migrate == "on")
        self._control = ControlPool(control, size=4)
        readers = SessionSettings.of(
            settings, settings.read_dsn or self.dsn, "reader", writes=False
        )
        self._readers = ReaderPool(readers, settings.reader_connections)
        facts = await server_facts(self._control)
        if not facts.fsync or not facts.full_page_writes:
            log.warning(
                "database_not_durable", fsync=facts.fsync, full_page_writes=facts.full_page_writes
            )
        self._identity = ServerIdentity(
            version("fernando-telemetry"),
            facts.version,
            self._checker.uses_columns,
            datetime.now(UTC),
        )

    async def _build(self) -> None:
        assert self._control is not None
        assert self._readers is not None
        settings = self._settings
        upkeep = self._upkeep = Upkeep(settings, self.dsn, self._control)
        partitions = upkeep.partitions
        await upkeep.make_first_partitions()
        records = RejectedRecords(self._control, settings.rejected_days)
        self._ingest, group_commit, replays = await self._build_ingest(
            self._control, partitions, records
        )
        self._watch(group_commit.run(), "group-commit")
        self._watch(self._heap.keep_trimmed(lambda: group_commit.queued_bytes > 0), "heap")
        self._watch_disk(self._ingest, group_commit, self._control, partitions)
        for loop, name in upkeep.loops(records):
            self._watch(loop, name)
        snapshots = Snapshots(self._readers, settings.commit_token_wait_seconds)
        self._server = GrpcServer(
            ServerOptions(
                settings.host,
                settings.port,
                settings.insecure_bind,
                settings.keepalive_seconds,
                shares_port=self._worker is not None,
            ),
            SERVICES,
            registrations(
                self._ingest,
                EventQueries(snapshots, settings.rollup_hourly_days),
                MetricQueries(snapshots),
                TraceQueries(snapshots),
                admin_servicer(
                    self._known_identity,
                    self._ingest,
                    partial(database_bytes, self._control),
                    upkeep.count_unsealed,
                    RejectedMethods(RejectedQueries(self._readers), replays),
                ),
            ),
        )

    async def _build_ingest(
        self, control: ControlPool, partitions: Partitions, records: RejectedRecords
    ) -> tuple[IngestService, GroupCommit, Replays]:
        settings = self._settings
        writer_session = SessionSettings.of(
            settings, self.dsn, "writer", settings.database_command_timeout_seconds
        )
        series = SeriesDictionary(
            control, SeriesLimits(settings.series_limit), settings.series_cache_bytes
        )
        budget = ByteBudget(settings.admitted_bytes, settings.admitted_bytes // 16)

        def writers(count: int) -> list[Writer]:
            return [Writer(writer_session, partitions, series) for _ in range(count)]

        counters = IngestCounters()
        rejected = RejectedKeeper(
            records, counters, is_on=settings.rejected_keep, most_bytes=settings.rejected_bytes
        )
        await rejected.measure()
        self._watch(rejected.run(), "rejected-records")
        group_commit = GroupCommit(
            writers(settings.writers),
            writers(settings.quick_writers),
            budget,
            retention_of(settings),
            counters,
            self._checker,
            group_bytes=settings.flush_bytes,
            group_batches=settings.flush_batches,
            wait_seconds=settings.database_wait_seconds,
            rejected=rejected,
        )
        ingest = IngestService(
            group_commit,
            Producers(control),
            budget,
            Grants(settings.granted_bytes),
            counters,
            IngestOptions(settings.unary_wait_seconds, settings.stream_age_seconds),
            self._heap.note_streams,
        )
        replays = Replays(group_commit, records, ingest.refuse_when_draining)
        return ingest, group_commit, replays

    def _known_identity(self) -> ServerIdentity:
        assert self._identity is not None
        return self._identity

    # Loops ----------------------------------------------------------------------------------

    def _watch(self, loop: Any, name: str) -> None:
        """Run a loop whose end is the server's end."""
        task = asyncio.create_task(loop, name=name)
        task.add_done_callback(self._notice)
        self._loops.append(task)

    def _notice(self, task: asyncio.Task[None]) -> None:
        if task.cancelled() or self._failure is None or self._failure.done():
            return
        error = task.exception() or RuntimeError(f"{task.get_name()} ended")
        log.error("loop_ended", loop=task.get_name(), exc_info=error)
        self._failure.set_result(error)

    async def _watch_embedded(self, embedded: EmbeddedPostgres) -> None:
        error = await embedded.wait_failed()
        if self._failure is not None and not self._failure.done():
            self._failure.set_result(error)

    def _watch_disk(
        self,
        ingest: IngestService,
        group_commit: GroupCommit,
        control: ControlPool,
        partitions: Partitions,
    ) -> None:
        settings = self._settings
        folder = settings.disk_path
        if folder is None and self._embedded is not None:
            folder = self._embedded.pgdata
        elif folder is not None and not folder.is_dir():
            raise StartupError(f"FERNANDO_DISK_PATH names {folder}, which is not a folder.")
        oldest = OldestPartitions(
            SessionSettings.of(settings, settings.control_dsn or self.dsn, "disk"),
            raw_tables(),
            partitions,
        )
        budget = DiskBudget(
            RoomLimits(settings.disk_free_stop_percent, settings.disk_budget_bytes),
            group_commit,
            ingest.counters,
            free_space=partial(least_room, folder) if folder is not None else None,
            database_bytes=partial(database_bytes, control),
            oldest=oldest if settings.disk_full_action == "drop_oldest" else None,
            interval_seconds=settings.disk_check_interval_seconds,
        )
        self._watch(budget.run(), "disk-budget")

    def _start_own_metrics(self) -> None:
        settings = self._settings
        if not settings.health_interval_seconds:
            return
        assert self._ingest is not None
        assert self._control is not None
        assert self._upkeep is not None
        own = OwnMetrics(
            self._ingest,
            partial(database_bytes, self._control),
            self._upkeep.count_unsealed,
            settings.host_name,
            settings.health_interval_seconds,
        )
        instance_id = f"{settings.host_name}:{self.port}"
        if self._worker is not None:
            instance_id += f"#{self._worker}"
        self._watch(own.run(instance_id), "own-metrics")
