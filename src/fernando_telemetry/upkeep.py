"""What keeps the database in shape while servers write: partitions, duties of the leader."""

from __future__ import annotations

import asyncio
from collections.abc import Coroutine
from datetime import UTC, datetime
from typing import Any, Final

import structlog

from fernando_telemetry.domain.calendar import DAY, parse_length
from fernando_telemetry.domain.errors import DatabaseUnavailable, StartupError
from fernando_telemetry.ingest.checks.context import Retention
from fernando_telemetry.settings import Settings
from fernando_telemetry.storage.expiry import Expiry
from fernando_telemetry.storage.fold import CLEAN_DELTAS_SECONDS, FOLD_INTERVAL_SECONDS, Fold
from fernando_telemetry.storage.index_sets import IndexChoice, chosen
from fernando_telemetry.storage.lanes import (
    CLOSE_INTERVAL_SECONDS,
    PRUNE_INTERVAL_SECONDS,
    DeadLanes,
    OldFlushes,
)
from fernando_telemetry.storage.leadership import Duty, Leadership
from fernando_telemetry.storage.partitions import (
    MOST_PARTITIONS,
    Partitions,
    ahead_seconds,
    raw_tables,
)
from fernando_telemetry.storage.rejected_records import CLEAN_INTERVAL_SECONDS, RejectedRecords
from fernando_telemetry.storage.sealing import Sealing
from fernando_telemetry.storage.series_expiry import SeriesExpiry
from fernando_telemetry.storage.sessions import ControlPool, SessionSettings
from fernando_telemetry.storage.summarising import Summarising

log = structlog.get_logger(__name__)

PARTITION_INTERVAL_SECONDS: Final = 600.0
HOUSEKEEPING_AFTER_SECONDS: Final = 60.0
FOLD_FIRST_AFTER_SECONDS: Final = 0.0


class Upkeep:
    """The maintenance of one server.

    Args:
        settings: Of the server.
        dsn: The database that is written.
        control: Sessions of the control database.

    Raises:
        StartupError: A setting names no index set.
    """

    def __init__(self, settings: Settings, dsn: str, control: ControlPool) -> None:
        self._settings = settings
        self._control_dsn = settings.control_dsn or dsn
        self._control = control
        self._length = parse_length(settings.partition_length)
        self.partitions = Partitions(
            control, raw_tables(self._length, _indexes(settings.hot_indexes))
        )
        self._session = SessionSettings.of(settings, self._control_dsn, "maintenance")
        self._sealing = Sealing(
            self._session,
            control,
            _indexes(settings.sealed_indexes),
            grace_seconds=settings.seal_grace_seconds,
            timeout_seconds=settings.seal_timeout_seconds,
        )

    async def make_first_partitions(self) -> None:
        """Make the running partitions and the next ones; the others are made while it serves."""
        self._warn_of_many_partitions()
        await self.partitions.ensure_ahead(datetime.now(UTC), 1, spans=1)

    async def count_unsealed(self) -> int:
        """Count the partitions whose time has passed and that are not sealed yet."""
        return await self._sealing.count_unsealed(datetime.now(UTC))

    def loops(self, records: RejectedRecords) -> list[tuple[Coroutine[Any, Any, None], str]]:
        """Give the loops to run, each with its name; none of them ends."""
        leadership = self._leadership(records)
        summarising = Summarising(self._session, self._settings.summarise_interval_seconds)
        return [
            (self._keep_partitions(ahead_seconds(self._length)), "partitions"),
            (leadership.run(), "leadership"),
            (self._sealing.run(), "sealing"),
            (summarising.run(lambda: leadership.is_leader), "summarising"),
        ]

    def _warn_of_many_partitions(self) -> None:
        settings = self._settings
        days = max(
            settings.retention_events_days,
            settings.retention_metrics_days,
            settings.retention_traces_days,
        )
        expected = days * DAY // self._length
        if expected > MOST_PARTITIONS:
            # Those above the limit will hold a day each.
            log.warning("partition_length_short", expected=expected, limit=MOST_PARTITIONS)

    def _leadership(self, records: RejectedRecords) -> Leadership:
        settings = self._settings
        control = self._control
        session = SessionSettings.of(settings, self._control_dsn, "leader")
        old_flushes = OldFlushes(control, session, settings.flushes_kept_days)
        expiry = Expiry(control, retention_of(settings).accepted_days)
        series_expiry = SeriesExpiry(control, settings.retention_metrics_days)
        fold = Fold(control, session, settings.rollup_hourly_days)
        rarely = settings.expiry_interval_seconds
        duties = (
            Duty("close_dead_lanes", CLOSE_INTERVAL_SECONDS, DeadLanes(control).close),
            Duty("prune_flushes", PRUNE_INTERVAL_SECONDS, old_flushes.prune),
            Duty("expire_marks", rarely, expiry.run, HOUSEKEEPING_AFTER_SECONDS),
            Duty("expire_series", rarely, series_expiry.run, HOUSEKEEPING_AFTER_SECONDS),
            Duty("fold_deltas", FOLD_INTERVAL_SECONDS, fold.fold, FOLD_FIRST_AFTER_SECONDS),
            Duty("clean_deltas", CLEAN_DELTAS_SECONDS, fold.clean, HOUSEKEEPING_AFTER_SECONDS),
            Duty("clean_rejected_records", CLEAN_INTERVAL_SECONDS, records.run),
        )
        return Leadership(session, duties)

    async def _keep_partitions(self, ahead: float) -> None:
        while True:
            try:
                await self.partitions.ensure_ahead(
                    datetime.now(UTC), self._settings.partitions_ahead_days
                )
                delay = min(PARTITION_INTERVAL_SECONDS, ahead / 4)
            except DatabaseUnavailable as error:
                log.warning("partitions_not_made", cause=str(error))
                delay = 5.0
            await asyncio.sleep(delay)


def retention_of(settings: Settings) -> Retention:
    """Give how long records of each kind live."""
    return Retention(
        settings.retention_events_days,
        settings.retention_metrics_days,
        settings.retention_business_days,
        settings.retention_traces_days,
    )


def _indexes(text: str) -> IndexChoice:
    try:
        return chosen(text)
    except ValueError as error:
        raise StartupError(f"Setting hot_indexes or sealed_indexes, {text!r}: {error}.") from None
