"""What index sets cost a COPY, and what summarising beside it costs."""

from __future__ import annotations

import asyncio
import contextlib
import statistics
import time
from collections.abc import Sequence
from typing import Any, Final

import asyncpg

from fernando_telemetry.bench.made_up_rows import MadeUpRows, cpu_seconds
from fernando_telemetry.bench.tables import columns_of
from fernando_telemetry.storage.index_sets import PartitionIndex, SetName, chosen
from fernando_telemetry.storage.sessions import Connection, SessionSettings
from fernando_telemetry.storage.summarising import Summarising

MOST_CHUNKS: Final = 60
_SETS: Final[tuple[SetName, ...]] = ("none", "lean", "full")


async def copies(
    connection: Connection, rows: MadeUpRows, session: SessionSettings
) -> dict[str, Any]:
    """COPY the same rows into tables with each set, in turns; micro-seconds of CPU a row."""
    sets = {name: chosen(name)[rows.table] for name in _SETS}
    for name, indexes in sets.items():
        await connection.execute(
            f"CREATE TABLE set_{name} (LIKE {rows.table} INCLUDING DEFAULTS INCLUDING GENERATED "
            "INCLUDING STORAGE) WITH (autovacuum_enabled = off)"
        )
        await create(connection, f"set_{name}", indexes)
    columns = await columns_of(connection, rows.table)
    pid = await connection.fetchval("SELECT pg_backend_pid()")
    spent, summarised = dict.fromkeys(_SETS, 0.0), dict.fromkeys(_SETS, 0.0)
    source = await asyncpg.connect(session.dsn)
    chunks = min(MOST_CHUNKS, -(-rows.rows // rows.chunk))
    for turn in range(chunks):
        data = await rows.binary(source, turn * rows.chunk)
        for name in _SETS[turn % 3 :] + _SETS[: turn % 3]:
            data.seek(0)
            begun = cpu_seconds(pid)
            await connection.copy_to_table(
                f"set_{name}", source=data, format="binary", columns=columns
            )
            spent[name] += cpu_seconds(pid) - begun
        if turn % 10 == 9 or turn == chunks - 1:
            for name, indexes in sets.items():
                begun = cpu_seconds(pid)
                await _summarise(connection, f"set_{name}", indexes)
                summarised[name] += cpu_seconds(pid) - begun
    await source.close()
    count = chunks * rows.chunk
    result: dict[str, Any] = {}
    for name in _SETS:
        size = await connection.fetchval(
            "SELECT pg_indexes_size($1::text::regclass)", f"set_{name}"
        )
        result[name] = {
            "copy_us": round(1e6 * spent[name] / count, 2),
            "summarise_us": round(1e6 * summarised[name] / count, 2),
            "index_bytes_a_row": round(size / count, 1),
        }
        await connection.execute(f"DROP TABLE set_{name}")
    return result


async def beside_summarising(
    connection: Connection, rows: MadeUpRows, session: SessionSettings
) -> dict[str, float]:
    """Time COPY into the hot partition alone, and while another session summarises it."""
    columns = await columns_of(connection, rows.table)
    whole = max(1, rows.rows // rows.chunk)
    chunks = [await rows.binary(connection, turn % whole * rows.chunk) for turn in range(10)]
    await connection.execute(f"TRUNCATE {rows.partition}")
    await create(connection, rows.partition, chosen("lean")[rows.table])
    summarising = Summarising(session, 1.0)
    times: dict[bool, list[float]] = {False: [], True: []}
    for turn in range(8):
        beside = turn % 2 == 1
        stop = asyncio.Event()
        loop = asyncio.create_task(_keep(summarising, stop)) if beside else None
        for data in chunks:
            data.seek(0)
            begun = time.perf_counter()
            await connection.copy_to_table(
                rows.table, source=data, format="binary", columns=columns
            )
            times[beside].append(time.perf_counter() - begun)
        stop.set()
        if loop is not None:
            await loop
        # What the turn alone has left is not to be paid for by the next one.
        await summarising.summarise()
    await summarising.close()
    alone, beside_it = (statistics.median(times[key]) for key in (False, True))
    return {
        "alone_ms": round(1000 * alone, 1),
        "beside_summarising_ms": round(1000 * beside_it, 1),
        "ratio": round(alone / beside_it, 2),
    }


async def _keep(summarising: Summarising, stop: asyncio.Event) -> None:
    """Summarise as a server does, once a second."""
    while not stop.is_set():
        await summarising.summarise()
        with contextlib.suppress(TimeoutError):
            await asyncio.wait_for(stop.wait(), 1.0)


async def create(
    connection: Connection, table: str, indexes: Sequence[PartitionIndex], how: str = ""
) -> None:
    """Create indexes on a table; `how` may be CONCURRENTLY."""
    for index in indexes:
        await connection.execute(
            f"CREATE INDEX {how} {index.name_on(table)} ON {table} {index.definition}"
        )


async def _summarise(connection: Connection, table: str, indexes: Sequence[PartitionIndex]) -> None:
    for index in indexes:
        if "brin" in index.definition:
            await connection.execute(
                "SELECT brin_summarize_new_values($1::text::regclass)", index.name_on(table)
            )
