"""What queries are measured on: a week of made-up events and spans, sealed but for today.

Yesterday has samples, too: as many as events.
"""

from __future__ import annotations

import asyncio
import contextlib
import sys
from collections.abc import AsyncIterator, Iterable
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import Final

from fernando_telemetry.bench.failure import BenchFailed
from fernando_telemetry.bench.figures import Report
from fernando_telemetry.bench.server import Connection, Server
from fernando_telemetry.bench.tables import columns_of, insert_made_up
from fernando_telemetry.settings import Settings
from fernando_telemetry.storage.index_sets import chosen
from fernando_telemetry.storage.partitions import Partitions, raw_tables
from fernando_telemetry.storage.sessions import ControlPool, SessionSettings
from fernando_telemetry.storage.statements import load

sql = load("bench_rows")

SEALED_DAYS: Final = 6
STEP_ROWS: Final = 500_000
# Their statement of bench_rows.sql by table; all number rows from 0.
ROWS: Final = {"telemetry_events": "events", "traces": "spans"}
SAMPLES: Final = "metric_samples"
# Of the made-up series in bench_rows.sql.
SERIES: Final = range(1_000, 2_000)


@dataclass(frozen=True, slots=True)
class Stretch:
    """The rows of one day in a table.

    Attributes:
        day: Its midnight.
        first: Number of the first row.
        count: How many there are.
        start: Time of the first row; rows come up to two seconds late.
        seconds: Time between two rows.
    """

    day: datetime
    first: int
    count: int
    start: datetime
    seconds: float

    @property
    def end(self) -> datetime:
        """The next midnight."""
        return self.day + timedelta(days=1)


@dataclass(frozen=True, slots=True)
class Week:
    """The days of both tables, oldest first; the last one is hot.

    Of N rows a tenth lies in the hot day and a quarter in yesterday, the largest sealed one: 2 M
    and 5 M of 20 M.
    """

    days: tuple[Stretch, ...]

    @property
    def hot(self) -> Stretch:
        """Today."""
        return self.days[-1]

    @property
    def sealed(self) -> Stretch:
        """Yesterday."""
        return self.days[-2]

    @property
    def start(self) -> datetime:
        """The first midnight; what is asked for reaches seven days back from the last."""
        return self.days[0].day


def week_of(rows: int, now: datetime) -> Week:
    """Share rows out to the days before and including `now`."""
    today = now.astimezone(UTC).replace(hour=0, minute=0, second=0, microsecond=0)
    hot, yesterday = rows // 10, rows // 4
    others, rest = divmod(rows - hot - yesterday, SEALED_DAYS - 1)
    counts = [others + rest, *[others] * (SEALED_DAYS - 2), yesterday, hot]
    days: list[Stretch] = []
    first = 0
    for place, count in enumerate(counts):
        day = today - timedelta(days=SEALED_DAYS - place)
        start, length = day + timedelta(hours=1), 80_000.0
        if day == today:
            start = day + timedelta(seconds=2)
            length = max(1.0, (now - start).total_seconds())
        days.append(Stretch(day, first, count, start, length / max(1, count)))
        first += count
    return Week(tuple(days))


async def fill(
    server: Server,
    connection: Connection,
    week: Week,
    report: Report,
    tables: Iterable[str] = tuple(ROWS),
) -> None:
    """Write the week into tables, today first, so that its blooms are there in the end."""
    async with _bare_partitions(server) as partitions:
        for table in tables:
            for stretch in (week.hot, *week.days[:-1]):
                await _fill_day(connection, partitions, table, getattr(sql, ROWS[table]), stretch)
                report(f"{table}: {stretch.count:,} rows of {stretch.day:%Y-%m-%d}")


async def fill_series(
    server: Server, connection: Connection, stretch: Stretch, report: Report
) -> None:
    """Write samples of a thousand series into one day."""
    await connection.execute(sql.series)
    async with _bare_partitions(server) as partitions:
        await _fill_day(connection, partitions, SAMPLES, sql.series_samples, stretch)
    report(f"{SAMPLES}: {stretch.count:,} rows of {stretch.day:%Y-%m-%d}")


@contextlib.asynccontextmanager
async def _bare_partitions(server: Server) -> AsyncIterator[Partitions]:
    pool = ControlPool(SessionSettings.of(Settings(), server.dsn, "bench"), 1)
    try:
        # Those of past days get their indexes when they are sealed, so they need none before.
        yield Partitions(pool, raw_tables(indexes=chosen("none")))
    finally:
        await pool.close()


async def _fill_day(
    connection: Connection, partitions: Partitions, table: str, select: str, stretch: Stretch
) -> None:
    statement = insert_made_up(table, await columns_of(connection, table), select)
    await partitions.ensure({table: [stretch.start]})
    last = stretch.first + stretch.count - 1
    for first in range(stretch.first, last + 1, STEP_ROWS):
        through = min(last, first + STEP_ROWS - 1)
        # The number decides the time, so a day's rows count from its own first one.
        zero = stretch.start - timedelta(seconds=stretch.first * stretch.seconds)
        await connection.execute(statement, first, through, zero, stretch.seconds, timeout=3600)


async def roll_up(server: Server, stretch: Stretch) -> None:
    """Bring a day's rows into the roll-ups: `fill` writes beside the flush, so nothing else does.

    Raises:
        BenchFailed: The command failed.
    """
    process = await asyncio.create_subprocess_exec(
        *(sys.executable, "-m", "fernando_telemetry", "rollups", "rebuild", "--json"),
        *("--dsn", server.dsn, "--start", f"{stretch.day:%Y-%m-%dT%H:%M:%SZ}"),
        *("--end", f"{stretch.end:%Y-%m-%dT%H:%M:%SZ}"),
        stdin=asyncio.subprocess.DEVNULL,
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.STDOUT,
    )
    try:
        output, _ = await process.communicate()
    finally:
        if process.returncode is None:
            process.kill()
            await process.wait()
    # 1: hours differed, as they had to; they are written anew.
    if process.returncode not in (0, 1):
        raise BenchFailed(f"The roll-ups were not rebuilt: {output.decode().strip()}")
