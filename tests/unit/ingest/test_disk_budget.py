"""The disk budget's door: what is refused, what is said, and when partitions are dropped."""

from __future__ import annotations

import asyncio
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import cast

import pytest
from structlog.testing import capture_logs

from fernando_telemetry.domain.disk_room import MIB, Room, RoomLimits
from fernando_telemetry.domain.errors import DatabaseUnavailable, DiskBudgetReached
from fernando_telemetry.domain.retention import Retention
from fernando_telemetry.ingest.admission import ByteBudget
from fernando_telemetry.ingest.checks.context import RecordDefaults
from fernando_telemetry.ingest.counters import IngestCounters
from fernando_telemetry.ingest.disk_budget import DiskBudget
from fernando_telemetry.ingest.group_check import GroupChecker
from fernando_telemetry.ingest.group_commit import GroupCommit
from fernando_telemetry.ingest.pending import PendingBatch
from fernando_telemetry.ingest.pending_check import PendingCheck
from fernando_telemetry.ingest.rejected import RejectedKeeper
from fernando_telemetry.storage.dropping import Dropped
from fernando_telemetry.storage.oldest_partitions import Kept
from fernando_telemetry.storage.rejected_records import RejectedRecords

NOW = datetime(2026, 1, 31, tzinfo=UTC)
GONE = OSError("the folder is gone")
NOTHING_KEPT = cast("RejectedRecords", None)
AWAY = DatabaseUnavailable("away", 1.0)


@dataclass
class World:
    """A disk of 100 MiB, a database, and partitions of 1 MiB that can be dropped."""

    free_mib: float = 50
    database_mib: float = 10
    partitions: int = 0
    disk_trouble: OSError | None = None
    database_trouble: DatabaseUnavailable | None = None
    asked: list[int] = field(default_factory=list)
    finished: int = 0

    def free_space(self) -> Room:
        if self.disk_trouble is not None:
            raise self.disk_trouble
        return Room("/data", int(self.free_mib * MIB), 100 * MIB)

    async def database_bytes(self) -> int:
        if self.database_trouble is not None:
            raise self.database_trouble
        return int(self.database_mib * MIB)

    async def finish(self) -> None:
        if self.database_trouble is not None:
            raise self.database_trouble
        self.finished += 1

    async def drop_one(self, missing_bytes: int, now: datetime) -> Dropped | Kept:
        assert now == NOW
        self.asked.append(missing_bytes)
        if self.database_trouble is not None:
            raise self.database_trouble
        if not self.partitions:
            return Kept("would_not_help")
        self.partitions -= 1
        self.free_mib += 1
        self.database_mib -= 1
        return Dropped("events_p20260101", MIB)


@dataclass
class Door:
    world: World
    limits: RoomLimits = field(default_factory=lambda: RoomLimits(5, 0))

    def __post_init__(self) -> None:
        self.counters = IngestCounters(clock=lambda: NOW)
        self.bytes = ByteBudget(1000)
        rejected = RejectedKeeper(NOTHING_KEPT, self.counters, is_on=False, most_bytes=0)
        retention = Retention.of_days(0, 0, 0, 0)
        self.group_commit = GroupCommit(
            [],
            [],
            self.bytes,
            self.counters,
            PendingCheck(GroupChecker(), lambda: retention, rejected),
            group_bytes=1,
            group_batches=1,
            wait_seconds=30,
            on_commit=lambda: None,
        )
        self.budget = DiskBudget(
            self.limits,
            self.group_commit,
            self.counters,
            free_space=self.world.free_space,
            database_bytes=self.world.database_bytes,
            oldest=self.world,
            interval_seconds=1,
            clock=lambda: NOW,
        )

    def batch(self) -> PendingBatch:
        taken = self.bytes.take_at_once(100)
        assert taken is not None
        return PendingBatch(None, 0, RecordDefaults(), b"", None, taken, 30.0, 0.0)


async def test_what_waits_and_what_comes_is_refused() -> None:
    door = Door(World())
    await door.budget.look()
    door.group_commit.require_open()
    waiting = door.batch()
    door.group_commit.submit(waiting)
    assert not waiting.answer.done()
    door.world.free_mib = 4
    await door.budget.look()
    coming = door.batch()
    door.group_commit.submit(coming)
    for batch in (waiting, coming):
        with pytest.raises(DiskBudgetReached) as refused:
            batch.answer.result()
        assert refused.value.retry_after_seconds == 2
    with pytest.raises(DiskBudgetReached, match=r"4\.0 % .* is free, less than 5 %"):
        door.group_commit.require_open()
    assert door.bytes.used == 0
    assert door.counters.refused_for_room == 3
    assert door.counters.disk_free_bytes == 4 * MIB
    # Nothing is left for a drain to wait for.
    async with asyncio.timeout(20):
        await door.group_commit.drained()


async def test_each_change_is_said_once() -> None:
    door = Door(World(free_mib=4))
    with capture_logs() as lines:
        for free_mib, refusing in (
            *((4, True), (4.5, True), (5.5, True), (5.9, True)),
            *((6.1, False), (5.5, False), (50, False)),
        ):
            door.world.free_mib = free_mib
            await door.budget.look()
            assert door.budget.refusing is refusing
    assert [line["event"] for line in lines] == ["ingest_refused_for_room", "ingest_taken_again"]
    assert door.counters.last_problem.startswith("2026-01-31T00:00:00+00:00: Ingest is refused: ")
    assert door.counters.last_problem.endswith("Taken again since 2026-01-31T00:00:00+00:00.")


async def test_a_size_beyond_the_budget_is_refused() -> None:
    door = Door(World(), RoomLimits(5, 20 * MIB))
    door.world.database_mib = 21
    await door.budget.look()
    with pytest.raises(DiskBudgetReached, match="has 21 MiB, its budget is 20 MiB"):
        door.group_commit.require_open()
    # A database that is away has the size it had.
    door.world.database_trouble = AWAY
    await door.budget.look()
    assert door.budget.refusing
    door.world.database_trouble = None
    door.world.database_mib = 18
    await door.budget.look()
    assert not door.budget.refusing


async def test_a_disk_that_cannot_be_measured_refuses_nothing() -> None:
    door = Door(World(free_mib=4, disk_trouble=GONE))
    with capture_logs() as lines:
        await door.budget.look()
        await door.budget.look()
    assert not door.budget.refusing
    assert [line["event"] for line in lines] == ["disk_not_measured"]


async def test_the_oldest_go_before_anything_is_refused() -> None:
    door = Door(World(free_mib=5.5, partitions=10))
    await door.budget.look()
    assert not door.budget.refusing
    await door.budget.make_room()
    assert door.world.free_mib == 6.5, "one was enough"
    assert door.world.partitions == 9
    await door.budget.look()
    assert not door.budget.refusing


async def test_as_many_go_as_are_needed() -> None:
    door = Door(World(free_mib=1, partitions=10))
    await door.budget.look()
    assert door.budget.refusing
    await door.budget.make_room()
    assert door.world.partitions == 5
    assert door.world.asked[0] == pytest.approx(5 * MIB, abs=10)
    await door.budget.look()
    assert not door.budget.refusing


async def test_what_cannot_be_dropped_is_said_once_and_refused() -> None:
    door = Door(World(free_mib=3))
    with capture_logs() as lines:
        for _ in range(3):
            await door.budget.look()
            await door.budget.make_room()
        door.world.database_trouble = AWAY
        await door.budget.make_room()
    said = [line for line in lines if line["event"] == "no_partition_dropped_for_room"]
    assert [line["reason"] for line in said] == ["would_not_help", "database"]
    assert door.budget.refusing


async def test_a_drop_that_was_broken_off_is_finished_though_there_is_room() -> None:
    door = Door(World(free_mib=50))
    await door.budget.look()
    for _ in range(3):
        await door.budget.make_room()
    assert door.world.finished == 1, "what an earlier server left is looked for once"
    door.world.free_mib = 3
    door.world.database_trouble = AWAY
    await door.budget.look()
    await door.budget.make_room()
    door.world.free_mib, door.world.database_trouble = 50, None
    await door.budget.look()
    await door.budget.make_room()
    assert door.world.finished == 2
    assert len(door.world.asked) == 1


async def test_room_again_is_not_said_behind_another_problem() -> None:
    door = Door(World(free_mib=4))
    await door.budget.look()
    door.counters.note_problem("Something else.")
    door.world.free_mib = 50
    await door.budget.look()
    assert not door.budget.refusing
    assert door.counters.last_problem.endswith("Something else.")
