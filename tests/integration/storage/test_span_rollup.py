"""The roll-up of spans by minute: folded or not, with late spans, it is what the raw rows say."""

from __future__ import annotations

import random
from collections import defaultdict
from collections.abc import AsyncIterator
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
from grpc import aio

from fernando.telemetry.v1 import Span, SpanStatus
from fernando_telemetry.domain.retention import Retention
from fernando_telemetry.domain.time_range import TimeRange
from fernando_telemetry.storage.fold import Fold
from fernando_telemetry.storage.rollup import RollupTerms
from fernando_telemetry.storage.rollup_proof import Finding, RollupProof
from fernando_telemetry.storage.sessions import ControlPool
from fernando_telemetry.storage.span_rollup import SPAN_ROLLUP
from tests.conftest import session_settings
from tests.integration.ingest.ingest_call import ingest, request
from tests.integration.ingest.records import span, stamp
from tests.integration.queries.rows import copy, make_partition
from tests.integration.queries.rows import span as span_row

HOUR = timedelta(hours=1)
END = datetime.now(UTC).replace(minute=0, second=0, microsecond=0)
START = END - 3 * HOUR
TERMS = RollupTerms(30, 400)
RETENTION = Retention.of_days(90, 180, 180, 30)
SUMMARY = "SELECT * FROM trace_performance_summary"


@pytest.fixture
def fold(control: ControlPool, database: str) -> Fold:
    return Fold(control, session_settings(database), TERMS)


@pytest.fixture
async def proof(database: str) -> AsyncIterator[RollupProof]:
    oldest = TERMS.oldest(datetime.now(UTC))
    async with RollupProof.opened(session_settings(database), oldest) as opened:
        yield opened


@pytest.fixture(autouse=True)
def _fold_by_hand(monkeypatch: pytest.MonkeyPatch) -> None:
    """Let the tests say what is folded; the server's own duty does not come to it."""
    monkeypatch.setattr("fernando_telemetry.upkeep.FOLD_FIRST_AFTER_SECONDS", 3600.0)


async def prove(proof: RollupProof, *, mends: bool = False) -> list[Finding]:
    """Take all hours of the test's range; gives those that differ."""
    now, wanted = datetime.now(UTC), TimeRange(START, END + HOUR)
    steps = await proof.steps([SPAN_ROLLUP], wanted, now, RETENTION)
    found = [one for step in steps for one in await proof.take(step, mends=mends)]
    assert {one.hour for one in found} >= {START, START + HOUR, START + 2 * HOUR}
    return [one for one in found if one.differences]


def made_up(chance: random.Random, count: int) -> list[Span]:
    """Make spans of three hours; many share a minute, some have no duration, name or licence."""
    spans = []
    for number in range(count):
        at = START + timedelta(minutes=chance.randrange(12) * 15, seconds=chance.randrange(60))
        one = span(
            chance.choice(["", "GET /", "POST /"]),
            service_name=chance.choice(["web", "shop"]),
            license_id=chance.choice(["", "l1"]),
            span_id=f"{number + 1:016x}",
            start_time=stamp(at),
        )
        if chance.random() < 0.9:
            one.duration_ms = chance.choice([0.0, chance.uniform(0.001, 5000)])
        one.status = chance.choice(SpanStatus.values())
        spans.append(one)
    return spans


def expected(spans: list[Span]) -> dict[tuple[Any, ...], list[Span]]:
    """Group spans as the summary does."""
    groups: dict[tuple[Any, ...], list[Span]] = defaultdict(list)
    for one in spans:
        minute = one.start_time.ToDatetime(UTC).replace(second=0, microsecond=0)
        key = (minute, one.service_name, one.operation_name or None, one.license_id or None)
        groups[key].append(one)
    return groups


async def check(connection: Any, spans: list[Span]) -> None:
    """Hold the summary against the spans."""
    rows = {tuple(row)[:4]: dict(row) for row in await connection.fetch(SUMMARY)}
    groups = expected(spans)
    assert rows.keys() == groups.keys()
    for key, members in groups.items():
        row = rows[key]
        durations = sorted(one.duration_ms for one in members if one.HasField("duration_ms"))
        assert row["span_count"] == len(members)
        assert row["error_count"] == sum(
            one.status == SpanStatus.SPAN_STATUS_ERROR for one in members
        )
        if not durations:
            assert row["avg_duration_ms"] is row["p95_duration_ms"] is None
            continue
        assert row["avg_duration_ms"] == pytest.approx(sum(durations) / len(durations))
        for percent in (50, 95, 99):
            value = durations[-(-percent * len(durations) // 100) - 1]
            assert row[f"p{percent}_duration_ms"] == pytest.approx(value, rel=0.02)


@pytest.mark.usefixtures("server")
@pytest.mark.parametrize("count", [20, 400], ids=["one_by_one", "in_columns"])
async def test_folded_and_unfolded_are_the_raw_spans(
    channel: aio.Channel, connection: Any, fold: Fold, proof: RollupProof, count: int
) -> None:
    chance = random.Random(count)
    stored: list[Span] = []
    # Later rounds are late spans of minutes that are folded already.
    for _ in range(3):
        spans = made_up(chance, count)
        await ingest(channel, request(*spans))
        stored += spans
        await check(connection, stored)
        assert await prove(proof) == []
        await fold.fold(datetime.now(UTC))
        await check(connection, stored)
        assert await prove(proof) == []
    assert await connection.fetchval("SELECT count(*) FROM span_deltas") == 0
    assert await connection.fetchval("SELECT sum(span_count) FROM span_minutes") == 3 * count


@pytest.mark.usefixtures("server")
async def test_a_repeat_does_not_count_twice(channel: aio.Channel, connection: Any) -> None:
    asked = request(
        *made_up(random.Random(1), 5), request_id="018f2f6e-7c7e-7b2a-9a51-1c2d3e4f5a6b"
    )
    for _ in range(2):
        await ingest(channel, asked)
    assert await connection.fetchval("SELECT sum(span_count) FROM span_deltas") == 5


@pytest.mark.parametrize(
    "damage",
    [
        "UPDATE span_minutes SET span_count = span_count + 1 WHERE {one}",
        "UPDATE span_minutes SET error_count = error_count + 1 WHERE {one}",
        "UPDATE span_minutes SET duration_sum = duration_sum + 1 WHERE {one}",
        "UPDATE span_minutes SET duration_buckets[1] = duration_buckets[1] + 1 WHERE {one}",
        "UPDATE span_minutes SET operation_name = 'other' WHERE {one}",
        "DELETE FROM span_minutes WHERE {one}",
        "DELETE FROM span_deltas WHERE date_trunc('hour', minute, 'UTC') = '{hour}'",
    ],
)
@pytest.mark.usefixtures("server")
async def test_a_damaged_hour_is_found_and_mended(
    channel: aio.Channel, connection: Any, fold: Fold, proof: RollupProof, damage: str
) -> None:
    chance = random.Random(2)
    first, second = made_up(chance, 200), made_up(chance, 200)
    await ingest(channel, request(*first))
    await fold.fold(datetime.now(UTC))
    await ingest(channel, request(*second))
    hour = START + HOUR
    one = (
        "ctid = (SELECT ctid FROM span_minutes WHERE duration_count > 0"
        f" AND date_trunc('hour', minute, 'UTC') = '{hour}' ORDER BY 1 LIMIT 1)"
    )
    await connection.execute(damage.format(one=one, hour=hour))
    (found,) = await prove(proof)
    assert (found.table, found.hour) == ("span_minutes", hour)
    assert await prove(proof, mends=True) == [found]
    assert await prove(proof) == []
    await fold.fold(datetime.now(UTC))
    await check(connection, first + second)


async def test_spans_of_before_are_brought_in(
    connection: Any, control: ControlPool, proof: RollupProof
) -> None:
    await make_partition(control, "traces", START)
    await copy(connection, "traces", [span_row(1, n, START, n) for n in range(1, 8)])
    now, wanted = datetime.now(UTC), TimeRange(START, START + HOUR)
    (step,) = await proof.steps([SPAN_ROLLUP], wanted, now, RETENTION)
    found, edges = await proof.take(step, mends=True)
    assert (found.raw_rows, found.differences) == (7, 1)
    # No call is worked out yet.
    assert (edges.raw_rows, edges.groups, edges.differences) == (7, 0, 0)
    assert await connection.fetchval("SELECT span_count FROM trace_performance_summary") == 7


async def test_minutes_past_their_term_go(connection: Any, fold: Fold) -> None:
    now = datetime.now(UTC)
    for days in (29, 31):
        await connection.execute(
            "INSERT INTO span_minutes VALUES ($1, 'l', 's', 'o', 0, 1, 0, 0, 0, '{}', '{}')",
            now - timedelta(days=days),
        )
        await connection.execute(
            "INSERT INTO span_deltas (flushed_at, shard, minute, license_id, service_name,"
            " operation_name, span_count, error_count, duration_count, duration_sum,"
            " duration_buckets, duration_counts)"
            " VALUES ($1, 0, $2, 'l', 's', 'p', 1, 0, 0, 0, '{}', '{}')",
            now,
            now - timedelta(days=days),
        )
    await fold.fold(now)
    await fold.clean(now)
    assert [row["operation_name"] for row in await connection.fetch(SUMMARY + " ORDER BY 3")] == [
        "o",
        "p",
    ]
