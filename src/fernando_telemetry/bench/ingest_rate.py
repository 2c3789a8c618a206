"""The rate: acknowledged records a second, and a raw COPY of the same rows, in turns."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any, Final

from fernando_telemetry.bench.failure import BenchFailed
from fernando_telemetry.bench.figures import Figures, load_average, median, percentile
from fernando_telemetry.bench.load import LoadSlice, generating
from fernando_telemetry.bench.load_generator import LoadPlan
from fernando_telemetry.bench.memory import MemoryWatch
from fernando_telemetry.bench.raw_copy import TABLES, TRANSACTION_ROWS, CopySlice, RawCopy
from fernando_telemetry.bench.records import base_micros, default_batch_records
from fernando_telemetry.bench.server import Connection, serving
from fernando_telemetry.storage.statements import load

sql = load("bench")

ROUNDS: Final = 5
# Until then the server has met every series, and there are rows for the baseline.
WARM_UP_SECONDS: Final = 1.0
Report = Callable[[str], None]


@dataclass(frozen=True, slots=True)
class RateOptions:
    """What to measure.

    Attributes:
        kind: One of `records.KINDS`.
        seconds: Of load, and as many of COPY, cut into rounds.
        streams: Open at once.
        batch_records: Records of a batch; None: about 1 MB.
        rounds: A round is a slice of COPY and a slice of load.
    """

    kind: str = "events"
    seconds: float = 15.0
    streams: int = 1
    batch_records: int | None = None
    rounds: int = ROUNDS

    @property
    def records_of_a_batch(self) -> int:
        """Records of a batch, the default filled in."""
        return self.batch_records or default_batch_records(self.kind)


async def measure_rate(options: RateOptions, report: Report) -> Figures:
    """Measure service and COPY in turns.

    Args:
        options: What to measure.
        report: Takes lines about the progress.

    Raises:
        BenchFailed: Something was not stored as acknowledged.
    """
    batch_records = options.records_of_a_batch
    async with serving() as server:
        report(f"server {server.address}, data in {server.data_dir}")
        plan = LoadPlan(
            server.address,
            "bench",
            options.kind,
            options.streams,
            batch_records,
            base_micros(datetime.now(UTC)),
        )
        connection = await server.connect()
        async with generating(plan) as load, MemoryWatch(server.pid) as memory:
            report(f"batches of {batch_records} records, {load.batch_bytes} bytes")
            acknowledged = 0
            while acknowledged < TRANSACTION_ROWS[options.kind]:
                acknowledged += (await load.run(min(WARM_UP_SECONDS, options.seconds))).records
            copy = await RawCopy.of_stored(connection, options.kind)
            await copy.run(0)
            copies: list[CopySlice] = []
            loads: list[LoadSlice] = []
            for _ in range(options.rounds):
                await connection.execute(sql.checkpoint)
                copies.append(await copy.run(options.seconds / options.rounds))
                await connection.execute(sql.checkpoint)
                loads.append(await load.run(options.seconds / options.rounds))
                report(f"COPY {copies[-1].rate:,.0f}, service {loads[-1].rate:,.0f} rows/s")
            acknowledged += sum(part.records for part in loads)
        stored = await count_rows(connection, TABLES[options.kind])
        await connection.close()
        if stored != acknowledged + copy.rows:
            raise BenchFailed(
                f"{acknowledged} records were acknowledged and {copy.rows} copied, "
                f"but {stored} rows are stored."
            )
        latencies = [ms for part in loads for ms in part.latencies_ms]
        rate = median([part.rate for part in loads])
        copy_rate = median([part.rate for part in copies])
        return {
            "figure": "rate",
            "records": options.kind,
            "streams": options.streams,
            "batch_records": batch_records,
            "batch_bytes": load.batch_bytes,
            "seconds": options.seconds,
            "rows_per_second": round(rate),
            "copy_rows_per_second": round(copy_rate),
            "ratio": round(rate / copy_rate, 3),
            "ratios": [
                round(part.rate / other.rate, 3) for part, other in zip(loads, copies, strict=True)
            ],
            "p50_ms": round(percentile(latencies, 50), 2),
            "p99_ms": round(percentile(latencies, 99), 2),
            "server_rss_mb": memory.highest_mb,
            "rows_acknowledged": acknowledged,
            "rows_copied": copy.rows,
            "rows_stored": stored,
            "load_average": load_average(),
            "settings": server.given_settings,
        }


async def count_rows(connection: Connection, table: str) -> int:
    """Count a table's rows."""
    count: Any = await connection.fetchval(
        f"SELECT count(*) FROM {table}"  # noqa: S608 - a name of ours
    )
    return int(count)
