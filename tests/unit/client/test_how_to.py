"""The program of the how-to runs as printed, apart from the address."""

from __future__ import annotations

import asyncio
import sys
from pathlib import Path

from tests.unit.client.scripted_server import ScriptedServer

HOW_TO = Path(__file__).parents[3] / "docs" / "how-to" / "send-telemetry-from-python.md"


async def test_first_program_of_the_how_to_runs(server: ScriptedServer) -> None:
    program = HOW_TO.read_text().split("```python\n")[1].split("```")[0]
    assert "127.0.0.1:4317" in program
    process = await asyncio.create_subprocess_exec(
        sys.executable, "-W", "error", "-c", program.replace("127.0.0.1:4317", server.target)
    )
    assert await process.wait() == 0
    stored = server.ingest.stored("shop/worker-1")
    assert stored.event_names == ["checkout"]
    assert [batch.record_count for batch in stored.batches.values()] == [3]
    assert stored.batches[1].business_metrics[0].metric_value == "1234.50"
