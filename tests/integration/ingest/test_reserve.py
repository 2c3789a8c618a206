"""What is kept for small batches stays theirs, however many have come and gone."""

from __future__ import annotations

import asyncio
from typing import Any

from grpc import aio

from fernando_telemetry.settings import MIB, Settings
from tests.conftest import Serving
from tests.integration.ingest.ingest_call import ingest, request
from tests.integration.ingest.locks import a_writer_waits, are_queued, held
from tests.integration.ingest.records import event


async def test_small_batches_get_in_beside_a_waiting_one_after_groups_of_them(
    settings: Settings, serving: Serving, connection: Any
) -> None:
    tight = settings.model_copy(
        update={"writers": 1, "quick_writers": 0, "admitted_bytes": MIB, "unary_wait_seconds": 30.0}
    )
    small = request(event(event_data=f'{{"text": "{"x" * 20_000}"}}'))
    async with serving(tight) as server, aio.insecure_channel(server.address) as channel:
        # A group larger than any small batch: 20 of 20 kB.
        async with held(connection):
            calls = [asyncio.create_task(ingest(channel, request(event())))]
            await a_writer_waits(connection)
            calls += [asyncio.create_task(ingest(channel, small)) for _ in range(20)]
            await are_queued(server, 20)
        await asyncio.gather(*calls)
        assert server._ingest is not None
        budget = server._ingest._group_commit._budget
        assert budget.used == 0
        # Everything that is open to all is taken, and a large batch waits for it.
        taken = await budget.acquire(budget.total)
        waiting = asyncio.create_task(budget.acquire(budget.total))
        async with asyncio.timeout(20):
            while not budget._large:  # noqa: ASYNC110 - the task begins to wait
                await asyncio.sleep(0)
            answer = await ingest(channel, small)
        assert answer.result.accepted_count == 1
        budget.release(taken)
        budget.release(await waiting)
