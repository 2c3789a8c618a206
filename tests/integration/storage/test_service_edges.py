"""Calls by chunks: with late spans, killed or outrun, a graph is what the raw spans say."""

from __future__ import annotations

import asyncio
import random
from collections import Counter
from collections.abc import AsyncIterator, Iterable
from contextlib import asynccontextmanager
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from typing import Any

import asyncpg
import pytest
from grpc import aio

from fernando.telemetry.v1 import Span, SpanKind, SpanLink, SpanStatus
from fernando_telemetry.app import Application
from fernando_telemetry.domain.edge_chunks import CHUNK
from fernando_telemetry.domain.errors import DatabaseUnavailable, QueryTooExpensive
from fernando_telemetry.domain.retention import KindRetention, Retention
from fernando_telemetry.domain.service_graph import ServiceGraph
from fernando_telemetry.domain.time_range import TimeRange
from fernando_telemetry.queries.traces import GraphRequest, TraceQueries
from fernando_telemetry.settings import Settings
from fernando_telemetry.storage.fold import Fold
from fernando_telemetry.storage.rollup import RollupTerms
from fernando_telemetry.storage.rollup_proof import Finding, RollupProof
from fernando_telemetry.storage.service_edges import ServiceEdges
from fernando_telemetry.storage.sessions import ControlPool, ReaderPool
from fernando_telemetry.storage.snapshots import Snapshots
from fernando_telemetry.storage.span_rollup import SPAN_ROLLUP
from fernando_telemetry.storage.statements import load
from tests.conftest import Serving, session_settings
from tests.integration.ingest.ingest_call import ingest, request
from tests.integration.ingest.locks import becomes
from tests.integration.ingest.records import span, stamp

MINUTE = timedelta(minutes=1)
NOW = datetime.now(UTC)
# Two hours in twelve chunks, all of it settled.
END = NOW.replace(minute=NOW.minute // 10 * 10, second=0, microsecond=0) - CHUNK
START = END - 12 * CHUNK
# By then no chunk rests any more.
LATER = timedelta(hours=3)
TERMS = RollupTerms(30, 400)
RETENTION = KindRetention(30)
COMPUTED = "SELECT count(*) FROM service_edge_chunks WHERE is_computed"
FOLD_LOCK = "SELECT pg_advisory_xact_lock(1179603533, 9)"
BLOCKED = (
    "SELECT pid FROM pg_stat_activity WHERE $1 = ANY (pg_blocking_pids(pid))"
    " AND datname = current_database()"
)
SECONDS = 20.0
Calls = Counter[tuple[str, str]]


@pytest.fixture(autouse=True)
def _by_hand(monkeypatch: pytest.MonkeyPatch) -> None:
    """Let the tests say what is folded; the server's own duties do not come to it."""
    monkeypatch.setattr("fernando_telemetry.upkeep.FOLD_FIRST_AFTER_SECONDS", 3600.0)


@pytest.fixture
def fold(control: ControlPool, database: str) -> Fold:
    return Fold(control, session_settings(database), TERMS, [SPAN_ROLLUP])


@pytest.fixture
def edges(database: str) -> ServiceEdges:
    return ServiceEdges(session_settings(database), TERMS, lambda: RETENTION)


@pytest.fixture
async def graphs(readers: ReaderPool) -> Graphs:
    return Graphs(Snapshots(readers, 0.5))


@pytest.fixture
async def proof(database: str) -> AsyncIterator[RollupProof]:
    async with RollupProof.opened(session_settings(database), TERMS.oldest(NOW)) as opened:
        yield opened


class Graphs:
    """Asks for graphs, from chunks and from raw spans alone."""

    def __init__(self, snapshots: Snapshots) -> None:
        self._queries = TraceQueries(snapshots)
        self._raw = TraceQueries(snapshots, uses_chunks=False)
        self._without_raw = TraceQueries(snapshots, row_budget=0)

    async def same(self, time_range: TimeRange, license_id: str = "") -> ServiceGraph:
        """Give a graph that both ways give, percentiles included."""
        asked = GraphRequest(time_range, license_id)
        found = await self._queries.get_service_graph(asked)
        assert found == await self._raw.get_service_graph(asked)
        return found

    async def check(self, chance: random.Random, spans: Iterable[Span]) -> None:
        """Hold ragged and whole ranges, of all and by licence, against each other and the spans."""
        ranges = [TimeRange(START, END), TimeRange(START - MINUTE, END + CHUNK)]
        for _ in range(4):
            first, last = sorted(chance.sample(range(120 * 60), 2))
            second = timedelta(seconds=1)
            ranges.append(TimeRange(START + first * second, START + last * second))
        for time_range in ranges:
            for license_id in ("", "l1", "l2"):
                found = await self.same(time_range, license_id)
                calls = {
                    (edge.client_service_name, edge.server_service_name): edge.call_count
                    for edge in found.edges
                }
                assert calls == called(spans, time_range, license_id)

    async def need_no_raw_spans(self, time_range: TimeRange) -> bool:
        """Tell whether chunks answer for a range alone."""
        try:
            await self._without_raw.get_service_graph(GraphRequest(time_range))
        except QueryTooExpensive:
            return False
        return True


def made_up(chance: random.Random, traces: int, tag: int) -> list[Span]:
    """Make traces around the edges of chunks: late parents, shared ids, links, some far apart."""
    spans = []
    kinds = SpanKind.values()
    for _ in range(traces):
        trace_id = f"{tag * 1000 + chance.randrange(traces) + 1:032x}"
        chunk = START + chance.randrange(1, 12) * CHUNK
        owner = chance.choice(["", "l1", "l2"])
        for number in range(1, chance.randrange(3, 8)):
            for _ in range(chance.choice((1, 1, 1, 2))):
                at = chunk + chance.choice((-11, -10, -1, 0, 0, 0, 1, 2)) * MINUTE
                at += chance.choice((-1, 0, 1, 20_000_000)) * timedelta(microseconds=1)
                one = span(
                    trace_id=trace_id,
                    span_id=f"{number:016x}",
                    service_name=chance.choice("abcd"),
                    license_id=owner if chance.random() < 0.9 else "l1",
                    start_time=stamp(at),
                    kind=chance.choice(kinds),
                    status=chance.choice(SpanStatus.values()),
                )
                parent = chance.choice((0, number, *range(number), 9))
                if parent:
                    one.parent_span_id = f"{parent:016x}"
                if chance.random() < 0.9:
                    one.duration_ms = chance.choice([0.0, chance.uniform(0.001, 5000)])
                for _ in range(chance.choice((0, 0, 1, 3))):
                    linked = tag * 1000 + chance.randrange(traces) + 1
                    number_there = chance.randrange(1, 5)
                    one.links.append(
                        SpanLink(trace_id=f"{linked:032x}", span_id=f"{number_there:016x}")
                    )
                spans.append(one)
    return spans


def of_one_license(one: Span) -> Span:
    """Make all spans of a trace one licence's, and take links away."""
    one.license_id = "l1" if int(one.trace_id, 16) % 2 else "l2"
    del one.links[:]
    return one


def called(spans: Iterable[Span], time_range: TimeRange, license_id: str) -> Calls:
    """Find the calls of a range span by span, as the contract says what a call is."""
    mine = [one for one in spans if license_id in ("", one.license_id)]
    sides: dict[tuple[str, str], list[Span]] = {}
    for one in mine:
        sides.setdefault((one.trace_id, one.span_id), []).append(one)
    calls: Calls = Counter()
    for child in mine:
        if not time_range.start <= start_of(child) < time_range.end:
            continue
        minute = start_of(child).replace(second=0, microsecond=0)
        caller = first_of(sides, child.trace_id, child.span_id, minute)
        served = child.kind in (SpanKind.SPAN_KIND_SERVER, SpanKind.SPAN_KIND_CONSUMER)
        if not (served and caller is not None and is_calling(caller)):
            caller = None
            if child.parent_span_id != child.span_id:
                near = near_of(sides, child.trace_id, child.parent_span_id, minute)
                if all(one.service_name != child.service_name for one in near):
                    caller = first_of(sides, child.trace_id, child.parent_span_id, minute)
        if caller is not None and caller.service_name != child.service_name:
            calls[caller.service_name, child.service_name] += 1
        if child.kind != SpanKind.SPAN_KIND_CONSUMER:
            continue
        for trace_id, span_id in {(link.trace_id, link.span_id) for link in child.links}:
            producer = first_of(sides, trace_id, span_id, minute)
            if producer is None or producer.kind != SpanKind.SPAN_KIND_PRODUCER:
                continue
            is_parent = span_id in (child.span_id, child.parent_span_id)
            if trace_id == child.trace_id and is_parent:
                continue
            if producer.service_name != child.service_name:
                calls[producer.service_name, child.service_name] += 1
    return calls


def start_of(one: Span) -> datetime:
    return one.start_time.ToDatetime(UTC)


def is_calling(one: Span) -> bool:
    return one.kind in (SpanKind.SPAN_KIND_CLIENT, SpanKind.SPAN_KIND_PRODUCER)


def near_of(
    sides: dict[tuple[str, str], list[Span]], trace_id: str, span_id: str, minute: datetime
) -> list[Span]:
    return [
        one
        for one in sides.get((trace_id, span_id), ())
        if minute - 10 * MINUTE <= start_of(one) < minute + 2 * MINUTE
    ]


def first_of(
    sides: dict[tuple[str, str], list[Span]], trace_id: str, span_id: str, minute: datetime
) -> Span | None:
    near = near_of(sides, trace_id, span_id, minute)
    # Spans are in the order that they were stored in.
    return min(near, key=lambda one: (not is_calling(one), start_of(one)), default=None)


async def prove(proof: RollupProof, *, mends: bool = False) -> list[Finding]:
    """Take all hours; gives what was found of calls."""
    hour = timedelta(hours=1)
    wanted = TimeRange(START - 2 * hour, END + 2 * hour)
    found: list[Finding] = []
    for step in await proof.steps([SPAN_ROLLUP], wanted, NOW, Retention.of_days(90, 180, 180, 30)):
        found += await proof.take(step, mends=mends)
    return [one for one in found if one.table == "service_edges"]


def differing(found: list[Finding]) -> list[Finding]:
    return [one for one in found if one.differences]


@pytest.mark.usefixtures("server")
@pytest.mark.parametrize("seed", range(3))
@pytest.mark.parametrize("are_apart", [False, True], ids=["mixed", "apart"])
async def test_chunks_and_what_is_between_are_the_raw_spans(
    channel: aio.Channel,
    connection: Any,
    fold: Fold,
    edges: ServiceEdges,
    graphs: Graphs,
    proof: RollupProof,
    seed: int,
    are_apart: bool,
) -> None:
    chance = random.Random(seed)

    def some(traces: int, tag: int) -> list[Span]:
        spans = made_up(chance, traces, tag)
        return [of_one_license(one) for one in spans] if are_apart else spans

    spans = some(60, 1)
    await ingest(channel, request(*spans))
    await fold.fold(NOW)
    apart = load("service_edges").are_licenses_apart
    assert await connection.fetchval(apart, START, END) is are_apart
    await graphs.check(chance, spans)
    assert not await graphs.need_no_raw_spans(TimeRange(START, END))
    await edges.run(NOW)
    assert await graphs.need_no_raw_spans(TimeRange(START, END))
    await graphs.check(chance, spans)
    for number in range(2):
        # Late ones: of the same traces, and of a few others.
        late = some(60, 1)[:20] + some(2, 2 + number)
        await ingest(channel, request(*late))
        spans += late
        await graphs.check(chance, spans)
        assert differing(await prove(proof)) == []
        await fold.fold(NOW)
        await graphs.check(chance, spans)
        assert not await graphs.need_no_raw_spans(TimeRange(START, END))
        await edges.run(NOW + (number + 1) * LATER)
        assert await graphs.need_no_raw_spans(TimeRange(START, END))
        await graphs.check(chance, spans)
    found = await prove(proof)
    assert differing(found) == []
    assert sum(one.groups for one in found) > 50


async def stored(channel: aio.Channel, fold: Fold, seed: int = 1) -> list[Span]:
    """Store spans and fold them."""
    spans = made_up(random.Random(seed), 60, 1)
    await ingest(channel, request(*spans))
    await fold.fold(NOW)
    return spans


@asynccontextmanager
async def holding(database: str, lock: str) -> AsyncIterator[Any]:
    """Hold a lock by a session of its own while the block runs."""
    holder = await asyncpg.connect(database)
    try:
        await holder.execute(f"BEGIN; {lock}")
        yield holder
    finally:
        await holder.close()


async def blocked_by(connection: Any, holder: Any) -> int:
    """Wait until a session waits for another one; gives its process."""
    async with asyncio.timeout(SECONDS):
        while not (pid := await connection.fetchval(BLOCKED, holder.get_server_pid())):
            pass
    return int(pid)


@pytest.mark.usefixtures("server")
@pytest.mark.parametrize("is_first", [True, False], ids=["first", "anew"])
@pytest.mark.parametrize(
    "lock",
    [
        "LOCK TABLE service_edge_chunks IN SHARE MODE",
        "LOCK TABLE service_edges IN SHARE MODE",
        FOLD_LOCK,
    ],
    ids=["taking", "writing", "finishing"],
)
async def test_a_run_that_is_killed_changes_nothing(
    channel: aio.Channel,
    connection: Any,
    database: str,
    fold: Fold,
    edges: ServiceEdges,
    graphs: Graphs,
    lock: str,
    is_first: bool,
) -> None:
    spans = await stored(channel, fold)
    if not is_first:
        await edges.run(NOW)
        spans += await stored(channel, fold, 2)
    rows = await connection.fetch("SELECT * FROM service_edges ORDER BY 1, 2, 3, 4")
    computed = await connection.fetchval(COMPUTED)
    async with holding(database, lock) as holder:
        running = asyncio.create_task(edges.run(NOW + LATER))
        pid = await blocked_by(connection, holder)
        assert await connection.fetchval("SELECT pg_terminate_backend($1, 20000)", pid)
        with pytest.raises(DatabaseUnavailable):
            await running
    assert await connection.fetch("SELECT * FROM service_edges ORDER BY 1, 2, 3, 4") == rows
    assert await connection.fetchval(COMPUTED) == computed
    await graphs.check(random.Random(3), spans)
    await edges.run(NOW + 2 * LATER)
    assert await graphs.need_no_raw_spans(TimeRange(START, END))
    await graphs.check(random.Random(3), spans)


@pytest.mark.usefixtures("server")
async def test_spans_that_are_folded_beside_a_run_outrun_it(
    channel: aio.Channel,
    connection: Any,
    database: str,
    fold: Fold,
    edges: ServiceEdges,
    graphs: Graphs,
) -> None:
    spans = await stored(channel, fold)
    async with holding(database, FOLD_LOCK) as holder:
        running = asyncio.create_task(edges.run(NOW))
        await blocked_by(connection, holder)
        late = made_up(random.Random(2), 60, 1)
        await ingest(channel, request(*late))
        assert await holder.fetchval(SPAN_ROLLUP.fold, 50_000, START - timedelta(days=1)) > 0
        await holder.execute("COMMIT")
        await running
    assert not await graphs.need_no_raw_spans(TimeRange(START, END))
    await graphs.check(random.Random(4), spans + late)
    await edges.run(NOW + LATER)
    assert await graphs.need_no_raw_spans(TimeRange(START, END))
    await graphs.check(random.Random(4), spans + late)


@pytest.mark.usefixtures("server")
async def test_spans_that_come_beside_a_run_are_not_missed(
    channel: aio.Channel,
    connection: Any,
    database: str,
    fold: Fold,
    edges: ServiceEdges,
    graphs: Graphs,
) -> None:
    spans = await stored(channel, fold)
    async with holding(database, FOLD_LOCK) as holder:
        running = asyncio.create_task(edges.run(NOW))
        await blocked_by(connection, holder)
        late = made_up(random.Random(2), 60, 1)
        await ingest(channel, request(*late))
    await running
    assert await connection.fetchval(COMPUTED) > 0
    # Chunks are listed that do not have them; their deltas tell of it, and then the fold.
    await graphs.check(random.Random(5), spans + late)
    await fold.fold(NOW)
    await graphs.check(random.Random(5), spans + late)


@pytest.mark.usefixtures("server")
async def test_what_is_not_folded_keeps_a_chunk_from_being_worked_out(
    channel: aio.Channel, connection: Any, fold: Fold, edges: ServiceEdges, graphs: Graphs
) -> None:
    await ingest(channel, request(span(start_time=stamp(START))))
    await ingest(channel, request(span(start_time=stamp(START + 5 * CHUNK))))
    await edges.run(NOW)
    listed = await connection.fetch("SELECT chunk_start FROM service_edge_chunks ORDER BY 1")
    listed = {(row["chunk_start"] - START) // CHUNK for row in listed}
    assert listed & set(range(12)) == {2, 3, 7, 8, 9, 10, 11}
    await graphs.same(TimeRange(START, END))


@pytest.mark.usefixtures("server")
async def test_two_runs_at_once(
    channel: aio.Channel,
    connection: Any,
    database: str,
    fold: Fold,
    edges: ServiceEdges,
    graphs: Graphs,
) -> None:
    spans = await stored(channel, fold)
    other = ServiceEdges(session_settings(database), TERMS, lambda: RETENTION)
    async with holding(database, "LOCK TABLE service_edges IN SHARE MODE") as holder:
        runs = [asyncio.create_task(edges.run(NOW))]
        await blocked_by(connection, holder)
        # It takes over what the first has taken, as if that were dead.
        runs.append(asyncio.create_task(other.run(NOW)))
        async with asyncio.timeout(SECONDS):
            while len(await connection.fetch(BLOCKED, holder.get_server_pid())) < 2:
                pass
    await asyncio.gather(*runs)
    await edges.run(NOW + LATER)
    assert await graphs.need_no_raw_spans(TimeRange(START, END))
    await graphs.check(random.Random(6), spans)


@pytest.mark.usefixtures("server")
async def test_a_chunk_that_takes_too_long_is_put_off(
    channel: aio.Channel, connection: Any, database: str, fold: Fold, graphs: Graphs
) -> None:
    spans = await stored(channel, fold)
    hurried = replace(session_settings(database), statement_timeout_seconds=2.0)
    edges = ServiceEdges(hurried, TERMS, lambda: RETENTION)
    async with holding(database, "LOCK TABLE service_edges IN SHARE MODE") as holder:
        running = asyncio.create_task(edges.run(NOW))
        await blocked_by(connection, holder)
        async with asyncio.timeout(SECONDS):
            # It goes on with others: the first are listed as taken, and nothing waits for them.
            while await connection.fetchval("SELECT count(*) FROM service_edge_chunks") < 12:
                pass
    await running
    await graphs.check(random.Random(7), spans)
    await edges.run(NOW + LATER)
    assert await graphs.need_no_raw_spans(TimeRange(START, END))


@pytest.mark.usefixtures("server")
async def test_what_retention_may_have_taken_is_not_worked_out(
    channel: aio.Channel, connection: Any, database: str, fold: Fold
) -> None:
    await stored(channel, fold)
    listed = "SELECT count(*) FROM service_edge_chunks WHERE chunk_start < $1"
    # The licence's spans of those hours go at the next midnight, or are gone.
    short = KindRetention(30, {"l1": 1})
    later = NOW + timedelta(days=1)
    await ServiceEdges(session_settings(database), TERMS, lambda: short).run(later)
    assert await connection.fetchval(listed, END) == 0
    await ServiceEdges(session_settings(database), TERMS, lambda: KindRetention(0)).run(later)
    assert await connection.fetchval(listed, END) >= 11


@pytest.mark.usefixtures("server")
async def test_chunks_past_their_term_go(
    channel: aio.Channel,
    connection: Any,
    database: str,
    fold: Fold,
    edges: ServiceEdges,
    graphs: Graphs,
) -> None:
    spans = await stored(channel, fold)
    await edges.run(NOW)
    assert await connection.fetchval("SELECT count(*) FROM service_edges") > 0
    await fold.clean(START + 6 * CHUNK + timedelta(days=30))
    assert await connection.fetchval("SELECT min(chunk_start) FROM service_edges") >= (
        START + 6 * CHUNK
    )
    await graphs.check(random.Random(8), spans)
    await fold.clean(NOW + timedelta(days=31))
    assert await connection.fetchval("SELECT count(*) FROM service_edges") == 0
    assert await connection.fetchval("SELECT count(*) FROM service_edge_chunks") == 0
    # Nor are they worked out again.
    none = RollupTerms(0, 400)
    await ServiceEdges(session_settings(database), none, lambda: RETENTION).run(NOW)
    assert await connection.fetchval("SELECT count(*) FROM service_edge_chunks") == 0


@pytest.mark.parametrize(
    "damage",
    [
        "UPDATE service_edges SET call_count = call_count + 1 WHERE {one}",
        "UPDATE service_edges SET error_count = error_count + 1 WHERE {one}",
        "UPDATE service_edges SET duration_counts[1] = duration_counts[1] + 1 WHERE {one}",
        "UPDATE service_edges SET client_service_name = 'other' WHERE {one}",
        "DELETE FROM service_edges WHERE {one}",
        "DELETE FROM traces WHERE start_time >= '{chunk}' AND start_time < '{end}'",
    ],
)
@pytest.mark.usefixtures("server")
async def test_damaged_chunks_are_found_and_mended(
    channel: aio.Channel,
    connection: Any,
    fold: Fold,
    edges: ServiceEdges,
    graphs: Graphs,
    proof: RollupProof,
    damage: str,
) -> None:
    await stored(channel, fold)
    await edges.run(NOW)
    assert differing(await prove(proof)) == []
    chunk = START + 3 * CHUNK
    one = (
        "ctid = (SELECT ctid FROM service_edges WHERE cardinality(duration_counts) > 0"
        f" AND license_id = '' AND chunk_start = '{chunk}' ORDER BY 1 LIMIT 1)"
    )
    await connection.execute(damage.format(one=one, chunk=chunk, end=chunk + CHUNK))
    hour = chunk.replace(minute=0)
    found = differing(await prove(proof))
    assert hour in {one.hour for one in found}
    mended = differing(await prove(proof, mends=True))
    # What an hour's spans touch in the next one is not compared there any more.
    assert mended[0] == found[0]
    assert {one.hour for one in mended} <= {one.hour for one in found}
    assert differing(await prove(proof)) == []
    await graphs.same(TimeRange(START, END))
    await edges.run(NOW + LATER)
    assert differing(await prove(proof)) == []
    assert await graphs.need_no_raw_spans(TimeRange(START, END))
    await graphs.same(TimeRange(START, END))


async def test_the_leader_works_chunks_out(
    settings: Settings, serving: Serving, connection: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("fernando_telemetry.upkeep.FOLD_FIRST_AFTER_SECONDS", 0.0)
    monkeypatch.setattr("fernando_telemetry.upkeep.FOLD_INTERVAL_SECONDS", 0.05)
    monkeypatch.setattr("fernando_telemetry.upkeep.HOUSEKEEPING_AFTER_SECONDS", 0.0)
    monkeypatch.setattr("fernando_telemetry.upkeep.EDGES_INTERVAL_SECONDS", 0.05)
    spans = [span(span_id=f"{n:016x}", start_time=stamp(START)) for n in range(1, 4)]
    async with serving(settings) as app, aio.insecure_channel(app.address) as channel:
        await ingest(channel, request(*spans))
        await becomes(connection, f"{COMPUTED} AND chunk_start <= '{START}'", value=1)
    assert await connection.fetchval("SELECT sum(call_count) FROM service_edges") == 3
    await connection.execute("TRUNCATE service_edges, service_edge_chunks")
    off = settings.model_copy(update={"rollups": False})
    async with serving(off) as app:
        assert isinstance(app, Application)
        await becomes(
            connection, "SELECT count(*) > 0 FROM pg_locks WHERE locktype = 'advisory'", value=True
        )
    assert await connection.fetchval("SELECT count(*) FROM service_edge_chunks") == 0
