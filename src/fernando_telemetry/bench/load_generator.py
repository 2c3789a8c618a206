"""The load generator: a process of its own, driven by JSON lines.

The first line on stdin is a LoadPlan. When all batches are made and all streams are open it
prints `{"batch_bytes": …}`, their mean size. Each further line `{"seconds": S, "rate": R}` is a
slice: all streams send for S seconds, R records a second unless it is null, and when the last ack
has come the slice's figures are printed. It ends with its stdin.
"""

from __future__ import annotations

import asyncio
import json
import sys
import time
from dataclasses import dataclass
from typing import Any

from fernando_telemetry.bench.child import listen, run_child, say
from fernando_telemetry.bench.load_stream import LoadStream
from fernando_telemetry.bench.records import POOL_BYTES, Batch, make_batches


@dataclass(frozen=True, slots=True)
class LoadPlan:
    """What to send.

    Attributes:
        address: host:port of the server.
        name: Begins the producers' names.
        kind: One of `records.KINDS`.
        streams: How many at once, each on a connection of its own.
        batch_records: Records of a batch.
        first_micros: Time of the first record; None: the server's receive time counts.
        pool_bytes: About how many bytes of different batches to make.
        groups: Of events and spans: into how many groups of a roll-up they fall; 0: nearly
            each into its own.
    """

    address: str
    name: str
    kind: str
    streams: int
    batch_records: int
    first_micros: int | None
    pool_bytes: int = POOL_BYTES
    groups: int = 0


async def generate(plan: LoadPlan) -> None:
    """Run a generator to the end of stdin.

    Raises:
        BenchFailed: The server did not take the load as it should.
    """
    batches = make_batches(
        plan.kind, plan.batch_records, plan.first_micros, plan.pool_bytes, plan.groups
    )
    streams = [
        LoadStream(f"{plan.name}-{number}", batches, number * len(batches) // plan.streams)
        for number in range(plan.streams)
    ]
    try:
        for stream in streams:
            await stream.open(plan.address)
        say({"batch_bytes": _mean_bytes(batches)})
        while wanted := await listen():
            say(await _slice(streams, float(wanted["seconds"]), wanted.get("rate")))
    finally:
        for stream in streams:
            await stream.close()


async def _slice(streams: list[LoadStream], seconds: float, rate: float | None) -> dict[str, Any]:
    before = sum(stream.accepted for stream in streams)
    for stream in streams:
        stream.forget_times()
    begun, used = time.monotonic(), time.process_time()
    of_each = rate / len(streams) if rate else None
    await asyncio.gather(*(stream.run(begun + seconds, of_each) for stream in streams))
    took = time.monotonic() - begun
    return {
        "records": sum(stream.accepted for stream in streams) - before,
        "seconds": took,
        "cpu_seconds": time.process_time() - used,
        "longest_gap_ms": max(stream.longest_gap_ms for stream in streams),
        "latencies_ms": [round(ms, 3) for stream in streams for ms in stream.latencies_ms],
    }


def _mean_bytes(batches: list[Batch]) -> int:
    return sum(len(batch.records) for batch in batches) // len(batches)


def main() -> int:
    """Read the plan and run."""
    plan = LoadPlan(**json.loads(sys.stdin.readline()))
    return run_child(generate(plan))


if __name__ == "__main__":
    sys.exit(main())
