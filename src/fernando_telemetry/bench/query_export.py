"""How fast events leave as Parquet, over how fast PostgreSQL gives them away by COPY."""

from __future__ import annotations

import asyncio
import json
import sys
import tempfile
import time
from pathlib import Path
from typing import Final

from fernando_telemetry.bench.cpu import CpuTimes
from fernando_telemetry.bench.failure import BenchFailed
from fernando_telemetry.bench.figures import Figures, Report, median, quotient
from fernando_telemetry.bench.query_rows import Stretch
from fernando_telemetry.bench.server import Connection, Server
from fernando_telemetry.storage.statements import load

sql = load("bench")

KEY: Final = "parquet_export_over_copy"
TARGET: Final = 0.4
ROUNDS: Final = 3


async def measure_export(
    server: Server, connection: Connection, day: Stretch, report: Report
) -> Figures:
    """Export a day's events by the command line, in turns with a binary COPY of the same rows.

    Raises:
        BenchFailed: They are not as many.
    """
    exports: list[float] = []
    copies: list[float] = []
    micros: list[dict[str, float]] = []
    size = 0
    # The first round warms caches.
    for turn in range(-1, ROUNDS):
        begun = time.monotonic()
        await connection.copy_from_query(
            sql.events_of_range, day.day, day.end, output=_drop, format="binary"
        )
        copied = time.monotonic() - begun
        with tempfile.TemporaryDirectory() as folder:
            begun, cpu = time.monotonic(), CpuTimes(server.pid)
            size = await _exported(server, day, Path(folder))
            exported = time.monotonic() - begun
        if turn >= 0:
            exports.append(day.count / exported)
            copies.append(day.count / copied)
            micros.append({part: 1e6 * s / day.count for part, s in cpu.seconds().items()})
    ratio = quotient(median(exports), median(copies))
    found: Figures = {
        "target": TARGET,
        "is_met": ratio >= TARGET,
        "rows": day.count,
        "rows_per_second": round(median(exports)),
        "copy_rows_per_second": round(median(copies)),
        "ratio": ratio,
        "parquet_bytes": size,
        # Of the processor: what a ratio of times does not tell where other work shares it.
        "cpu_us_per_row": {
            part: round(median([one[part] for one in micros]), 2) for part in micros[0]
        },
    }
    report(
        f"{KEY}: {found['rows_per_second']:,} rows/s, COPY {found['copy_rows_per_second']:,}: "
        f"{ratio}; target {TARGET}{'' if found['is_met'] else ', not met'}"
    )
    return found


async def _drop(_: bytes) -> None:
    """Take what COPY gives, and do nothing with it."""


async def _exported(server: Server, day: Stretch, folder: Path) -> int:
    """Export a day; gives the bytes of its files."""
    process = await asyncio.create_subprocess_exec(
        *(sys.executable, "-m", "fernando_telemetry", "export", "events", "--json"),
        *("--out", str(folder), "--target", server.address),
        *("--start", day.day.isoformat(), "--end", day.end.isoformat()),
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.PIPE,
    )
    out, err = await process.communicate()
    if process.returncode:
        raise BenchFailed(f"The export failed: {err.decode().strip()}")
    manifest = json.loads(out)
    if manifest["row_count"] != day.count:
        raise BenchFailed(f"{manifest['row_count']} of {day.count} events were exported.")
    return sum(entry["size_bytes"] for entry in manifest["files"])
