"""Works out which service calls which in a day, as the leader does, and times it."""

from __future__ import annotations

import asyncio
import time
from datetime import UTC, datetime
from typing import Final

from fernando_telemetry.bench.failure import BenchFailed
from fernando_telemetry.bench.figures import Figures
from fernando_telemetry.bench.query_rows import Stretch
from fernando_telemetry.bench.server import Connection, Server
from fernando_telemetry.domain.edge_chunks import CHUNK
from fernando_telemetry.domain.retention import KindRetention
from fernando_telemetry.settings import Settings
from fernando_telemetry.storage.rollup import RollupTerms
from fernando_telemetry.storage.service_edges import ServiceEdges
from fernando_telemetry.storage.sessions import SessionSettings
from fernando_telemetry.storage.statements import load

graphs = load("service_graph")

PATIENCE_SECONDS: Final = 3600.0
# Between looks at what the server's own duty is at.
POLL_SECONDS: Final = 0.1


async def work_out_calls(server: Server, connection: Connection, stretch: Stretch) -> Figures:
    """Work out the calls of a day and of those behind it, without pauses, beside the server's duty.

    Returns:
        `worked_out_seconds`: how long it took; next to nothing where it was done before.

    Raises:
        BenchFailed: It takes too long.
    """
    settings = Settings()
    timeout = settings.service_edges_timeout_seconds
    edges = ServiceEdges(
        SessionSettings.of(settings, server.dsn, "bench", timeout),
        RollupTerms(settings.rollup_minutely_days, settings.rollup_hourly_days),
        lambda: KindRetention(settings.retention_traces_days),
    )
    wanted = (stretch.end - stretch.day) // CHUNK
    begun = time.monotonic()
    while len(await connection.fetch(graphs.computed_chunks, stretch.day, stretch.end)) < wanted:
        if time.monotonic() - begun > PATIENCE_SECONDS:
            raise BenchFailed("The calls between services were not worked out.")
        await edges.run(datetime.now(UTC), pauses=False)
        await asyncio.sleep(POLL_SECONDS)
    return {"worked_out_seconds": round(time.monotonic() - begun, 1)}
