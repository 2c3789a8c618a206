"""Memory: the server's at full rate, and with many clients stalled because PostgreSQL hangs.

The latter is the worst there is: PostgreSQL's processes are stopped (SIGSTOP), every client sends
batches as large as it was granted until the server reads no more, and the server holds what it
took.
"""

from __future__ import annotations

import asyncio
import contextlib
import os
import signal
from collections.abc import Iterator
from typing import Final

from fernando_telemetry.bench.child import child
from fernando_telemetry.bench.figures import Figures, Report
from fernando_telemetry.bench.load import generating
from fernando_telemetry.bench.memory import MemoryWatch, postgres_pids
from fernando_telemetry.bench.stand import IngestOptions, Stand, standing

OPEN_SECONDS: Final = 120.0


async def measure_memory(options: IngestOptions, report: Report) -> Figures:
    """Weigh the server under load, then with stalled clients.

    Raises:
        BenchFailed: Something was not stored as acknowledged.
    """
    async with standing(options, report) as stand:
        watch = MemoryWatch(stand.server.pid)
        at_rest = watch.look()
        plan = stand.plan("bench", options.streams, options.batch_records)
        async with generating(plan) as load, watch:
            part = await load.run(options.seconds)
        report(f"{watch.highest_mb} MB at {part.rate:,.0f} rows/s")
        rows = await stand.require_rows(load.acknowledged)
        granted, stalled = await _stalled(stand, options.stalled_clients, options.seconds)
        report(f"{stalled.highest_mb} MB with {options.stalled_clients} stalled clients")
        return {
            "figure": "memory",
            "records": options.kind,
            "streams": options.streams,
            "seconds": options.seconds,
            "rows_per_second": round(part.rate),
            "server_rss_at_rest_mb": round(at_rest / 1e6, 1),
            "server_rss_mb": watch.highest_mb,
            "stalled_clients": options.stalled_clients,
            "stalled_granted_mb": round(granted / 1e6, 1),
            "server_rss_stalled_mb": stalled.highest_mb,
            "rows_acknowledged": load.acknowledged,
            "rows_stored": rows,
            **stand.surroundings(),
        }


async def _stalled(stand: Stand, clients: int, seconds: float) -> tuple[int, MemoryWatch]:
    """Let clients fill a server whose database hangs.

    Returns:
        Bytes that the clients were granted, and the watch that was kept.
    """
    watch = MemoryWatch(stand.server.pid)
    async with child("stalled clients", "stalled_clients") as stalling:
        await stalling.say({"address": stand.server.address, "clients": clients})
        granted = int((await stalling.answer(OPEN_SECONDS))["granted_bytes"])
        async with watch:
            with _stopped(postgres_pids(stand.server.pid)):
                await stalling.say({})
                await asyncio.sleep(seconds)
    return granted, watch


@contextlib.contextmanager
def _stopped(pids: list[int]) -> Iterator[None]:
    """Keep processes stopped."""
    try:
        _send(pids, signal.SIGSTOP)
        yield
    finally:
        _send(pids, signal.SIGCONT)


def _send(pids: list[int], number: signal.Signals) -> None:
    for pid in pids:
        with contextlib.suppress(ProcessLookupError):
            os.kill(pid, number)
