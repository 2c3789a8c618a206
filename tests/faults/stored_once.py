"""The laws of the flush, checked on a database: what is acknowledged is there, once and whole."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any

from tests.faults.numbered_producer import NumberedProducer

LANE_SHIFT = 40

# The rows of numbered batches: whose, of which batch, which record, in which flush.
EVENT_ROWS = """
SELECT session_id AS producer, (event_data ->> 'sequence')::int8 AS sequence,
    (event_data ->> 'record')::int8 AS record, flush_id
FROM telemetry_events WHERE event_name = 'torture'
"""
BATCHES = """
SELECT producer, sequence, count(*) AS rows, count(DISTINCT record) AS records,
    count(DISTINCT flush_id) AS flushes, min(flush_id) AS flush_id
FROM ({rows}) AS rows GROUP BY 1, 2
"""
FLUSHES = """
SELECT f.flush_id, f.event_count, f.event_min_time, f.event_max_time, r.rows, r.low, r.high
FROM flushes f FULL JOIN (
    SELECT flush_id, count(*) AS rows, min(event_timestamp) AS low, max(event_timestamp) AS high
    FROM telemetry_events GROUP BY 1) r USING (flush_id)
ORDER BY flush_id
"""


@dataclass
class Stored:
    """What was found."""

    batches: int
    rows: int
    flushes: int
    lanes: int
    marks: int
    trimmed: int


async def stored_batches(connection: Any, rows: str) -> dict[tuple[str, int], Any]:
    """Give what is stored of each batch, by producer and number."""
    found = await connection.fetch(BATCHES.format(rows=rows))
    return {(row["producer"], row["sequence"]): row for row in found}


async def assert_stored_once(
    connection: Any, producers: Iterable[NumberedProducer], rows: str = EVENT_ROWS
) -> Stored:
    """Compare the database with what producers offered and were told.

    Every acknowledged batch is stored exactly once, whole, in one flush; nothing else is stored
    but whole batches that were offered; marks and progress say the same; a flush's row counts its
    rows; lanes and numbers rise without a gap in the lanes. All of it is read as it is at one
    moment: a batch whose stream was cut may be committed meanwhile.

    Args:
        connection: To the database; not in a transaction.
        producers: Those with their ledgers.
        rows: Query of the rows of their batches.
    """
    async with connection.transaction(isolation="repeatable_read", readonly=True):
        return await _stored_once(connection, producers, rows)


async def _stored_once(connection: Any, producers: Iterable[NumberedProducer], rows: str) -> Stored:
    by_name = {producer.name: producer.ledger for producer in producers}
    stored = await stored_batches(connection, rows)
    for (name, sequence), row in stored.items():
        size = by_name[name].offered[sequence]
        assert row["rows"] == row["records"] == size, f"{name} {sequence}: {row}, offered {size}"
        assert row["flushes"] == 1, f"{name} {sequence} lies in {row['flushes']} flushes"
    for name, ledger in by_name.items():
        missing = [n for n in range(1, ledger.done_through + 1) if (name, n) not in stored]
        assert not missing, f"{name}: acknowledged and not stored: {missing[:10]}"
    marks = await _check_marks(connection, stored)
    trimmed = await _check_progress(connection, stored, marks)
    flushes = await _check_flushes(connection)
    lanes = await connection.fetchval("SELECT count(*) FROM lanes")
    assert await connection.fetchval("SELECT coalesce(max(lane), 0) FROM lanes") == lanes
    count = sum(row["rows"] for row in stored.values())
    return Stored(len(stored), count, flushes, lanes, len(marks), trimmed)


async def _check_marks(connection: Any, stored: dict[Any, Any]) -> set[tuple[str, int]]:
    marks = set()
    for mark in await connection.fetch("SELECT * FROM batch_marks"):
        key = (mark["producer_id"], mark["sequence"])
        row = stored.get(key)
        assert row is not None, f"a mark without rows: {mark}"
        assert mark["flush_id"] == row["flush_id"], (mark, row)
        assert mark["accepted_count"] == row["rows"], (mark, row)
        marks.add(key)
    return marks


async def _check_progress(
    connection: Any, stored: dict[Any, Any], marks: set[tuple[str, int]]
) -> int:
    """A stored batch has a mark or lies at or below its producer's progress; never both."""
    through = {
        row["producer_id"]: row["contiguous_through"]
        for row in await connection.fetch("SELECT * FROM progress")
    }
    trimmed = 0
    for name, sequence in stored:
        below = sequence <= through.get(name, 0)
        assert below != ((name, sequence) in marks), (name, sequence, through.get(name))
        trimmed += below
    return trimmed


async def _check_flushes(connection: Any) -> int:
    flushes = await connection.fetch(FLUSHES)
    known_lanes = {row["lane"] for row in await connection.fetch("SELECT lane FROM lanes")}
    for row in flushes:
        assert row["flush_id"] is not None, f"rows without a flush: {row}"
        assert row["event_count"] is not None, f"no flushes row: {row}"
        assert row["event_count"] == (row["rows"] or 0), row
        assert (row["event_min_time"], row["event_max_time"]) == (row["low"], row["high"]), row
        assert row["flush_id"] >> LANE_SHIFT in known_lanes
    return len(flushes)
