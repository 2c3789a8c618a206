"""Batches spoilt at random: what the checks pass PostgreSQL stores, and neighbours stay whole.

tests/fuzz sends rubbish to every method; here the bytes are near to good ones, so that they get
through the checks and into a COPY.
"""

from __future__ import annotations

import random
from typing import Any

import pytest
from grpc import aio
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from fernando.telemetry.v1 import VerdictReason
from tests.conftest import share
from tests.integration.ingest.ingest_call import IngestCall, batch
from tests.integration.ingest.judging import ALL_STORED
from tests.integration.ingest.records import columns, records
from tests.integration.ingest.spoiling import cut, rich, spoilt
from tests.integration.transport.server_log import ServerLog


@pytest.mark.fuzz
@pytest.mark.timeout(1200)
async def test_spoilt_batches_are_judged_here_and_not_by_postgresql(
    channel: aio.Channel, connection: Any, server_log: ServerLog, request: pytest.FixtureRequest
) -> None:
    seeds: list[int] = []

    @settings(
        max_examples=share(request, "fuzz", 150, 6_000),
        deadline=None,
        database=None,
        suppress_health_check=list(HealthCheck),
    )
    @given(seed=st.integers(0, 2**32))
    def choose(seed: int) -> None:
        seeds.append(seed)

    choose()
    accepted = 0
    outcomes: dict[str, int] = {"committed": 0, "refused": 0}
    async with IngestCall(channel, timeout_seconds=1_000) as stream:
        await stream.welcome()
        for sequence, seed in enumerate(seeds, 1):
            chance = random.Random(seed)
            given_records = [*rich(), columns(1, 2, 3)]
            for record in given_records:
                spoilt(record, chance)
            whole = batch(sequence, *(cut(records([record]), chance) for record in given_records))
            await stream.send(whole)
            ack = await stream.ack()
            assert ack.sequence == sequence, seed
            outcomes[ack.WhichOneof("outcome") or ""] += 1
            accepted += ack.committed.accepted_count
            refused = [
                one
                for one in ack.committed.verdicts
                if one.reason == VerdictReason.VERDICT_REASON_REFUSED_BY_DATABASE
            ]
            assert refused == [], seed
        await stream.end()
    assert await connection.fetchval(ALL_STORED) == accepted
    assert accepted > len(seeds)
    assert min(outcomes.values()) > len(seeds) // 50
    noted = {entry["event"] for entry in server_log.entries}
    assert not noted & {"rows_refused_by_database", "flush_failed", "flush_retried", "call_broke"}
