"""The databases that `bench query` asks: filled and sealed, for one run or kept for more."""

from __future__ import annotations

import contextlib
import json
import time
from collections.abc import AsyncIterator, Iterable
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, Final

from fernando_telemetry.bench.failure import BenchFailed
from fernando_telemetry.bench.figures import Report
from fernando_telemetry.bench.query_rows import (
    ROWS,
    SAMPLES,
    Week,
    fill,
    fill_series,
    roll_up,
    week_of,
)
from fernando_telemetry.bench.sealed_partitions import ended_partitions, wait_until_sealed
from fernando_telemetry.bench.server import Connection, Server, serving
from fernando_telemetry.bench.tables import analyze, vacuum

GRACE_SECONDS: Final = 2
# Written when all is there.
NOTE: Final = "filled.json"
# What is kept of the roll-ups, for VACUUM.
ROLLED_UP: Final = (
    "event_hours",
    "event_type_hours",
    "event_user_hours",
    "event_type_user_hours",
    "sample_minutes",
    "sample_hours",
)


@dataclass(frozen=True, slots=True)
class Filled:
    """A server with its week.

    Attributes:
        server: The process under test.
        connection: A session on its database.
        week: What is there.
        fill_seconds: How long it took to write.
        seal_seconds: How long the server then took to seal it.
        roll_up_seconds: And how long `rollups rebuild` took.
    """

    server: Server
    connection: Connection
    week: Week
    fill_seconds: float
    seal_seconds: float
    roll_up_seconds: float


@contextlib.asynccontextmanager
async def filled_week(
    rows: int, report: Report, kept: Path | None, *, is_whole: bool = True
) -> AsyncIterator[Filled]:
    """Run a server on a database with a week, and fill it where that is not done yet.

    Args:
        rows: Events, and as many spans.
        report: Takes progress.
        kept: The folder of the database, to be used again; None: a temporary one.
        is_whole: Spans, samples and sealed partitions, too; else events alone, not sealed.

    Raises:
        BenchFailed: The folder has something else, or the server does not seal.
    """
    found = _found(kept, rows)
    async with serving(kept, seal_grace_seconds=GRACE_SECONDS) as server:
        report(f"{rows:,} rows: server {server.address}, data in {server.data_dir}")
        connection = await server.connect()
        try:
            if found is None:
                found = await _filled(server, connection, rows, report, is_whole=is_whole)
                if kept is not None:
                    (kept / NOTE).write_text(json.dumps(found), encoding="utf-8")
            week = week_of(rows, datetime.fromisoformat(found["filled_at"]))
            yield Filled(server, connection, week, *(found[key] for key in _SECONDS))
        finally:
            await connection.close()


_SECONDS: Final = ("fill_seconds", "seal_seconds", "roll_up_seconds")


def _found(kept: Path | None, rows: int) -> dict[str, Any] | None:
    """Read what a kept folder has; None where it is to be filled.

    Raises:
        BenchFailed: It cannot be asked.
    """
    if kept is None or not kept.exists() or not any(kept.iterdir()):
        return None
    note = kept / NOTE
    if not note.exists():
        raise BenchFailed(f"{kept} has other files, or was not filled to its end.")
    found: dict[str, Any] = json.loads(note.read_text(encoding="utf-8"))
    if found["rows"] != rows:
        raise BenchFailed(f"{kept} has {found['rows']:,} rows: ask with --rows {found['rows']}.")
    filled_at = datetime.fromisoformat(found["filled_at"])
    if filled_at.date() != datetime.now(UTC).date():
        raise BenchFailed(
            f"{kept} was filled on {filled_at:%Y-%m-%d}: what was its hot day is sealed by now."
        )
    return found


async def _filled(
    server: Server, connection: Connection, rows: int, report: Report, *, is_whole: bool
) -> dict[str, Any]:
    begun, now = time.monotonic(), datetime.now(UTC)
    week = week_of(rows, now)
    tables: Iterable[str] = ROWS if is_whole else ["telemetry_events"]
    await fill(server, connection, week, report, tables)
    if is_whole:
        await fill_series(server, connection, week.sealed, report)
    filled = time.monotonic()
    if is_whole:
        for table in tables:
            await wait_until_sealed(server.address, connection, table, week.hot.day)
            # As autovacuum would sooner or later, so that it does not while questions are timed.
            # A hot partition it leaves alone.
            for partition in (await ended_partitions(connection, table, week.hot.day)).sealed:
                await vacuum(connection, partition.name)
            await analyze(connection, table)
        # Sealed, too, by then: its indexes are the same as before.
        await vacuum(connection, SAMPLES)
    sealed = time.monotonic()
    report("all is filled and sealed; rolling up")
    await roll_up(server, week.sealed)
    for table in ROLLED_UP:
        await vacuum(connection, table)
    seconds = (filled - begun, sealed - filled, time.monotonic() - sealed)
    took = dict(zip(_SECONDS, (round(one, 1) for one in seconds), strict=True))
    return {"rows": rows, "filled_at": now.isoformat()} | took
