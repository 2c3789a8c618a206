"""Replays kept rejected records: sends them through the write path again.

Each record is a batch of its own with its first receive time and the defaults of its first
stream. Its key takes it off the kept ones in the flush that stores it, so replays may be broken
off, repeated and run at the same time.
"""

from __future__ import annotations

import asyncio
import json
import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Final
from uuid import UUID

import structlog

from fernando_telemetry.domain.filter_columns import REJECTED_COLUMNS
from fernando_telemetry.domain.filters import parse
from fernando_telemetry.domain.paging import Position
from fernando_telemetry.domain.time_range import TimeRange
from fernando_telemetry.ingest import wire
from fernando_telemetry.ingest.checks.context import RecordDefaults
from fernando_telemetry.ingest.group_commit import GroupCommit
from fernando_telemetry.ingest.pending import PendingBatch
from fernando_telemetry.ingest.pending_check import PendingCheck
from fernando_telemetry.storage.list_statement import Selection
from fernando_telemetry.storage.rejected_records import RejectedRecords, ReplayKey

log = structlog.get_logger(__name__)

# Records that are under way at once, and how many bytes of them are enough.
STEP_RECORDS: Final = 256
STEP_BYTES: Final = 2 * 1024 * 1024
REPLAYS_AT_ONCE: Final = 2


@dataclass(frozen=True, slots=True)
class Replayed:
    """What became of a replay.

    Attributes:
        replayed: Records stored, or that would be.
        still_rejected: Records rejected again.
    """

    replayed: int = 0
    still_rejected: int = 0

    def __add__(self, other: Replayed) -> Replayed:
        return Replayed(self.replayed + other.replayed, self.still_rejected + other.still_rejected)


_STORED: Final = Replayed(replayed=1)
_REJECTED: Final = Replayed(still_rejected=1)


class Replays:
    """Runs replays, two at a time; others wait.

    Args:
        group_commit: The queue in front of the writers.
        check: What they do with a batch before they flush it.
        records: The kept records.
        refuse_when_draining: Raises Draining when the server is shutting down.
    """

    def __init__(
        self,
        group_commit: GroupCommit,
        check: PendingCheck,
        records: RejectedRecords,
        refuse_when_draining: Callable[[], None],
    ) -> None:
        self._group_commit = group_commit
        self._check = check
        self._records = records
        self._refuse_when_draining = refuse_when_draining
        self._turns = asyncio.Semaphore(REPLAYS_AT_ONCE)

    async def replay(self, time_range: TimeRange, filter_text: str, *, dry_run: bool) -> Replayed:
        """Send the kept records of a time range again, the oldest first, in steps.

        When it is broken off, what was stored is stored and the rest is still kept.

        Args:
            time_range: Of `rejected_at`.
            filter_text: Over REJECTED_COLUMNS; "" takes every record.
            dry_run: Check only: nothing is stored, and PostgreSQL is not asked.

        Raises:
            InvalidFilter: Nothing was read.
            DatabaseUnavailable: The database does not answer.
            Draining: The server is shutting down.
            DiskBudgetReached: There is no room on the disk.
        """
        conditions = parse(filter_text, REJECTED_COLUMNS)
        total, more, begun = Replayed(), True, time.monotonic()
        place: Position | None = None
        async with self._turns:
            try:
                while more:
                    self._refuse_when_draining()
                    if not dry_run:
                        self._group_commit.require_open()
                    selection = Selection(time_range, conditions, False, place, STEP_RECORDS)
                    found, place = await self._step(selection, dry_run=dry_run)
                    total += found
                    more = place is not None
            finally:
                log.info(
                    "rejected_records_replayed",
                    dry_run=dry_run,
                    complete=not more,
                    replayed=total.replayed,
                    still_rejected=total.still_rejected,
                    seconds=round(time.monotonic() - begun, 3),
                )
        return total

    async def _step(
        self, selection: Selection, *, dry_run: bool
    ) -> tuple[Replayed, Position | None]:
        """Send the records of a selection; gives where the next one begins, None: nowhere."""
        rows, place = await self._records.read(selection, STEP_BYTES)
        outcomes = await asyncio.gather(*(self._again(row, dry_run=dry_run) for row in rows))
        return sum(outcomes, Replayed()), place

    async def _again(self, row: Any, *, dry_run: bool) -> Replayed:
        """Send one record; one that another replay stored counts as neither."""
        if row["record"] is None:  # larger than a record may be
            return _REJECTED
        arrived = time.monotonic()
        batch = PendingBatch(
            ReplayKey(row["shard"], UUID(int=row["rejected_id"].int)),
            row["shard"],
            RecordDefaults(**json.loads(row["defaults"])),
            wire.one_record(row["kind"], row["record"]),
            None,
            0,
            self._group_commit.wait_seconds,
            arrived,
            received_at=row["rejected_at"],
        )
        if dry_run:
            tally = await self._check.judge(batch)
            return _STORED if tally is not None and tally.accepted else _REJECTED
        size = len(batch.records)
        batch.admitted_bytes = await self._group_commit.wait_for_room(size, arrived)
        self._group_commit.submit(batch)
        outcome = await batch.answer
        if outcome.status == "duplicate":
            return Replayed()
        return _STORED if outcome.tally.accepted else _REJECTED
