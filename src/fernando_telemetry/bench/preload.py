"""Fills a partition with millions of rows made from stored ones, quicker than by sending them."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from typing import Final

from fernando_telemetry.bench.figures import Report
from fernando_telemetry.bench.stand import Stand
from fernando_telemetry.bench.tables import columns_of, insert_copies, keep_pattern, vacuum
from fernando_telemetry.storage.statements import load

sql = load("bench")

PATTERN: Final = "bench_pattern"
PATTERN_ROWS: Final = 200_000
STEP_ROWS: Final = 1_000_000
REPORT_ROWS: Final = 5_000_000


class Preload:
    """Rows that lie earlier in the partition of today than anything sent.

    They are copies of stored ones in all but their times, which rise row by row from the day's
    start, as they would in a partition that filled up during the day.

    Args:
        stand: Where; its table has some rows already.
        most_rows: How many it may come to: the day is divided among them.
        before: Moment that none of their times reaches.
    """

    def __init__(self, stand: Stand, most_rows: int, before: datetime) -> None:
        self._stand = stand
        at = before.astimezone(UTC)
        self._start = at.replace(hour=0, minute=0, second=0, microsecond=0)
        # Whole microseconds, and not before the day for want of room.
        micros = (at - self._start) // timedelta(microseconds=1)
        self._step_micros = max(1, micros // max(1, most_rows))
        self._columns: list[str] = []
        self._pattern_rows = 0
        self.rows = 0

    async def open(self) -> None:
        """Keep some stored rows as the pattern."""
        connection, table = self._stand.connection, self._stand.table
        await connection.execute(sql.join_in_memory)
        self._columns = await columns_of(connection, table)
        self._pattern_rows = await keep_pattern(
            connection, PATTERN, table, self._columns, PATTERN_ROWS
        )

    async def fill(self, rows: int, report: Report) -> None:
        """Add rows until there are so many, in steps, and let VACUUM settle what they left."""
        connection, table = self._stand.connection, self._stand.table
        statement = insert_copies(
            table, self._columns, PATTERN, self._pattern_rows, self._step_micros
        )
        while self.rows < rows:
            through = min(rows, self.rows + STEP_ROWS)
            await connection.execute(statement, self._start, self.rows, through, timeout=600)
            self.rows = through
            if through % REPORT_ROWS == 0:
                report(f"{through:,} rows are there before the load")
        # Else autovacuum would read them all while the load runs.
        await vacuum(connection, table)
