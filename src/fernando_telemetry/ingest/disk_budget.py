"""The disk budget: refuses ingest while PostgreSQL can still write, not when it no longer can.

A PostgreSQL whose disk is full panics and cannot even recover. So the room is measured every
second; below the limit new batches and those that wait are refused with trouble that may pass,
until there is clearly more than the limit. Where the operator says so, the oldest partitions go
first.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from dataclasses import replace
from datetime import UTC, datetime
from typing import Final, Protocol

import structlog

from fernando_telemetry.domain.disk_room import Room, RoomLimits, Shortage, shortage
from fernando_telemetry.domain.errors import DatabaseUnavailable, DiskBudgetReached
from fernando_telemetry.ingest.counters import IngestCounters
from fernando_telemetry.ingest.group_commit import GroupCommit
from fernando_telemetry.storage.dropping import Dropped
from fernando_telemetry.storage.oldest_partitions import Kept

log = structlog.get_logger(__name__)

RETRY_AFTER_SECONDS: Final = 2.0
# The size of a database takes a look at each of its files.
SIZE_INTERVAL_SECONDS: Final = 5.0


class Oldest(Protocol):
    """Gives room back: storage.oldest_partitions."""

    async def drop_one(self, missing_bytes: int, now: datetime) -> Dropped | Kept:
        """Drop one partition."""

    async def finish(self) -> None:
        """Finish a drop that was broken off."""


class DiskBudget:
    """Opens and closes the door of the write path by the room there is.

    Args:
        limits: What is wanted.
        group_commit: Whose door it is.
        counters: Get the room, the refusals and the sentence for operators.
        free_space: Measures the file system; None where it is not this machine's.
        database_bytes: Measures the database.
        oldest: Drops the oldest partitions; None: nothing is dropped.
        interval_seconds: Time between two looks.
        clock: The time, for partitions and sentences.
    """

    def __init__(
        self,
        limits: RoomLimits,
        group_commit: GroupCommit,
        counters: IngestCounters,
        *,
        free_space: Callable[[], Room] | None,
        database_bytes: Callable[[], Awaitable[int]],
        oldest: Oldest | None,
        interval_seconds: float,
        clock: Callable[[], datetime] = lambda: datetime.now(UTC),
    ) -> None:
        self._limits = limits
        self._group_commit = group_commit
        self._counters = counters
        self._free_space = free_space
        self._database_bytes = database_bytes
        self._oldest = oldest
        # An earlier server may have been killed in a drop.
        self._unfinished = True
        self._interval_seconds = interval_seconds
        self._clock = clock
        self._sentence = ""
        self._room = Room()
        self._sized_at = float("-inf")
        self._is_measured = True
        self._kept = ""

    @property
    def refusing(self) -> bool:
        """Whether ingest is refused now."""
        return bool(self._sentence)

    async def repeat(self, step: Callable[[], Awaitable[None]]) -> None:
        """Take a step, `look` or `make_room`, again and again until cancelled.

        Each is a loop of its own: a drop may have to wait, while the door must not.
        """
        while True:
            await step()
            await asyncio.sleep(self._interval_seconds)

    async def look(self) -> None:
        """Measure, and open or close the door."""
        await self._measure()
        short = shortage(self._room, self._limits, refusing=self.refusing)
        if short is None:
            self._take()
        else:
            self._refuse(short)

    async def make_room(self) -> None:
        """Drop the oldest partitions, until there is clearly more room than ingest needs.

        It begins before ingest has to be refused, and beside it: a DETACH may have to wait.
        """
        assert self._oldest is not None
        if self._unfinished:
            try:
                await self._oldest.finish()
                self._unfinished = False
            except DatabaseUnavailable as error:
                log.info("partition_drop_not_finished", cause=repr(error.__cause__ or error))
        while (short := shortage(self._room, self._limits, refusing=True)) is not None:
            done = await self._drop_one(self._oldest, short)
            kept = done.reason if isinstance(done, Kept) else ""
            if kept and kept != self._kept:
                log.warning("no_partition_dropped_for_room", reason=kept, need=short.sentence)
            self._kept = kept
            if kept:
                return
            self._sized_at = float("-inf")
            await self._measure()

    async def _drop_one(self, oldest: Oldest, short: Shortage) -> Dropped | Kept:
        try:
            return await oldest.drop_one(short.missing_bytes, self._clock())
        except DatabaseUnavailable as error:
            # Late rows of a partition that is half detached have no place: it is finished soon,
            # whether there is room by then or not.
            self._unfinished = True
            log.info("partition_drop_failed", cause=repr(error.__cause__ or error))
            return Kept("database")

    async def _measure(self) -> None:
        room = Room(database_bytes=self._room.database_bytes)
        if self._free_space is not None:
            try:
                room = replace(
                    await asyncio.to_thread(self._free_space), database_bytes=room.database_bytes
                )
                self._is_measured = True
            except OSError as error:
                if self._is_measured:
                    log.warning("disk_not_measured", cause=str(error))
                self._is_measured = False
        loop = asyncio.get_running_loop()
        due = self._sized_at + (0 if self.refusing else SIZE_INTERVAL_SECONDS)
        if self._limits.budget_bytes and loop.time() >= due:
            # A database that is away keeps its size: the write path tells that it is away.
            try:
                room = replace(room, database_bytes=await self._database_bytes())
                self._sized_at = loop.time()
            except DatabaseUnavailable:
                pass
        self._room = room
        self._counters.disk_free_bytes = room.free_bytes

    def _refuse(self, short: Shortage) -> None:
        if not self.refusing:
            log.error("ingest_refused_for_room", reason=short.sentence)
        self._sentence = f"Ingest is refused: {short.sentence}."
        self._counters.note_problem(self._sentence)
        self._group_commit.refuse(self._trouble)

    def _take(self) -> None:
        if not self.refusing:
            return
        log.warning("ingest_taken_again", free_bytes=self._room.free_bytes)
        if self._counters.last_problem.endswith(self._sentence):
            # Behind another problem it would be said of that one.
            self._counters.last_problem += f" Taken again since {self._clock().isoformat()}."
        self._sentence = ""
        self._group_commit.refuse(None)

    def _trouble(self) -> DiskBudgetReached:
        self._counters.refused_for_room += 1
        return DiskBudgetReached(self._sentence, RETRY_AFTER_SECONDS)
