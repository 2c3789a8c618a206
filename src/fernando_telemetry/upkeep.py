"""What keeps the database in shape while servers write: partitions, duties of the leader."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from dataclasses import replace
from datetime import UTC, datetime
from functools import partial
from typing import Final

import structlog

from fernando_telemetry.domain.calendar import DAY, parse_length
from fernando_telemetry.domain.errors import DatabaseUnavailable, StartupError
from fernando_telemetry.domain.retention import Retention
from fernando_telemetry.settings import Settings
from fernando_telemetry.storage.clean_up import CleanUp
from fernando_telemetry.storage.duties import DutyFaults
from fernando_telemetry.storage.expiry import Expiry
from fernando_telemetry.storage.fold import CLEAN_DELTAS_SECONDS, FOLD_INTERVAL_SECONDS, Fold
from fernando_telemetry.storage.gap_closing import CLOSE_GAPS_SECONDS, GapClosing
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
from fernando_telemetry.storage.retention_policies import RetentionPolicies
from fernando_telemetry.storage.rollup import RollupTerms
from fernando_telemetry.storage.sealing import Sealing
from fernando_telemetry.storage.series_expiry import SeriesExpiry
from fernando_telemetry.storage.service_edges import EDGES_INTERVAL_SECONDS, ServiceEdges
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
        faults: Count those of its duties.

    Raises:
        StartupError: A setting names no index set.
    """

    def __init__(
        self, settings: Settings, dsn: str, control: ControlPool, faults: DutyFaults
    ) -> None:
        self._settings = settings
        self._control_dsn = settings.control_dsn or dsn
        self._control = control
        self._faults = faults
        self._length = parse_length(settings.partition_length)
        self.partitions = Partitions(
            control, raw_tables(self._length, _indexes(settings.hot_indexes))
        )
        self.policies = RetentionPolicies(control, default_retention(settings))
        self._session = SessionSettings.of(settings, self._control_dsn, "maintenance")
        self.clean_up = CleanUp(
            SessionSettings.of(settings, self._control_dsn, "clean-up"),
            self.policies,
            self.partitions,
        )
        terms = RollupTerms(settings.rollup_minutely_days, settings.rollup_hourly_days)
        self._fold = Fold(control, SessionSettings.of(settings, self._control_dsn, "fold"), terms)
        edges_seconds = settings.service_edges_timeout_seconds
        self._edges = ServiceEdges(
            replace(
                SessionSettings.of(settings, self._control_dsn, "service-edges", edges_seconds),
                command_timeout_seconds=edges_seconds + 10.0,
            ),
            terms,
            lambda: self.policies.known.traces,
        )
        step_seconds = settings.rollup_step_timeout_seconds
        self._gaps = GapClosing(
            replace(
                SessionSettings.of(settings, self._control_dsn, "rollup-gaps", step_seconds),
                command_timeout_seconds=step_seconds + 10.0,
            )
        )
        self._sealing = Sealing(
            self._session,
            control,
            _indexes(settings.sealed_indexes),
            grace_seconds=settings.seal_grace_seconds,
            timeout_seconds=settings.seal_timeout_seconds,
            faults=faults,
        )

    async def prepare(self) -> None:
        """Make the running partitions and the next ones; the others are made while it serves.

        What is accepted is known from then on, too.
        """
        await self.policies.refresh()
        self._warn_of_many_partitions()
        await self.partitions.ensure_ahead(datetime.now(UTC), 1, spans=1)

    async def fold_lag(self) -> float:
        """Give how far the roll-ups' fold is behind, in seconds."""
        return await self._fold.lag()

    async def count_unsealed(self) -> int:
        """Count the partitions whose time has passed and that are not sealed yet."""
        return await self._sealing.count_unsealed(datetime.now(UTC))

    def loops(self, records: RejectedRecords) -> list[tuple[Callable[[], Awaitable[None]], str]]:
        """Give the loops to run, each with its name; none of them ends but by a fault."""
        leadership = self._leadership(records)
        summarising = Summarising(
            self._session, self._settings.summarise_interval_seconds, self._faults
        )
        return [
            (partial(self._keep_partitions, ahead_seconds(self._length)), "partitions"),
            (
                partial(self.policies.keep_known, self._settings.retention_refresh_seconds),
                "retention",
            ),
            (leadership.run, "leadership"),
            (self._sealing.run, "sealing"),
            (partial(summarising.run, lambda: leadership.is_leader), "summarising"),
        ]

    def _warn_of_many_partitions(self) -> None:
        known = self.policies.known
        days = max(terms.longest_days for terms in (known.events, known.metrics, known.traces))
        expected = days * DAY // self._length
        if expected > MOST_PARTITIONS:
            # Those above the limit will hold a day each.
            log.warning("partition_length_short", expected=expected, limit=MOST_PARTITIONS)

    def _leadership(self, records: RejectedRecords) -> Leadership:
        settings = self._settings
        control = self._control
        session = SessionSettings.of(settings, self._control_dsn, "leader")
        old_flushes = OldFlushes(control, session, settings.flushes_kept_days)
        expiry = Expiry(control, lambda: self.policies.known.accepted_days)
        series_expiry = SeriesExpiry(control, lambda: self.policies.known.metrics.longest_days)
        rarely = settings.expiry_interval_seconds
        duties = [
            Duty("close_dead_lanes", CLOSE_INTERVAL_SECONDS, DeadLanes(control).close),
            Duty("prune_flushes", PRUNE_INTERVAL_SECONDS, old_flushes.prune),
            Duty("expire_marks", rarely, expiry.run, HOUSEKEEPING_AFTER_SECONDS),
            Duty("expire_series", rarely, series_expiry.run, HOUSEKEEPING_AFTER_SECONDS),
            Duty("fold_deltas", FOLD_INTERVAL_SECONDS, self._fold.fold, FOLD_FIRST_AFTER_SECONDS),
            Duty(
                "clean_deltas", CLEAN_DELTAS_SECONDS, self._fold.clean, HOUSEKEEPING_AFTER_SECONDS
            ),
            Duty("clean_rejected_records", CLEAN_INTERVAL_SECONDS, records.run),
        ]
        if settings.rollups:
            after = HOUSEKEEPING_AFTER_SECONDS
            duties += [
                Duty("service_edges", EDGES_INTERVAL_SECONDS, self._edges.run, after),
                Duty("close_rollup_gaps", CLOSE_GAPS_SECONDS, self._gaps.run, after),
            ]
        if often := settings.retention_interval_seconds:
            first = min(often, HOUSEKEEPING_AFTER_SECONDS)
            duties.append(Duty("apply_retention", often, self.clean_up.run, first))
        return Leadership(session, duties, self._faults)

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


def default_retention(settings: Settings) -> Retention:
    """Give how long records are kept where no policy is set."""
    return Retention.of_days(
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
