"""Fills a partition with millions of rows made from stored ones, quicker than by sending them."""

from __future__ import annotations

import math
from datetime import UTC, datetime, timedelta
from typing import Final

from fernando_telemetry.bench.figures import Report
from fernando_telemetry.bench.raw_copy import columns_of
from fernando_telemetry.bench.stand import Stand
from fernando_telemetry.storage.statements import load

sql = load("bench")

TIME_COLUMNS: Final = {
    "telemetry_events": "event_timestamp",
    "metric_samples": "time",
    "traces": "start_time",
}
PATTERN: Final = "bench_pattern"
PATTERN_ROWS: Final = 200_000
STEP_ROWS: Final = 1_000_000


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
        self._pattern_rows = 0
        self.rows = 0

    async def open(self) -> None:
        """Keep some stored rows as the pattern."""
        connection, table = self._stand.connection, self._stand.table
        columns = ", ".join(await columns_of(connection, table))
        await connection.execute(
            f"CREATE UNLOGGED TABLE {PATTERN} AS "  # noqa: S608 - names of the catalogue
            f"SELECT row_number() OVER () - 1 AS place, {columns} FROM "
            f"(SELECT {columns} FROM {table} LIMIT {PATTERN_ROWS}) stored"
        )
        await connection.execute(f"CREATE INDEX ON {PATTERN} (place); ANALYZE {PATTERN}")
        self._pattern_rows = int(
            await connection.fetchval(f"SELECT count(*) FROM {PATTERN}")  # noqa: S608 - as above
        )

    async def fill(self, rows: int, report: Report) -> None:
        """Add rows until there are so many, in steps, and let VACUUM settle what they left."""
        connection, table = self._stand.connection, self._stand.table
        columns = await columns_of(connection, table)
        time = TIME_COLUMNS[table]
        values = ", ".join(
            f"$1::timestamptz + make_interval(secs => g * {self._step_micros} / 1e6::float8)"
            if column == time
            else f"p.{column}"
            for column in columns
        )
        statement = (
            f"INSERT INTO {table} ({', '.join(columns)}) "  # noqa: S608 - names of the catalogue
            f"SELECT {values} FROM generate_series($2::bigint, $3::bigint - 1) g "
            f"JOIN {PATTERN} p ON p.place = g % {self._pattern_rows}"
        )
        steps = math.ceil((rows - self.rows) / STEP_ROWS)
        for number in range(steps):
            through = min(rows, self.rows + STEP_ROWS)
            await connection.execute(statement, self._start, self.rows, through, timeout=600)
            self.rows = through
            if number % 10 == 9:
                report(f"{self.rows:,} rows are there before the load")
        # Else autovacuum would read them all while the load runs.
        await connection.execute(f"VACUUM ANALYZE {table}", timeout=3600)
