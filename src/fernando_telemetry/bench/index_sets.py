"""What indexes of partitions cost and what queries gain.

`fernando-telemetry bench indexes` starts its own database, fills one partition a
table with made-up rows, and measures

- `copy`: the same rows COPYed in turn into tables with no index, the lean and the full set;
- `candidates`: each index alone beside the one on time: its build, its size, its queries;
- `sets`: a partition with the lean set, then the same sealed: the build and all queries;
- `beside_summarising`: COPY into a hot partition alone, and while it is summarised.

Costs are CPU time of the database session, which other load on the machine moves little; query
times are medians of wall clock, and only good for comparison within one run. Ends with one JSON
line on stdout; the measurements go to stderr as they come.
"""

from __future__ import annotations

import asyncio
import json
import os
import statistics
import sys
import tempfile
import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

import asyncpg

from fernando_telemetry.bench.index_candidates import (
    EVENT_CANDIDATES,
    EVENT_LOOKUPS,
    SAMPLE_CANDIDATES,
    SAMPLE_LOOKUPS,
    SPAN_CANDIDATES,
    SPAN_LOOKUPS,
    Candidate,
    Lookup,
)
from fernando_telemetry.bench.index_copies import beside_summarising, copies, create
from fernando_telemetry.bench.made_up_rows import DAY, START, MadeUpRows, cpu_seconds
from fernando_telemetry.bench.tables import columns_of
from fernando_telemetry.embedded import EmbeddedPostgres
from fernando_telemetry.logs import configure_logs
from fernando_telemetry.settings import Settings
from fernando_telemetry.storage.index_sets import PartitionIndex, chosen
from fernando_telemetry.storage.migrating import migrate
from fernando_telemetry.storage.partitions import Partitions, raw_tables
from fernando_telemetry.storage.sessions import Connection, ControlPool, SessionSettings
from fernando_telemetry.storage.statements import load

sql = load("bench_lookups")

REPEATS = 5
# A query that takes this long is not asked again.
PATIENCE_SECONDS = 5.0
SESSION: Final = {
    "TimeZone": "UTC",
    "jit": "off",
    "plan_cache_mode": "force_custom_plan",
    "max_parallel_workers_per_gather": "0",
    "max_parallel_maintenance_workers": "0",
    "maintenance_work_mem": "128MB",
}


@dataclass(frozen=True, slots=True)
class Kind:
    """A table and what is asked of it; the index on time stands beside each candidate."""

    table: str
    time_index: str
    chunk: int
    candidates: tuple[Candidate, ...]
    lookups: tuple[Lookup, ...]


KINDS: Final = {
    "events": Kind(
        "telemetry_events", "(event_timestamp)", 16_384, EVENT_CANDIDATES, EVENT_LOOKUPS
    ),
    "spans": Kind("traces", "(start_time)", 16_384, SPAN_CANDIDATES, SPAN_LOOKUPS),
    "samples": Kind("metric_samples", "", 64_000, SAMPLE_CANDIDATES, SAMPLE_LOOKUPS),
}


class Lookups:
    """Measurements on one filled partition."""

    def __init__(self, connection: Connection, kind: Kind, rows: MadeUpRows, pid: int) -> None:
        self._connection = connection
        self._kind = kind
        self._rows = rows
        self._pid = pid

    async def fill(self) -> None:
        """Fill the partition."""
        columns = ", ".join(await columns_of(self._connection, self._rows.table))
        for first in range(0, self._rows.rows, 500_000):
            count = min(self._rows.rows - first, 500_000)
            await self._connection.execute(
                f"INSERT INTO {self._rows.partition} ({columns}) {self._rows.statement}",
                *self._rows.parameters(first, count),
            )
        await self._connection.execute(f"ANALYZE {self._rows.partition}")

    async def candidates(self) -> list[dict[str, Any]]:
        """Measure each index alone, beside the one on time."""
        by_name = {lookup.statement: lookup for lookup in self._kind.lookups}
        partition = self._rows.partition
        if self._kind.time_index:
            await self._connection.execute(
                f"CREATE INDEX only_time ON {partition} {self._kind.time_index}"
            )
        results = []
        for candidate in self._kind.candidates:
            result: dict[str, Any] = {"index": candidate.label}
            indexes = [PartitionIndex("candidate", candidate.definition)]
            if candidate.definition:
                result |= await self._build(indexes)
            for name in candidate.lookups:
                result |= await self._ask(by_name[name], guarded="brin" in candidate.definition)
            if candidate.definition:
                await self._drop(indexes)
            results.append(result)
            show(result)
        await self._connection.execute("DROP INDEX IF EXISTS only_time")
        return results

    async def sets(self) -> list[dict[str, Any]]:
        """Measure the partition with the lean set and sealed: the build and all queries."""
        results: list[dict[str, Any]] = []
        for name in ("lean", "full"):
            indexes = chosen(name)[self._kind.table]
            results.append({"set": name, **await self._build(indexes)})
            show(results[-1])
            for lookup in self._kind.lookups:
                asked = await self._ask(lookup, guarded=name == "lean")
                results.append({"set": name, "query": lookup.statement, **asked})
                show(results[-1])
            await self._drop(indexes)
        return results

    async def _build(self, indexes: Sequence[PartitionIndex]) -> dict[str, float]:
        """Build as sealing does; gives micro-seconds of CPU, and bytes, a row."""
        partition, rows = self._rows.partition, self._rows.rows
        begun = cpu_seconds(self._pid)
        await create(self._connection, partition, indexes, "CONCURRENTLY")
        spent = cpu_seconds(self._pid) - begun
        size = 0
        for index in indexes:
            size += await self._connection.fetchval(
                "SELECT pg_relation_size($1::text::regclass)", index.name_on(partition)
            )
        return {"build_us": round(1e6 * spent / rows, 2), "bytes_a_row": round(size / rows, 2)}

    async def _drop(self, indexes: Sequence[PartitionIndex]) -> None:
        for index in indexes:
            await self._connection.execute(f"DROP INDEX {index.name_on(self._rows.partition)}")

    async def _ask(self, lookup: Lookup, *, guarded: bool) -> dict[str, float]:
        """Time a query with each of its values: milliseconds, the planner's way and guarded."""
        times = {}
        for how_common, value in lookup.values.items():
            name = lookup.statement
            times[f"{how_common}_ms"] = await self._time(getattr(sql, name), value)
            if guarded and lookup.is_guarded and how_common != "common":
                async with self._connection.transaction():
                    await self._connection.execute("SET LOCAL enable_seqscan = off")
                    times[f"{how_common}_guarded_ms"] = await self._time(
                        getattr(sql, f"{name}_guarded"), value
                    )
        return times

    async def _time(self, text: str, value: str) -> float:
        times: list[float] = []
        while len(times) < REPEATS and sum(times) < PATIENCE_SECONDS:
            begun = time.perf_counter()
            await self._connection.fetch(text, value, START)
            times.append(time.perf_counter() - begun)
        return round(1000 * statistics.median(times), 2)


def show(result: dict[str, Any]) -> None:
    """Print a measurement for the one who waits."""
    print("  ".join(f"{name} {value}" for name, value in result.items()), file=sys.stderr)


async def measure(names: Sequence[str], rows: int, folder: Path) -> dict[str, Any]:
    """Measure the kinds on a database of its own."""
    settings = Settings(data_dir=folder, pg_shared_buffers_mib=1024)
    result: dict[str, Any] = {"rows": rows, "load": list(os.getloadavg())}
    async with EmbeddedPostgres(settings) as postgres:
        session = SessionSettings.of(settings, postgres.dsn, "bench")
        await migrate(session, allowed=True)
        pool = ControlPool(session, 1)
        nothing = Partitions(pool, raw_tables(indexes=chosen("none")))
        await nothing.ensure({KINDS[name].table: [DAY] for name in names})
        await pool.close()
        connection = await asyncpg.connect(postgres.dsn, server_settings=SESSION)
        pid = await connection.fetchval("SELECT pg_backend_pid()")
        for name in names:
            kind = KINDS[name]
            made_up = MadeUpRows(name, kind.table, kind.chunk, rows)
            found: dict[str, Any] = {"copy": await copies(connection, made_up, session)}
            show(found["copy"])
            lookups = Lookups(connection, kind, made_up, pid)
            await lookups.fill()
            found["candidates"] = await lookups.candidates()
            found["sets"] = await lookups.sets()
            found["beside_summarising"] = await beside_summarising(connection, made_up, session)
            show(found["beside_summarising"])
            result[name] = found
        await connection.close()
    result["load_after"] = list(os.getloadavg())
    return result


def run(kinds: Sequence[str], rows: int) -> None:
    """Measure in a folder of its own, and print the JSON line."""
    configure_logs("warning", "json")
    with tempfile.TemporaryDirectory(prefix="fernando-bench-") as folder:
        print(json.dumps(asyncio.run(measure(kinds, rows, Path(folder)))))
