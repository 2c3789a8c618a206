"""What indexes of partitions cost and what queries gain.

`python -m fernando_telemetry.bench.index_sets` starts its own database, fills one partition a
table with made-up rows, and measures

- `copy`: the same rows COPYed in turn into tables with no index, the lean and the full set;
- `candidates`: each index alone beside the one on time: its build, its size, its queries;
- `sets`: a partition with the lean set, then the same sealed: the build and all queries.

Costs are CPU time of the database session, which other load on the machine moves little; query
times are medians of wall clock, and only good for comparison within one run. Ends with one JSON
line on stdout; the tables go to stderr.
"""

from __future__ import annotations

import argparse
import asyncio
import io
import json
import os
import statistics
import sys
import tempfile
import time
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

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
from fernando_telemetry.embedded import EmbeddedPostgres
from fernando_telemetry.settings import Settings
from fernando_telemetry.storage.index_sets import PartitionIndex, chosen
from fernando_telemetry.storage.migrating import migrate
from fernando_telemetry.storage.partitions import Partitions, raw_tables
from fernando_telemetry.storage.sessions import Connection, ControlPool, SessionSettings
from fernando_telemetry.storage.statements import load

rows_sql = load("bench_rows")
lookups_sql = load("bench_lookups")

DAY = datetime(2026, 1, 5, tzinfo=UTC)
# Rows come up to two seconds late.
START = DAY + timedelta(hours=1)
REPEATS = 5


@dataclass(frozen=True, slots=True)
class Kind:
    """A table, its made-up rows and what is asked of it."""

    name: str
    table: str
    time_index: str
    chunk: int
    candidates: tuple[Candidate, ...]
    lookups: tuple[Lookup, ...]


KINDS = {
    "events": Kind(
        "events",
        "telemetry_events",
        "(event_timestamp)",
        16_384,
        EVENT_CANDIDATES,
        EVENT_LOOKUPS,
    ),
    "spans": Kind("spans", "traces", "(start_time)", 16_384, SPAN_CANDIDATES, SPAN_LOOKUPS),
    "samples": Kind("samples", "metric_samples", "", 64_000, SAMPLE_CANDIDATES, SAMPLE_LOOKUPS),
}


def cpu_seconds(pid: int) -> float:
    """Give the CPU time a local process has used."""
    fields = Path(f"/proc/{pid}/stat").read_text().rsplit(")", 1)[1].split()
    return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")


class Bench:
    """One kind's measurements on one session."""

    def __init__(self, connection: Connection, kind: Kind, rows: int, dsn: str) -> None:
        self._connection = connection
        self._kind = kind
        self._rows = rows
        self._dsn = dsn
        self._pid = 0
        self._partition = f"{kind.table}_p{DAY:%Y%m%d}"
        # All rows, whole chunks of them, lie in one day.
        self._step_seconds = 80_000 / (-(-rows // kind.chunk) * kind.chunk)

    async def open(self) -> None:
        """Learn the session's process."""
        self._pid = await self._connection.fetchval("SELECT pg_backend_pid()")

    async def copy(self) -> dict[str, Any]:
        """COPY the same rows into each set, in turns; micro-seconds of CPU a row."""
        table, names = self._kind.table, ("none", "lean", "full")
        sets = {name: chosen(name)[table] for name in names}
        for name, indexes in sets.items():
            await self._connection.execute(
                f"CREATE TABLE set_{name} (LIKE {table} INCLUDING DEFAULTS INCLUDING GENERATED "
                "INCLUDING STORAGE) WITH (autovacuum_enabled = off)"
            )
            for index in indexes:
                await self._connection.execute(
                    f"CREATE INDEX {index.name_on('set_' + name)} ON set_{name} {index.definition}"
                )
        columns = await self._columns()
        spent = dict.fromkeys(names, 0.0)
        summarised = dict.fromkeys(names, 0.0)
        source = await asyncpg.connect(self._dsn)
        rows = min(self._rows, 60 * self._kind.chunk)
        for turn, first in enumerate(range(0, rows, self._kind.chunk)):
            data = io.BytesIO()
            await source.copy_from_query(
                getattr(rows_sql, self._kind.name).rstrip().rstrip(";"),
                *(first, first + self._kind.chunk - 1, START, self._step_seconds),
                output=data,
                format="binary",
            )
            for name in names[turn % 3 :] + names[: turn % 3]:
                data.seek(0)
                begun = cpu_seconds(self._pid)
                await self._connection.copy_to_table(
                    f"set_{name}", source=data, format="binary", columns=columns
                )
                spent[name] += cpu_seconds(self._pid) - begun
            if turn % 10 == 9:
                for name, indexes in sets.items():
                    summarised[name] += await self._summarise(f"set_{name}", indexes)
        await source.close()
        result = {
            name: {
                "copy_us": round(1e6 * spent[name] / rows, 2),
                "summarise_us": round(1e6 * summarised[name] / rows, 2),
                "index_bytes_a_row": round(await self._index_bytes(f"set_{name}") / rows, 1),
            }
            for name in names
        }
        for name in names:
            await self._connection.execute(f"DROP TABLE set_{name}")
        return result

    async def fill(self) -> None:
        """Fill the partition."""
        columns = ", ".join(await self._columns())
        for first in range(0, self._rows, 500_000):
            await self._connection.execute(
                f"INSERT INTO {self._partition} ({columns}) {getattr(rows_sql, self._kind.name)}",
                *(first, min(self._rows, first + 500_000) - 1, START, self._step_seconds),
            )
        await self._connection.execute(f"ANALYZE {self._partition}")

    async def candidates(self) -> list[dict[str, Any]]:
        """Measure each index alone, beside the one on time."""
        by_name = {lookup.statement: lookup for lookup in self._kind.lookups}
        if self._kind.time_index:
            await self._connection.execute(
                f"CREATE INDEX only_time ON {self._partition} {self._kind.time_index}"
            )
        results = []
        for candidate in self._kind.candidates:
            result: dict[str, Any] = {"index": candidate.label}
            if candidate.definition:
                result["build_us"] = await self._build(
                    [PartitionIndex("candidate", candidate.definition)]
                )
                size = await self._size(f"{self._partition}_candidate")
                result["bytes_a_row"] = round(size / self._rows, 2)
            for name in candidate.lookups:
                result |= await self._ask(by_name[name], guarded="brin" in candidate.definition)
            if candidate.definition:
                await self._connection.execute(f"DROP INDEX {self._partition}_candidate")
            results.append(result)
            show(result)
        await self._connection.execute("DROP INDEX IF EXISTS only_time")
        return results

    async def sets(self) -> list[dict[str, Any]]:
        """Measure the partition with the lean set and sealed: the build and all queries."""
        results = []
        for name in ("lean", "full"):
            indexes = chosen(name)[self._kind.table]
            build = await self._build(indexes)
            size = await self._index_bytes(self._partition)
            for lookup in self._kind.lookups:
                result: dict[str, Any] = {"set": name, "query": lookup.statement}
                result |= await self._ask(lookup, guarded=name == "lean")
                results.append(result)
                show(result)
            results.append(
                {"set": name, "build_us": build, "bytes_a_row": round(size / self._rows, 1)}
            )
            show(results[-1])
            for index in indexes:
                await self._connection.execute(f"DROP INDEX {index.name_on(self._partition)}")
        return results

    async def _columns(self) -> list[str]:
        rows = await self._connection.fetch(
            "SELECT attname::text FROM pg_attribute WHERE attrelid = $1::text::regclass "
            "AND attnum > 0 AND attgenerated = '' ORDER BY attnum",
            self._kind.table,
        )
        return [row["attname"] for row in rows]

    async def _build(self, indexes: Sequence[PartitionIndex]) -> float:
        """Build as sealing does; gives micro-seconds of CPU a row."""
        begun = cpu_seconds(self._pid)
        for index in indexes:
            await self._connection.execute(
                f"CREATE INDEX CONCURRENTLY {index.name_on(self._partition)} "
                f"ON {self._partition} {index.definition}"
            )
        return round(1e6 * (cpu_seconds(self._pid) - begun) / self._rows, 2)

    async def _summarise(self, table: str, indexes: Sequence[PartitionIndex]) -> float:
        begun = cpu_seconds(self._pid)
        for index in indexes:
            if "brin" in index.definition:
                await self._connection.execute(
                    "SELECT brin_summarize_new_values($1::text::regclass)", index.name_on(table)
                )
        return cpu_seconds(self._pid) - begun

    async def _ask(self, lookup: Lookup, *, guarded: bool) -> dict[str, float]:
        """Time a query with each of its values: milliseconds, the planner's way and guarded."""
        times = {}
        for how_common, value in lookup.values.items():
            name = lookup.statement
            times[f"{how_common}_ms"] = await self._time(getattr(lookups_sql, name), value)
            if guarded and lookup.is_guarded and how_common != "common":
                async with self._connection.transaction():
                    await self._connection.execute("SET LOCAL enable_seqscan = off")
                    times[f"{how_common}_guarded_ms"] = await self._time(
                        getattr(lookups_sql, f"{name}_guarded"), value
                    )
        return times

    async def _time(self, text: str, value: str) -> float:
        times = []
        for _ in range(REPEATS):
            begun = time.perf_counter()
            await self._connection.fetch(text, value, START)
            times.append(time.perf_counter() - begun)
            if sum(times) > 5:
                break
        return round(1000 * statistics.median(times), 2)

    async def _index_bytes(self, table: str) -> int:
        size: int = await self._connection.fetchval(
            "SELECT pg_indexes_size($1::text::regclass)", table
        )
        return size

    async def _size(self, relation: str) -> int:
        size: int = await self._connection.fetchval(
            "SELECT pg_relation_size($1::text::regclass)", relation
        )
        return size


def show(result: dict[str, Any]) -> None:
    """Print a measurement for the one who waits."""
    print("  ".join(f"{name} {value}" for name, value in result.items()), file=sys.stderr)


async def measure(kinds: Sequence[str], rows: int, folder: Path) -> dict[str, Any]:
    """Measure the kinds on a database of its own."""
    settings = Settings(data_dir=folder, pg_shared_buffers_mib=1024)
    result: dict[str, Any] = {"rows": rows, "load": list(os.getloadavg())}
    async with EmbeddedPostgres(settings) as postgres:
        session = SessionSettings.of(settings, postgres.dsn, "bench")
        await migrate(session, allowed=True)
        pool = ControlPool(session, 1)
        nothing = Partitions(pool, raw_tables(indexes=chosen("none")))
        await nothing.ensure({KINDS[kind].table: [DAY] for kind in kinds})
        await pool.close()
        connection = await asyncpg.connect(
            postgres.dsn,
            server_settings={
                "TimeZone": "UTC",
                "jit": "off",
                "plan_cache_mode": "force_custom_plan",
                "max_parallel_workers_per_gather": "0",
                "max_parallel_maintenance_workers": "0",
                "maintenance_work_mem": "128MB",
            },
        )
        for kind in kinds:
            bench = Bench(connection, KINDS[kind], rows, postgres.dsn)
            await bench.open()
            found: dict[str, Any] = {"copy": await bench.copy()}
            show(found["copy"])
            await bench.fill()
            found["candidates"] = await bench.candidates()
            found["sets"] = await bench.sets()
            result[kind] = found
        await connection.close()
    result["load_after"] = list(os.getloadavg())
    return result


def main() -> None:
    """Read the arguments, measure, print."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").split("\n", 1)[0])
    parser.add_argument("--rows", type=int, default=2_000_000, help="rows of each partition")
    parser.add_argument("--kinds", nargs="+", choices=list(KINDS), default=list(KINDS))
    arguments = parser.parse_args()
    with tempfile.TemporaryDirectory(prefix="fernando-bench-") as folder:
        Path(folder).chmod(0o711)
        print(json.dumps(asyncio.run(measure(arguments.kinds, arguments.rows, Path(folder)))))


if __name__ == "__main__":
    main()
