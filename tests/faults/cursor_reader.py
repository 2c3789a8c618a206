"""A reader of committed data that begins again from its cursor's text, now and then in mid-step."""

from __future__ import annotations

import asyncio
import random
from collections import Counter
from dataclasses import dataclass, field
from uuid import UUID

from fernando_telemetry.domain.errors import DatabaseUnavailable, QueryTooExpensive
from fernando_telemetry.domain.flush_ids import lane_of, number_of
from fernando_telemetry.storage.committed import CommittedReading
from fernando_telemetry.storage.rows import EVENTS
from fernando_telemetry.storage.sessions import ReaderPool
from tests.conftest import session_settings


@dataclass
class CursorReader:
    """Reads all events of a database.

    Args:
        dsn: Where to; a replica will do.
        chance: Source of its choices.

    Attributes:
        seen: How often each event came, by event_id.
        counts: What it went through.
        cursor: Where it goes on, as text; "" before the first step.
        lanes_through: Highest number seen of each lane, to check the order.
    """

    dsn: str
    chance: random.Random
    seen: Counter[UUID] = field(default_factory=Counter)
    counts: Counter[str] = field(default_factory=Counter)
    cursor: str = ""
    lanes_through: dict[int, int] = field(default_factory=dict)
    width: int = 0

    async def run(self, stop: asyncio.Event) -> None:
        """Read on until told to stop and there is nothing more."""
        while True:
            ending = stop.is_set()
            # Sessions of its own each time: it begins anew, as another process would.
            pool = ReaderPool(session_settings(self.dsn), 1)
            self.counts["starts"] += 1
            try:
                for _ in range(self.chance.randint(1, 30)):
                    is_last = await self._step(pool)
                    if is_last and ending:
                        return
                    if is_last:
                        await asyncio.sleep(self.chance.random() * 0.05)
            except (DatabaseUnavailable, QueryTooExpensive):
                self.counts["interrupted"] += 1
                await asyncio.sleep(0.05)
            finally:
                await pool.close()

    async def _step(self, pool: ReaderPool) -> bool:
        events: list[UUID] = []
        async with pool.snapshot() as connection:
            reading = await CommittedReading.begin(connection)
            cursor = reading.read(self.cursor) if self.cursor else await reading.oldest()
            step = await reading.next(
                cursor,
                max_flushes=self.chance.choice([1, 3, 20, 200]),
                max_rows=self.chance.choice([1, 50, 5000]),
                tables=[EVENTS],
            )
            for flush in step.flushes:
                rows = [row async for part in reading.rows(flush, EVENTS) for row in part]
                # A flush that shows is whole.
                assert len(rows) == flush.extents[EVENTS.name].count, flush
                events += [row["event_id"] for row in rows]
            text = reading.write(step.cursor)
        if step.flushes and self.chance.random() < 0.1:
            # As if it had been killed before it kept the cursor: all of it comes again.
            self.counts["given up"] += 1
            return False
        for flush in step.flushes:
            lane, number = lane_of(flush.flush_id), number_of(flush.flush_id)
            assert number > self.lanes_through.get(lane, 0), f"{flush.flush_id:x} came late"
            self.lanes_through[lane] = number
        self.cursor = text
        self.seen.update(events)
        self.counts["steps"] += 1
        self.counts["flushes"] += len(step.flushes)
        self.width = max(self.width, len(step.cursor.positions))
        return step.is_last
