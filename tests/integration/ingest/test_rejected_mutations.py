"""Batches spoilt at random: what is kept of them is what was rejected, byte for byte."""

from __future__ import annotations

import random
from typing import Any

import pytest
from grpc import aio

from fernando.telemetry.v1 import RecordKind, VerdictReason
from fernando_telemetry.domain.vocabulary import RECORD_KINDS
from fernando_telemetry.settings import Settings
from tests.conftest import share
from tests.integration.ingest.ingest_call import IngestCall, batch, ingest
from tests.integration.ingest.records import columns, field, records
from tests.integration.ingest.rejects import KEPT, listed, replay
from tests.integration.ingest.spoiling import cut, rich, spoilt

pytestmark = pytest.mark.usefixtures("each_path")

# Whose verdict says where among its neighbours the trouble was.
PLACED = "metric_columns.series["


@pytest.fixture
def settings(settings: Settings) -> Settings:
    """Keeping is on."""
    return settings.model_copy(update={"rejected_keep": True})


@pytest.mark.fuzz
@pytest.mark.timeout(1200)
async def test_what_is_kept_is_rejected_for_the_same_reason_by_itself(
    channel: aio.Channel, connection: Any, request: pytest.FixtureRequest
) -> None:
    count = share(request, "fuzz", 60, 2_000)
    rejected = 0
    verdicts: dict[tuple[int, int, int], Any] = {}
    async with IngestCall(channel, timeout_seconds=1_000) as stream:
        await stream.welcome()
        for sequence in range(1, count + 1):
            chance = random.Random(sequence)
            given = [*rich(), *rich(), columns(1, 2, 3)]
            chance.shuffle(given)
            for record in given:
                spoilt(record, chance)
            parts = [cut(records([record]), chance) for record in given]
            await stream.send(batch(sequence, *parts))
            ack = await stream.ack()
            rejected += ack.committed.rejected_count
            for one in ack.committed.verdicts:
                if not one.kept:
                    verdicts[sequence, one.kind, one.index] = one
        await stream.end()
    kept = await listed(channel, page_size=1_000)
    assert len(kept) == rejected == len(verdicts)
    assert rejected > count
    for record in kept:
        verdict = verdicts[record.sequence, record.verdict.kind, record.verdict.index]
        assert record.verdict == verdict
        word = RecordKind.Name(verdict.kind).removeprefix("RECORD_KIND_").lower()
        alone = field(RECORD_KINDS.index(word) + 1, record.record)
        (again,) = (await ingest(channel, field(3, alone))).result.verdicts
        assert (again.kind, again.reason, again.detail) == (
            *(verdict.kind, verdict.reason, verdict.detail),
        ) or verdict.reason == VerdictReason.VERDICT_REASON_UNKNOWN_SERIES_INDEX, (verdict, again)
        assert again.field_path == verdict.field_path or PLACED in verdict.field_path
    doubled = await connection.fetchval(KEPT)
    assert doubled == 2 * rejected
    assert await replay(channel) == (0, doubled)
