"""Rows that fill a partition: as many as asked for, all of one day and before anything sent."""

from __future__ import annotations

import time
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest

from fernando_telemetry.app import Application
from fernando_telemetry.bench.load_stream import LoadStream
from fernando_telemetry.bench.preload import Preload
from fernando_telemetry.bench.records import base_micros, make_batches
from fernando_telemetry.bench.server import Server
from fernando_telemetry.bench.stand import IngestOptions, Stand
from fernando_telemetry.bench.tables import TABLES, TIME_COLUMNS


@pytest.mark.parametrize("kind", ["events", "points", "spans"])
async def test_times_end_where_the_load_begins(
    server: Application, connection: Any, database: str, tmp_path: Path, kind: str
) -> None:
    first = base_micros(datetime.now(UTC))
    stream = LoadStream("bench", make_batches(kind, 200, first, pool_bytes=0), 0)
    await stream.open(server.address)
    await stream.run(time.monotonic() + 0.5)
    await stream.close()
    own = Server(server.address, database, 0, tmp_path, {})
    stand = Stand(IngestOptions(kind=kind), own, connection, 0.0)
    before = datetime.fromtimestamp(first / 1e6, UTC)
    preload = Preload(stand, 5_000, before)
    await preload.open()
    await preload.fill(2_000, print)
    assert preload.rows == 2_000
    await preload.fill(5_000, print)
    assert await stand.require_rows(stream.accepted + 5_000) > 5_000
    table, column = TABLES[kind], TIME_COLUMNS[TABLES[kind]]
    # The second fill's rows went to whichever pages had room: their order says nothing.
    rows = await connection.fetch(
        f"SELECT {column} FROM {table} WHERE {column} < $1 ORDER BY {column}", before
    )
    times = [row[0] for row in rows]
    assert len(set(times)) == len(times) == 5_000
    assert times[0].date() == before.date() == times[-1].date()
    # Right up to what is sent: the load then goes on where they end.
    assert before - times[-1] < timedelta(days=1) / 5_000 * 2
