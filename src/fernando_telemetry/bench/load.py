"""The benchmark's side of a load generator."""

from __future__ import annotations

import asyncio
import contextlib
import json
import sys
from collections.abc import AsyncIterator
from dataclasses import dataclass
from typing import Any, Final

from fernando_telemetry.bench.failure import BenchFailed
from fernando_telemetry.bench.load_generator import LoadPlan

# Beyond a slice's seconds: 16 batches of each stream are still to be acknowledged.
PATIENCE_SECONDS: Final = 120.0
_LINE_BYTES: Final = 64 * 1024 * 1024


@dataclass(frozen=True, slots=True)
class LoadSlice:
    """What a slice of load came to.

    Attributes:
        records: Acknowledged records.
        seconds: From the first byte sent to the last ack.
        latencies_ms: Of each ack, from the write of its batch on.
    """

    records: int
    seconds: float
    latencies_ms: list[float]

    @property
    def rate(self) -> float:
        """Acknowledged records a second."""
        return self.records / self.seconds


class Load:
    """A running generator; one slice at a time."""

    def __init__(self, process: asyncio.subprocess.Process) -> None:
        self._process = process
        self.batch_bytes = 0

    async def start(self, plan: LoadPlan) -> None:
        """Give the plan, and wait until all batches are made and all streams are open."""
        await self._write(plan.as_json())
        self.batch_bytes = int((await self._answer(PATIENCE_SECONDS))["batch_bytes"])

    async def run(self, seconds: float) -> LoadSlice:
        """Send for some seconds and wait for all acks.

        Raises:
            BenchFailed: The server did not take the load as it should.
        """
        await self._write(json.dumps({"seconds": seconds}))
        fields = await self._answer(seconds + PATIENCE_SECONDS)
        return LoadSlice(fields["records"], fields["seconds"], fields["latencies_ms"])

    async def _write(self, line: str) -> None:
        assert self._process.stdin is not None
        self._process.stdin.write(line.encode() + b"\n")
        await self._process.stdin.drain()

    async def _answer(self, patience_seconds: float) -> dict[str, Any]:
        assert self._process.stdout is not None
        try:
            async with asyncio.timeout(patience_seconds):
                line = await self._process.stdout.readline()
        except TimeoutError:
            raise BenchFailed("The load generator does not answer.") from None
        fields: dict[str, Any] = json.loads(line) if line else {"failed": "It ended."}
        if "failed" in fields:
            raise BenchFailed(f"The load generator failed: {fields['failed']}")
        return fields


@contextlib.asynccontextmanager
async def generating(plan: LoadPlan) -> AsyncIterator[Load]:
    """Run a generator; it is ready when this is entered and ended when it is left."""
    process = await asyncio.create_subprocess_exec(
        *(sys.executable, "-m", "fernando_telemetry.bench.load_generator"),
        stdin=asyncio.subprocess.PIPE,
        stdout=asyncio.subprocess.PIPE,
        limit=_LINE_BYTES,
    )
    try:
        load = Load(process)
        await load.start(plan)
        yield load
    finally:
        if process.returncode is None:
            process.kill()
        await process.wait()
