"""200 streams that send all they may to a server whose database hangs: memory stays bounded."""

from __future__ import annotations

import asyncio
import time
from collections import Counter
from pathlib import Path

import pytest

from tests.conftest import share
from tests.faults.left_behind import stand_still
from tests.faults.server_process import ServerProcess, serve, until
from tests.integration.embedded.processes import living_postgres
from tests.load.full_streams import FullStream, records_of

pytestmark = [
    pytest.mark.load,
    pytest.mark.timeout(300),
    pytest.mark.skipif(
        not Path("/proc/self/smaps_rollup").exists(), reason="needs /proc/self/smaps_rollup"
    ),
]
MIB = 1024 * 1024
# Streams, and the most that the server may take with them. Of it 84 MiB are the program at rest,
# 64 admitted batches, and 59 and 150 what these many streams are granted (test below).
SMALL = (20, 320 * MIB)
WHOLE = (200, 400 * MIB)
# What allocator and interpreter may keep when all streams have ended.
KEPT_BYTES = 120 * MIB
SLACK_SECONDS = 20.0
# That it is given back is what counts, on a busy machine too: some 3 s on an idle one.
GIVEN_BACK_SECONDS = 30.0


def _stop_database(data_dir: Path, stopped: list[int]) -> None:
    # The postmaster first: it would start no process that is missed then.
    postmaster = int((data_dir / "pgdata" / "postmaster.pid").read_text().split()[0])
    stand_still([postmaster], stopped)
    stand_still(living_postgres(data_dir), stopped)


async def _highest_memory(server: ServerProcess, highest: list[int]) -> None:
    while True:
        highest[0] = max(highest[0], server.memory_bytes())
        await asyncio.sleep(0.05)


async def test_memory_is_bounded_while_the_database_hangs(
    tmp_path: Path, stopped: list[int], request: pytest.FixtureRequest
) -> None:
    # Long enough for the buffers to become full on a busy machine as well.
    wait_seconds = share(request, "load", 15, 30)
    data_dir = tmp_path / "data"
    count, bound_bytes = (SMALL, WHOLE)[share(request, "load", 0, 1)]
    streams = [FullStream(f"full-{number}") for number in range(count)]
    async with serve(
        data_dir,
        tmp_path / "log",
        pg_shared_buffers_mib=16,
        database_wait_seconds=wait_seconds,
    ) as server:
        at_rest = server.memory_bytes()
        for stream in streams:
            await stream.open(server.address)
        grants = [stream.max_batch_bytes for stream in streams]
        _assert_grants(grants)
        opened = server.memory_bytes()
        contents = {size: records_of(size) for size in set(grants)}
        _stop_database(data_dir, stopped)
        begun = time.monotonic()
        highest = [0]
        watching = asyncio.create_task(_highest_memory(server, highest))
        try:
            async with asyncio.timeout(wait_seconds + SLACK_SECONDS + 10):
                await asyncio.gather(
                    *(stream.run(contents[stream.max_batch_bytes]) for stream in streams)
                )
        finally:
            watching.cancel()
            for stream in streams:
                await stream.close()
        took = max(stream.ended_at for stream in streams) - begun
        ends = Counter(stream.end for stream in streams)
        sent = sum(stream.sent * stream.max_batch_bytes for stream in streams)
        figures = (sum(grants), sent, at_rest, opened, highest[0])
        granted, written, rest, with_streams, most = (figure // MIB for figure in figures)
        print(f"\n{count} streams, grants {granted} MiB, clients wrote {written} MiB; PSS of the")
        print(f"server in MiB: at rest {rest}, streams open {with_streams}, highest {most};")
        print(f"ends {ends} in {took:.1f} s")
        # Nothing of the messages lives on in rings of references that nobody breaks.
        await until(lambda: server.memory_bytes() < opened + KEPT_BYTES, GIVEN_BACK_SECONDS)
        print(f"and then {server.memory_bytes() / MIB:.0f}")
        server.assert_no_traceback()
    assert highest[0] > opened + 64 * MIB, "the buffers were not full: nothing was proved"
    assert highest[0] <= bound_bytes
    assert set(ends) == {"UNAVAILABLE DATABASE_UNAVAILABLE"}
    assert took <= wait_seconds + SLACK_SECONDS


def _assert_grants(grants: list[int]) -> None:
    """An eighth of what is left of 64 MiB, between 512 KiB and 8 MiB, in the order of arrival."""
    left = 64 * MIB
    for grant in grants:
        assert grant == min(max(max(left, 0) // 8, MIB // 2), 8 * MIB)
        left -= grant
