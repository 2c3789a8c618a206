"""Wires a server: database -> storage -> services -> transport; start, drain, stop.

What belongs to the write path alone is put together in write_path.py, the upkeep in upkeep.py.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Awaitable, Callable
from datetime import UTC, datetime
from functools import partial
from importlib.metadata import version
from types import TracebackType
from typing import Self

import structlog

from fernando_telemetry.embedded import EmbeddedPostgres
from fernando_telemetry.heap import Heap
from fernando_telemetry.ingest.counters import IngestCounters
from fernando_telemetry.ingest.group_check import GroupChecker
from fernando_telemetry.ingest.own_metrics import OwnMetrics
from fernando_telemetry.ingest.service import IngestService
from fernando_telemetry.loops import Loops
from fernando_telemetry.queries.events import EventQueries
from fernando_telemetry.queries.export import ExportOptions, ExportQueries
from fernando_telemetry.queries.metrics import MetricQueries
from fernando_telemetry.queries.rejected import RejectedQueries
from fernando_telemetry.queries.retention import RetentionQueries
from fernando_telemetry.queries.tails import Tails
from fernando_telemetry.queries.traces import TraceQueries
from fernando_telemetry.settings import Settings
from fernando_telemetry.storage.duties import DutyFaults
from fernando_telemetry.storage.migrating import migrate
from fernando_telemetry.storage.notices import CommitListener
from fernando_telemetry.storage.rejected_records import RejectedRecords
from fernando_telemetry.storage.rollup import RollupTerms
from fernando_telemetry.storage.server_facts import database_bytes, server_facts
from fernando_telemetry.storage.sessions import ControlPool, ReaderPool, SessionSettings
from fernando_telemetry.storage.snapshots import Snapshots
from fernando_telemetry.transport.admin_servicer import ServerIdentity, admin_servicer
from fernando_telemetry.transport.converters.event import tailed_event
from fernando_telemetry.transport.listening import require_safe_host
from fernando_telemetry.transport.rejected_methods import RejectedMethods
from fernando_telemetry.transport.retention_methods import RetentionMethods
from fernando_telemetry.transport.server import GrpcServer, ServerOptions
from fernando_telemetry.transport.services import SERVICES, registrations
from fernando_telemetry.upkeep import Upkeep
from fernando_telemetry.workers.held_port import HeldPort
from fernando_telemetry.write_path import WritePath

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
        self._tail_readers: ReaderPool | None = None
        self._tails: Tails | None = None
        self._counters = IngestCounters()
        self._faults = DutyFaults(self._counters.note_problem)
        self._loops: Loops | None = None
        self._exports: ExportQueries | None = None
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
        return self._counters

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
        self._loops = Loops(self._faults)
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
        return await self._running_loops.failed()

    async def stop(self) -> None:
        """Drain: streams go elsewhere, what was accepted is committed and answered; then stop."""
        seconds = self._settings.drain_seconds
        if self._server is not None and self._ingest is not None:
            await self._server.report_not_serving()
            async with asyncio.TaskGroup() as drains:
                if self._tails is not None:
                    self._tails.drain()
                if self._exports is not None:
                    drains.create_task(self._exports.drain(seconds))
                drains.create_task(self._ingest.drain(seconds))
            await self._server.stop(1.0)
        await self._close()
        log.info("stopped")

    async def _close(self) -> None:
        if self._loops is not None:
            await self._loops.close()
        for pool in (self._control, self._readers, self._tail_readers):
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
            self._running_loops.watch(self._watch_embedded(self._embedded), "embedded")
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
        upkeep = self._upkeep = Upkeep(self._settings, self.dsn, self._control, self._faults)
        await upkeep.prepare()
        records = RejectedRecords(self._control, self._settings.rejected_days)
        write_path = WritePath(
            self._settings,
            self.dsn,
            self._control,
            upkeep.partitions,
            upkeep.policies,
            records,
            self._counters,
            self._checker,
            self._heap.note_streams,
        )
        await write_path.prepare()
        ingest = self._ingest = write_path.service
        # Alone of all loops: without it nothing is acknowledged.
        self._running_loops.watch(write_path.group_commit.run(), "group-commit")
        self._keep(lambda: self._heap.keep_trimmed(lambda: ingest.queued_bytes > 0), "heap")
        pgdata = self._embedded.pgdata if self._embedded is not None else None
        for loop, name in [*write_path.loops(pgdata), *upkeep.loops(records)]:
            self._keep(loop, name)
        self._server = self._build_server(write_path, upkeep)

    def _build_server(self, write_path: WritePath, upkeep: Upkeep) -> GrpcServer:
        assert self._control is not None
        assert self._readers is not None
        settings = self._settings
        tails = self._build_tails()
        snapshots = Snapshots(self._readers, settings.commit_token_wait_seconds)
        terms = RollupTerms(settings.rollup_minutely_days, settings.rollup_hourly_days)
        exports = self._exports = ExportQueries(
            snapshots,
            ExportOptions(
                settings.exports,
                settings.query_timeout_seconds,
                settings.export_stall_seconds,
                settings.commit_token_wait_seconds,
            ),
        )
        options = ServerOptions(
            settings.host,
            settings.port,
            settings.insecure_bind,
            settings.keepalive_seconds,
            shares_port=self._worker is not None,
        )
        admin = admin_servicer(
            self._known_identity,
            write_path.service,
            partial(database_bytes, self._control),
            upkeep.count_unsealed,
            RejectedMethods(RejectedQueries(self._readers), write_path.replays),
            RetentionMethods(RetentionQueries(upkeep.policies, upkeep.clean_up)),
        )
        services = registrations(
            write_path.service,
            EventQueries(snapshots, settings.rollup_hourly_days if settings.rollups else None),
            tails,
            MetricQueries(snapshots, terms if settings.rollups else None),
            TraceQueries(snapshots, uses_chunks=settings.rollups),
            exports,
            admin,
        )
        return GrpcServer(options, SERVICES, services)

    def _build_tails(self) -> Tails:
        settings = self._settings
        # One look at a time, of the database that is written.
        self._tail_readers = ReaderPool(SessionSettings.of(settings, self.dsn, "tail"), 1)
        listener = CommitListener(
            SessionSettings.of(settings, settings.control_dsn or self.dsn, "listener")
        )
        self._tails = Tails(
            self._tail_readers,
            listener,
            tailed_event,
            most_tails=settings.tails,
            events_per_second=settings.tail_events_per_second,
        )
        self._keep(self._tails.run, "tails")
        return self._tails

    def _known_identity(self) -> ServerIdentity:
        assert self._identity is not None
        return self._identity

    # Loops ----------------------------------------------------------------------------------

    @property
    def _running_loops(self) -> Loops:
        assert self._loops is not None, "not started"
        return self._loops

    def _keep(self, run: Callable[[], Awaitable[None]], name: str) -> None:
        """Run a duty, whose faults end neither it nor the server."""
        self._running_loops.keep(run, name)

    async def _watch_embedded(self, embedded: EmbeddedPostgres) -> None:
        self._running_loops.fail(await embedded.wait_failed())

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
            self._upkeep.fold_lag,
            self._faults.counts,
            settings.host_name,
            settings.health_interval_seconds,
        )
        instance_id = f"{settings.host_name}:{self.port}"
        if self._worker is not None:
            instance_id += f"#{self._worker}"
        self._keep(partial(own.run, instance_id), "own-metrics")
