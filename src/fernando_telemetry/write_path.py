"""Puts the write path of one server together: its door, the queue, the writers, the disk budget."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from functools import partial
from pathlib import Path

from fernando_telemetry.domain.disk_room import RoomLimits
from fernando_telemetry.domain.errors import StartupError
from fernando_telemetry.ingest.admission import ByteBudget, Grants
from fernando_telemetry.ingest.counters import IngestCounters
from fernando_telemetry.ingest.disk_budget import DiskBudget
from fernando_telemetry.ingest.group_check import GroupChecker
from fernando_telemetry.ingest.group_commit import GroupCommit
from fernando_telemetry.ingest.pending_check import PendingCheck
from fernando_telemetry.ingest.rejected import RejectedKeeper
from fernando_telemetry.ingest.replay import Replays
from fernando_telemetry.ingest.service import IngestOptions, IngestService
from fernando_telemetry.settings import Settings
from fernando_telemetry.storage.disk import least_room
from fernando_telemetry.storage.notices import CommitNotices
from fernando_telemetry.storage.oldest_partitions import OldestPartitions
from fernando_telemetry.storage.partitions import Partitions, raw_tables
from fernando_telemetry.storage.producers import Producers
from fernando_telemetry.storage.rejected_records import RejectedRecords
from fernando_telemetry.storage.retention_policies import RetentionPolicies
from fernando_telemetry.storage.rollups import ROLLUPS
from fernando_telemetry.storage.series import SeriesDictionary
from fernando_telemetry.storage.series_admission import SeriesLimits
from fernando_telemetry.storage.server_facts import database_bytes
from fernando_telemetry.storage.sessions import ControlPool, SessionSettings
from fernando_telemetry.storage.writer import Writer


class WritePath:
    """The write path of one server.

    Args:
        settings: Of the server.
        dsn: The database that is written.
        control: Sessions of the control database.
        partitions: Made where rows need them.
        policies: Say which times are accepted.
        records: Where rejected records are kept.
        counters: Count what happens.
        checker: Turns bytes into rows and verdicts.
        on_streams: Is told how many streams are open.

    Attributes:
        service: Its door.
        replays: Send kept rejected records through it again.
        group_commit: The queue and its writers. Its `run` is no duty: without it nothing is
            acknowledged.
    """

    def __init__(
        self,
        settings: Settings,
        dsn: str,
        control: ControlPool,
        partitions: Partitions,
        policies: RetentionPolicies,
        records: RejectedRecords,
        counters: IngestCounters,
        checker: GroupChecker,
        on_streams: Callable[[int], None],
    ) -> None:
        self._settings = settings
        self._dsn = dsn
        self._control = control
        self._partitions = partitions
        self._counters = counters
        self._rejected = RejectedKeeper(
            records, counters, is_on=settings.rejected_keep, most_bytes=settings.rejected_bytes
        )
        self._notices = CommitNotices(control)
        budget = ByteBudget(settings.admitted_bytes, settings.admitted_bytes // 16)
        check = PendingCheck(checker, lambda: policies.known, self._rejected)
        writers, quick_writers = self._writers()
        self.group_commit = GroupCommit(
            writers,
            quick_writers,
            budget,
            counters,
            check,
            group_bytes=settings.flush_bytes,
            group_batches=settings.flush_batches,
            wait_seconds=settings.database_wait_seconds,
            on_commit=self._notices.note,
        )
        self.service = IngestService(
            self.group_commit,
            Producers(control),
            budget,
            Grants(settings.granted_bytes),
            counters,
            IngestOptions(settings.unary_wait_seconds, settings.stream_age_seconds),
            on_streams,
        )
        self.replays = Replays(self.group_commit, check, records, self.service.refuse_when_draining)

    async def prepare(self) -> None:
        """Learn what is kept already.

        Raises:
            DatabaseUnavailable: The database does not answer.
        """
        await self._rejected.measure()

    def loops(self, pgdata: Path | None) -> list[tuple[Callable[[], Awaitable[None]], str]]:
        """Give the duties to run, each with its name; none of them ends but by a fault.

        Args:
            pgdata: Folder of the embedded PostgreSQL; None where another is written.

        Raises:
            StartupError: A setting names a folder that is none.
        """
        budget = self._disk_budget(pgdata)
        duties: list[tuple[Callable[[], Awaitable[None]], str]] = [
            (self._rejected.run, "rejected-records"),
            (self._notices.run, "commit-notices"),
            (partial(budget.repeat, budget.look), "disk-budget"),
        ]
        if self._settings.disk_full_action == "drop_oldest":
            duties.append((partial(budget.repeat, budget.make_room), "make-room"))
        return duties

    def _writers(self) -> tuple[list[Writer], list[Writer]]:
        """Give those of all batches, and those of small ones."""
        settings = self._settings
        session = SessionSettings.of(
            settings, self._dsn, "writer", settings.database_command_timeout_seconds
        )
        series = SeriesDictionary(
            self._control, SeriesLimits(settings.series_limit), settings.series_cache_bytes
        )
        rollups = ROLLUPS if settings.rollups else ()

        def made(count: int, turns: asyncio.Semaphore | None) -> list[Writer]:
            return [Writer(session, self._partitions, series, rollups, turns) for _ in range(count)]

        # All at once would share the machine and end together: a long time without an ack, then
        # many. One writer fewer copies at a time, and the next group is checked meanwhile.
        turns = asyncio.Semaphore(max(1, settings.writers - 1))
        return made(settings.writers, turns), made(settings.quick_writers, None)

    def _disk_budget(self, pgdata: Path | None) -> DiskBudget:
        settings = self._settings
        folder = settings.disk_path
        if folder is None:
            folder = pgdata
        elif not folder.is_dir():
            raise StartupError(f"FERNANDO_DISK_PATH names {folder}, which is not a folder.")
        oldest = OldestPartitions(
            SessionSettings.of(settings, settings.control_dsn or self._dsn, "disk"),
            raw_tables(),
            self._partitions,
        )
        return DiskBudget(
            RoomLimits(settings.disk_free_stop_percent, settings.disk_budget_bytes),
            self.group_commit,
            self._counters,
            free_space=partial(least_room, folder) if folder is not None else None,
            database_bytes=partial(database_bytes, self._control),
            oldest=oldest if settings.disk_full_action == "drop_oldest" else None,
            interval_seconds=settings.disk_check_interval_seconds,
        )
