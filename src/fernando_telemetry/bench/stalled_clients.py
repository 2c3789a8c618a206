"""Clients that send all they may and wait for no ack: a process of its own.

The first line on stdin has `address` and `clients`. When all streams are open it prints what they
were granted; at the next line all of them send batches as large as their grant, for as long as
HTTP/2 takes them. It is ended by a signal.
"""

from __future__ import annotations

import asyncio
import contextlib
import sys
from typing import Any, Final

from grpc import aio

from fernando_telemetry.bench.child import listen, run_child, say
from fernando_telemetry.bench.load_stream import greeted, head_of, numbered, own_channel
from fernando_telemetry.bench.records import make_batches

# Field 15 of TelemetryRecords, serialised last.
_RECORD_COUNT_ONE: Final = b"\x78\x01"


def batch_of(max_bytes: int) -> bytes:
    """Give the bytes of a TelemetryRecords of at most this size, as full as it gets."""
    (one,) = make_batches("events", 1, None, pool_bytes=0)
    # A record_count would be that of the last repetition.
    event = one.records.removesuffix(_RECORD_COUNT_ONE)
    return event * (max_bytes // len(event))


async def run() -> None:
    """Open the streams, then fill them.

    Raises:
        BenchFailed: The server does not welcome one.
    """
    plan = await listen()
    assert plan is not None, "no plan"
    async with contextlib.AsyncExitStack() as opened:
        calls: list[tuple[Any, int]] = []
        for number in range(int(plan["clients"])):
            channel = await opened.enter_async_context(own_channel(plan["address"]))
            call, welcome = await greeted(channel, f"stalled-{number}")
            calls.append((call, welcome.limits.max_batch_bytes))
        contents = {granted: batch_of(granted) for _, granted in calls}
        say({"granted_bytes": sum(granted for _, granted in calls)})
        if await listen() is not None:
            await asyncio.gather(*(_fill(call, contents[granted]) for call, granted in calls))


async def _fill(call: Any, records: bytes) -> None:
    head = head_of(records)
    sequence = 0
    with contextlib.suppress(aio.AioRpcError, asyncio.InvalidStateError):
        while True:
            sequence += 1
            await call.write(numbered(sequence, records, head))


def main() -> int:
    """Run until a signal."""
    return run_child(run())


if __name__ == "__main__":
    sys.exit(main())
