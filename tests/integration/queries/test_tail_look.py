"""Looks: a reader that does not keep up leaves out what is old, and counts it."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from typing import Any

import pytest

from fernando_telemetry.domain.cursor import Cursor
from fernando_telemetry.domain.filter_columns import EVENT_COLUMNS
from fernando_telemetry.domain.filters import parse
from fernando_telemetry.queries import tail_look
from fernando_telemetry.queries.allowance import Allowance
from fernando_telemetry.queries.open_tails import Tail
from fernando_telemetry.queries.tail_buffer import TailBuffer
from fernando_telemetry.queries.tail_look import Look
from fernando_telemetry.storage.committed import CommittedReading
from fernando_telemetry.storage.event_tail import TailedEvents
from fernando_telemetry.storage.sessions import ReaderPool
from tests.integration.storage.lanes import day_partition, flush, open_lane

MINUTE = timedelta(minutes=1)


async def look(readers: ReaderPool, tail: Tail, position: Cursor) -> Look:
    allowance = Allowance(1000, 0.0)
    found = Look(TailedEvents(), lambda _: b"x", allowance, 10**6, filters_apart=False)
    async with readers.snapshot() as connection:
        reading = await CommittedReading.begin(connection)
        await found.read(reading, connection, [tail], position)
    return found


@pytest.fixture
def tail() -> Tail:
    text = "license_id = absent"
    return Tail(text, parse(text, EVENT_COLUMNS), TailBuffer(0, 0.0), "", is_level=True)


async def test_steps_that_are_old_are_left_out_until_it_has_caught_up(
    readers: ReaderPool, connection: Any, monkeypatch: pytest.MonkeyPatch, tail: Tail
) -> None:
    monkeypatch.setattr(tail_look, "STEP_ROWS", 4)
    now = datetime.now(UTC)
    await day_partition(connection, 1)  # a minute ago may be of yesterday
    await open_lane(connection, 1)
    # Two steps of two flushes, a minute old, and one of now.
    for number in range(1, 5):
        await flush(connection, 1, number, now, now, at=now - MINUTE)
    await flush(connection, 1, 5, now, now, at=now)
    position = Cursor()
    told = []
    for _ in range(3):
        found = await look(readers, tail, position)
        assert found.position is not None
        position = found.position
        told.append((found.skipped, found.found[0].dropped, found.has_more))
    assert told == [(4, 4, True), (4, 4, True), (0, 0, False)]


async def test_what_is_old_is_read_where_there_is_no_more(
    readers: ReaderPool, connection: Any, tail: Tail
) -> None:
    now = datetime.now(UTC)
    await day_partition(connection, 1)  # a minute ago may be of yesterday
    await open_lane(connection, 1)
    await flush(connection, 1, 1, now, at=now - MINUTE, license_id="absent")
    found = await look(readers, tail, Cursor())
    assert (found.skipped, found.found[0].events, found.has_more) == (0, [b"x"], False)
