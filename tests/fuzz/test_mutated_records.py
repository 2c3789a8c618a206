"""Batches spoilt at the bytes: refused or judged, never an error, never stored by half; and the
columnar checks judge them as the record checks do.

FUZZ_SEED repeats a run; a failure names the seed of its batch.
"""

from __future__ import annotations

import asyncio
import os
import random
import time
from collections import Counter
from collections.abc import Callable, Iterator
from datetime import UTC, datetime
from typing import Any

import pytest
from google.protobuf.message import DecodeError
from grpc import aio

from fernando.telemetry.v1 import TelemetryRecords, VerdictReason
from fernando_telemetry.domain.retention import Retention
from fernando_telemetry.domain.vocabulary import BATCH_REFUSALS
from fernando_telemetry.ingest.checks.context import RecordDefaults, context_for
from fernando_telemetry.ingest.columnar.decoding import GivenBatch
from fernando_telemetry.ingest.record_check import CheckedBatch
from tests.conftest import share
from tests.fuzz.agreement import fast, outcome, plain
from tests.fuzz.mutations import joined, mutated, parsed
from tests.fuzz.seeds import seed_batches
from tests.integration.ingest.ingest_call import IngestCall, batch
from tests.integration.ingest.judging import ALL_STORED
from tests.integration.transport.server_log import ServerLog, watched_log

pytestmark = [pytest.mark.fuzz, pytest.mark.timeout(3600)]
IN_FLIGHT = 8


@pytest.fixture(autouse=True)
def server_log(caplog: pytest.LogCaptureFixture) -> Iterator[ServerLog]:
    """Every test here also holds that no traceback is logged."""
    with watched_log(caplog) as log:
        yield log


def _batches(count: int) -> Iterator[tuple[str, bytes]]:
    """Give spoilt batches, each with the seed that repeats it."""
    run = int(os.environ.get("FUZZ_SEED") or random.SystemRandom().randrange(1 << 32))
    print(f"\nFUZZ_SEED={run}")
    seeds = seed_batches()
    for number in range(count):
        seed = f"{run}/{number}"
        yield seed, mutated(seeds, random.Random(seed))


def _outcome(checked: CheckedBatch) -> str:
    """Hold the counts of a batch that was taken against its rows and verdicts."""
    tally = checked.tally
    rows = [place for places in checked.rows.places.values() for place in places]
    assert tally.accepted == len(rows) == sum(len(one) for one in checked.rows.rows.values())
    assert len(set(rows)) == len(rows), "a record has one row"
    lost = {(one.kind, one.index) for one in tally.verdicts if not one.kept}
    assert not lost & set(rows), "a rejected record has none"
    assert tally.truncated or len(lost) == tally.rejected
    for verdict in tally.verdicts:
        assert VerdictReason.Value(f"VERDICT_REASON_{verdict.reason.upper()}") > 0
        assert verdict.detail
    if tally.rejected:
        return "taken in part" if tally.accepted else "all rejected"
    return "taken"


def test_good_batches_are_good() -> None:
    """Mutations begin with what is stored whole, and the wire format is read and written right."""
    context = context_for(datetime.now(UTC), RecordDefaults(), Retention.of_days(90, 180, 180, 30))
    for data in seed_batches():
        (checked,) = asyncio.run(plain.check([GivenBatch(data, context)]))
        assert checked.tally.rejected == checked.tally.adjusted == 0, checked.tally
        fields = parsed(data)
        assert fields is not None
        assert joined(fields) == data


async def test_mutated_batches_are_refused_or_judged(request: pytest.FixtureRequest) -> None:
    count = share(request, "fuzz", 3_000, 200_000)
    context = context_for(datetime.now(UTC), RecordDefaults(), Retention.of_days(90, 180, 180, 30))
    outcomes: Counter[str] = Counter()
    verdicts: Counter[str] = Counter()
    begun = time.monotonic()
    for seed, data in _batches(count):
        given = [GivenBatch(data, context, with_digest=True)]
        try:
            (checked,), (columns,) = await plain.check(given), await fast.check(given)
            assert outcome(checked) == outcome(columns)
            if checked.refused is not None:
                outcomes[checked.refused.reason] += 1
                if checked.refused.reason == "undecodable":
                    assert not any(checked.rows.rows.values())
                    with pytest.raises(DecodeError):
                        TelemetryRecords.FromString(data)
                continue
            outcomes[_outcome(checked)] += 1
            verdicts.update(verdict.reason for verdict in checked.tally.verdicts)
        except Exception as error:
            error.add_note(f"batch {seed}: {data.hex()}")
            raise
    print(f"{count} batches in {time.monotonic() - begun:.1f} s: {dict(outcomes)}")
    print(f"verdicts: {dict(verdicts)}")
    # A run in which mutations do not get anywhere proves nothing.
    assert set(outcomes) <= {"taken", "taken in part", "all rejected", *BATCH_REFUSALS}
    wanted = ("taken", "taken in part", "all rejected", "undecodable", "record_count_mismatch")
    assert min(outcomes[name] for name in wanted) > count / 200, outcomes
    assert verdicts["invalid_utf8"] > count / 200
    assert len(verdicts) > 12


async def test_mutated_batches_through_a_server(
    channel: aio.Channel, connection: Any, server_log: ServerLog, request: pytest.FixtureRequest
) -> None:
    """What is acknowledged as accepted is stored, and nothing else is."""
    batches = _batches(share(request, "fuzz", 250, 10_000))
    outcomes: Counter[str] = Counter()
    accepted = sequence = 0
    in_flight: list[str] = []

    async def answer(read: Callable[[], Any]) -> None:
        nonlocal accepted
        ack = await read()
        seed = in_flight.pop(0)
        word = ack.WhichOneof("outcome")
        assert word in {"committed", "refused"}, seed
        outcomes[word] += 1
        if word == "committed":
            accepted += ack.committed.accepted_count
            reasons = {one.reason for one in ack.committed.verdicts}
            assert VerdictReason.VERDICT_REASON_REFUSED_BY_DATABASE not in reasons, seed

    async with IngestCall(channel, timeout_seconds=3_000) as stream:
        await stream.welcome()
        for sequence, (seed, data) in enumerate(batches, 1):
            await stream.send(batch(sequence, data))
            in_flight.append(seed)
            if len(in_flight) == IN_FLIGHT:
                await answer(stream.ack)
        while in_flight:
            await answer(stream.ack)
        await stream.end()
    assert await connection.fetchval(ALL_STORED) == accepted
    assert min(outcomes["committed"], outcomes["refused"]) > sequence // 20
    noted = {entry["event"] for entry in server_log.entries}
    assert not noted & {"rows_refused_by_database", "flush_failed", "flush_retried", "call_broke"}
    print(f"{sequence} batches: {dict(outcomes)}, {accepted} rows accepted, as many stored")
