"""What is stored without roll-ups: every answer has it, once, whatever is folded or made up."""

from __future__ import annotations

import asyncio
import random
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from datetime import UTC, datetime, timedelta
from typing import Any

import asyncpg
import pytest
from grpc import aio

from fernando.telemetry.v1 import Event, EventServiceStub, MetricServiceStub, Span
from fernando_telemetry.domain.errors import DatabaseUnavailable
from fernando_telemetry.domain.event_summary import USER_COLUMNS
from fernando_telemetry.domain.retention import Retention
from fernando_telemetry.domain.time_range import TimeRange
from fernando_telemetry.settings import Settings
from fernando_telemetry.storage import event_summary, rollup_gaps
from fernando_telemetry.storage.event_type_summary import LONGEST_SENT
from fernando_telemetry.storage.fold import Fold
from fernando_telemetry.storage.gap_closing import GapClosing
from fernando_telemetry.storage.rollup import RollupTerms
from fernando_telemetry.storage.rollup_proof import Finding, RollupProof
from fernando_telemetry.storage.rollups import ROLLUPS
from fernando_telemetry.storage.service_edges import ServiceEdges
from fernando_telemetry.storage.sessions import ControlPool, ReaderPool
from fernando_telemetry.storage.snapshots import Snapshots
from tests.conftest import Serving, session_settings
from tests.integration.ingest.ingest_call import ingest, request
from tests.integration.ingest.locks import becomes
from tests.integration.ingest.records import event, sample, span, stamp
from tests.integration.queries import test_sample_rollup as samples
from tests.integration.queries import test_summarize_events as events
from tests.integration.queries.rows import walk
from tests.integration.queries.test_time_series import Known, aligned, asking, points, same
from tests.integration.storage import test_service_edges as edges
from tests.integration.storage import test_span_rollup as spans

HOUR = timedelta(hours=1)
MINUTE = timedelta(minutes=1)
NOW = datetime.now(UTC)
TERMS = RollupTerms(30, 400)
RETENTION = Retention.of_days(90, 180, 180, 30)
GAPS = "SELECT count(*) FROM rollup_gaps"
# By then no hour rests any more.
LATER = timedelta(hours=3)


@pytest.fixture(autouse=True)
def _by_hand(monkeypatch: pytest.MonkeyPatch) -> None:
    """Let the tests say what is folded and made up; the servers' own duties do not come to it."""
    monkeypatch.setattr("fernando_telemetry.upkeep.FOLD_FIRST_AFTER_SECONDS", 3600.0)
    monkeypatch.setattr("fernando_telemetry.upkeep.HOUSEKEEPING_AFTER_SECONDS", 3600.0)


@pytest.fixture
def fold(control: ControlPool, database: str) -> Fold:
    return Fold(control, session_settings(database), TERMS)


@pytest.fixture
def closing(database: str) -> GapClosing:
    return GapClosing(session_settings(database))


@pytest.fixture
async def proof(database: str) -> AsyncIterator[RollupProof]:
    async with RollupProof.opened(session_settings(database), TERMS.oldest(NOW)) as opened:
        yield opened


@pytest.fixture
async def graphs(readers: ReaderPool) -> edges.Graphs:
    return edges.Graphs(Snapshots(readers, 0.5))


@asynccontextmanager
async def both(
    settings: Settings, serving: Serving
) -> AsyncIterator[tuple[aio.Channel, aio.Channel]]:
    """Run a server with roll-ups and one without on one database."""
    off = settings.model_copy(update={"rollups": False})
    async with (
        serving(settings) as with_them,
        serving(off) as without,
        aio.insecure_channel(with_them.address) as on_channel,
        aio.insecure_channel(without.address) as off_channel,
    ):
        yield on_channel, off_channel


async def prove(proof: RollupProof, *, mends: bool = False) -> list[Finding]:
    """Take all hours of the tests' ranges."""
    wanted = TimeRange(NOW - 12 * HOUR, NOW + 2 * HOUR)
    found: list[Finding] = []
    for step in await proof.steps(ROLLUPS, wanted, NOW, RETENTION):
        found += await proof.take(step, mends=mends)
    return found


async def check_events(channel: aio.Channel, stored: list[Event]) -> None:
    stub = EventServiceStub(channel)
    for group_by in ((), ("event_type",), USER_COLUMNS, events.KEYS):
        for bucket in (HOUR, 3 * HOUR, 20 * MINUTE):
            await events.check(stub, stored, group_by, bucket, page_size=37)
    of_l1 = [one for one in stored if one.license_id == "l1"]
    await events.check(stub, of_l1, ("event_type",), HOUR, filter="license_id = l1")
    errors = [one for one in stored if events.value_of(one, "event_type") == "error_event"]
    await events.check(stub, errors, (), HOUR, filter="event_type = error_event")


async def check_samples(channel: aio.Channel, known: dict[str, Known]) -> None:
    metrics = MetricServiceStub(channel)

    async def call(one: Any, _: Any) -> Any:
        return await metrics.QuerySystemMetrics(one)

    ragged = timedelta(minutes=17, seconds=13)
    start, end = samples.START, samples.END
    for begin, stop, period in (
        (start, end, HOUR),
        (start + ragged, end - ragged, 2 * HOUR),
        (start + ragged, end, MINUTE),
        (start, end, timedelta(seconds=90)),
    ):
        for align in samples.ALIGNS:
            asked = asking(begin, stop, period, align, page_size=2)
            found = await walk(call, asked, "time_series")
            for one in found:
                wanted = aligned(known[one.series.host_name], begin, stop, period, align)
                same(points(one), wanted)
            assert {one.series.host_name for one in found} == {
                host
                for host, one in known.items()
                if any(begin <= time < stop for time, _ in one.samples)
            }


class Stored:
    """What the tests have stored, of every kind, and whether the answers say so."""

    def __init__(self, connection: Any, graphs: edges.Graphs, chance: random.Random) -> None:
        self._connection = connection
        self._graphs = graphs
        self._chance = chance
        self.events: list[Event] = []
        self.known = {f"h{place}": Known("", f"h{place}", "", None) for place in range(3)}
        self.spans: list[Span] = []
        self._called: dict[int, list[Span]] = {}
        self._tag = 0

    async def store(self, channels: list[aio.Channel]) -> None:
        """Store some of each kind, by many writers at once; late rows among them."""
        self._tag += 1
        some = [events.made_up(self._chance, 40) for _ in range(4)]
        measured = [samples.made_up(self._chance, self.known, 40) for _ in range(4)]
        called = edges.made_up(self._chance, 10, self._tag % 2 + 1)
        answer, _ = await asyncio.gather(
            ingest(self._chance.choice(channels), request(*called)),
            asyncio.gather(
                *(
                    ingest(self._chance.choice(channels), request(*one))
                    for one in (*some, *measured)
                )
            ),
        )
        # Of the spans that may be a caller it is the flush, too, that decides.
        self._called[int(answer.result.commit_token, 16)] = called
        self.events += [one for part in some for one in part]
        for one in self.known.values():
            one.samples.sort()
        self.spans = [one for _, some in sorted(self._called.items()) for one in some]

    async def check(self, channel: aio.Channel) -> None:
        """Hold every answer against what was stored."""
        await check_events(channel, self.events)
        await check_samples(channel, self.known)
        await spans.check(self._connection, self.spans)
        await self._graphs.check(self._chance, self.spans)


@pytest.mark.parametrize("seed", range(3))
async def test_on_and_off_in_turns_and_side_by_side(
    settings: Settings,
    serving: Serving,
    connection: Any,
    fold: Fold,
    closing: GapClosing,
    proof: RollupProof,
    graphs: edges.Graphs,
    database: str,
    monkeypatch: pytest.MonkeyPatch,
    seed: int,
) -> None:
    chance = random.Random(seed)
    monkeypatch.setattr(rollup_gaps, "MOST_PARTS", chance.choice([1, 24]))
    chunks = ServiceEdges(session_settings(database), TERMS, lambda: edges.RETENTION)
    stored = Stored(connection, graphs, chance)
    now = NOW
    async with both(settings, serving) as (on_channel, off_channel):
        for turn in range(8):
            writing = chance.choice([[off_channel], [on_channel], [on_channel, off_channel]])
            # The first ones are known, so that each seed has them.
            if turn < 3:
                writing = [[on_channel], [off_channel], [on_channel, off_channel]][turn]
            await stored.store(writing)
            for _ in range(chance.randrange(3)):
                now += LATER
                match chance.choice(["fold", "close", "chunks", "rebuild"]):
                    case "fold":
                        await fold.fold(NOW)
                    case "close":
                        await closing.run(now, pauses=False)
                    case "chunks":
                        await chunks.run(NOW + (now - NOW) / 100, pauses=False)
                    case "rebuild":
                        await prove(proof, mends=True)
            monkeypatch.setattr(
                event_summary, "LONGEST_SENT", chance.choice([LONGEST_SENT, timedelta(0)])
            )
            await stored.check(on_channel)
        await closing.run(now + LATER, pauses=False)
        assert await connection.fetchval(GAPS) == 0
        assert not any(one.differences or one.is_open for one in await prove(proof))
        await fold.fold(NOW)
        assert not any(one.differences for one in await prove(proof))
        await stored.check(on_channel)


async def test_with_roll_ups_nothing_is_noted(
    channel: aio.Channel, connection: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    said: list[str] = []
    execute = asyncpg.Connection.execute

    async def heard(self: Any, statement: str, *given: Any, **options: Any) -> Any:
        said.append(statement)
        return await execute(self, statement, *given, **options)

    monkeypatch.setattr(asyncpg.Connection, "execute", heard)
    await ingest(channel, request(event(), sample(), span()))
    assert any("INSERT INTO flushes" in one for one in said)
    assert not any("rollup_gaps" in one for one in said)
    assert await connection.fetchval(GAPS) == 0


async def test_a_flush_notes_its_hours_or_is_not_there(
    settings: Settings, serving: Serving, connection: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Its session is lost behind the note: nothing is stored, and the next attempt notes anew."""
    execute = asyncpg.Connection.execute
    left = [1]

    async def killed(self: Any, statement: str, *given: Any, **options: Any) -> Any:
        answer = await execute(self, statement, *given, **options)
        if "INSERT INTO rollup_gaps" in statement and left:
            left.clear()
            pid = self.get_server_pid()
            await connection.fetchval("SELECT pg_terminate_backend($1, 20000)", pid)
        return answer

    monkeypatch.setattr(asyncpg.Connection, "execute", killed)
    times = [events.START, events.START + 90 * MINUTE, events.START + 30 * HOUR / 60]
    stored = [event(event_timestamp=stamp(time), user_id="u") for time in times]
    async with both(settings, serving) as (on_channel, off_channel):
        await ingest(off_channel, request(*stored))
        assert not left
        rows = await connection.fetch("SELECT * FROM rollup_gaps ORDER BY rollup, hour")
        assert [(row["rollup"], row["hour"]) for row in rows] == [
            (rollup, events.START + hour * HOUR)
            for rollup in ("event", "event_user")
            for hour in (0, 1)
        ]
        assert {row["first_flush_id"] for row in rows} == {
            await connection.fetchval("SELECT DISTINCT flush_id FROM telemetry_events")
        }
        await check_events(on_channel, stored)


@pytest.mark.parametrize("behind", ["INSERT INTO event_deltas", "UPDATE rollup_gaps"])
async def test_closing_that_is_killed_changes_nothing(
    settings: Settings,
    serving: Serving,
    connection: Any,
    fold: Fold,
    database: str,
    monkeypatch: pytest.MonkeyPatch,
    behind: str,
) -> None:
    stored = events.made_up(random.Random(1), 200)
    async with both(settings, serving) as (on_channel, off_channel):
        await ingest(off_channel, request(*stored[:100]))
        execute, fetchval = asyncpg.Connection.execute, asyncpg.Connection.fetchval
        left = [1]

        async def end(opened: Any) -> None:
            if left:
                left.clear()
                pid = opened.get_server_pid()
                await fetchval(connection, "SELECT pg_terminate_backend($1, 20000)", pid)

        async def killed(self: Any, statement: str, *given: Any, **options: Any) -> Any:
            answer = await execute(self, statement, *given, **options)
            if behind in statement:
                await end(self)
            return answer

        async def killed_closing(self: Any, statement: str, *given: Any, **options: Any) -> Any:
            answer = await fetchval(self, statement, *given, **options)
            if "DELETE FROM rollup_gaps" in statement and "UPDATE" in behind:
                await end(self)
            return answer

        monkeypatch.setattr(asyncpg.Connection, "execute", killed)
        monkeypatch.setattr(asyncpg.Connection, "fetchval", killed_closing)
        gaps = await connection.fetch("SELECT * FROM rollup_gaps ORDER BY 1, 2, 3")
        with pytest.raises((DatabaseUnavailable, ExceptionGroup, asyncpg.PostgresError)):
            await GapClosing(session_settings(database)).run(NOW, pauses=False)
        monkeypatch.undo()
        assert not left
        left_over = await connection.fetch("SELECT * FROM rollup_gaps ORDER BY 1, 2, 3")
        assert set(map(tuple, left_over)) <= set(map(tuple, gaps))
        assert left_over
        await check_events(on_channel, stored[:100])
        await ingest(off_channel, request(*stored[100:]))
        await GapClosing(session_settings(database)).run(NOW, pauses=False)
        assert await connection.fetchval(GAPS) == 0
        await check_events(on_channel, stored)
        await fold.fold(NOW)
        await check_events(on_channel, stored)


@pytest.mark.parametrize("how", ["close", "rebuild"])
async def test_a_flush_that_commits_beside_closing_leaves_the_hour_open(
    settings: Settings,
    serving: Serving,
    connection: Any,
    fold: Fold,
    closing: GapClosing,
    proof: RollupProof,
    monkeypatch: pytest.MonkeyPatch,
    how: str,
) -> None:
    stored = [event(user_id="u1", event_timestamp=stamp(events.START))]
    # One lane, so that both flushes have the same gaps.
    chosen = settings.model_copy(update={"writers": 1, "quick_writers": 0})
    execute = asyncpg.Connection.execute
    left = [1]
    async with both(chosen, serving) as (on_channel, off_channel):
        await ingest(off_channel, request(*stored))

        async def beside(self: Any, statement: str, *given: Any, **options: Any) -> Any:
            answer = await execute(self, statement, *given, **options)
            if "INSERT INTO event_deltas" in statement and left:
                left.clear()
                stored.append(event(user_id="u2", event_timestamp=stamp(events.START + MINUTE)))
                await ingest(off_channel, request(stored[-1]))
            return answer

        monkeypatch.setattr(asyncpg.Connection, "execute", beside)
        if how == "close":
            await closing.run(NOW, pauses=False)
            rows = await connection.fetch("SELECT * FROM rollup_gaps WHERE rollup = 'event'")
            assert len(rows) == 1
            assert rows[0]["first_flush_id"] <= rows[0]["last_flush_id"]
        else:
            found = await prove(proof, mends=True)
            assert any(one.is_made_up for one in found)
            assert not any(one.is_open and one.differences for one in found)
        monkeypatch.undo()
        assert not left
        await check_events(on_channel, stored)
        await fold.fold(NOW)
        await check_events(on_channel, stored)
        await closing.run(NOW + LATER, pauses=False)
        assert await connection.fetchval(GAPS) == 0
        await check_events(on_channel, stored)
        assert not any(one.differences for one in await prove(proof))


async def test_closing_waits_for_a_flush_that_has_noted_the_hour(
    settings: Settings,
    serving: Serving,
    connection: Any,
    database: str,
    closing: GapClosing,
) -> None:
    stored = [event(user_id="u1", event_timestamp=stamp(events.START))]
    chosen = settings.model_copy(update={"writers": 1, "quick_writers": 0})
    async with both(chosen, serving) as (on_channel, off_channel):
        await ingest(off_channel, request(*stored))
        holder = await asyncpg.connect(database)
        held = holder.transaction()
        await held.start()
        await holder.execute("LOCK TABLE flushes IN ACCESS EXCLUSIVE MODE")
        stored.append(event(user_id="u2", event_timestamp=stamp(events.START + MINUTE)))
        flush = asyncio.create_task(ingest(off_channel, request(stored[-1])))
        waiting = (
            "SELECT count(*) FROM pg_stat_activity WHERE wait_event_type = 'Lock'"
            " AND datname = current_database() AND query LIKE '%{}%'"
        )
        await becomes(connection, waiting.format("INSERT INTO flushes"), 1)
        work = asyncio.create_task(closing.run(NOW, pauses=False))
        await becomes(connection, waiting.format("DELETE FROM rollup_gaps"), 1)
        await held.rollback()
        await holder.close()
        await flush
        await work
        await check_events(on_channel, stored)
        await closing.run(NOW + LATER, pauses=False)
        assert await connection.fetchval(GAPS) == 0
        await check_events(on_channel, stored)


async def test_rebuild_does_not_write_an_hour_anew_that_stays_open(
    settings: Settings,
    serving: Serving,
    connection: Any,
    closing: GapClosing,
    proof: RollupProof,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """What is damaged in it is said to be so, and mended once it is closed."""
    stored = [event(user_id="u1", event_timestamp=stamp(events.START))]
    compare = RollupProof._compare
    async with both(settings, serving) as (on_channel, off_channel):
        await ingest(on_channel, request(*stored))
        await connection.execute("UPDATE event_deltas SET event_count = 7")
        await ingest(off_channel, request(*stored))

        async def not_closed(*_: Any) -> bool:
            return False

        monkeypatch.setattr("fernando_telemetry.storage.rollup_proof.close_gaps", not_closed)
        found = [one for one in await prove(proof, mends=True) if one.differences]
        assert {(one.table, one.is_open) for one in found} == {
            ("event_hours", True),
            ("event_user_hours", True),
        } or {(one.table, one.is_open) for one in found} == {("event_hours", True)}
        assert await connection.fetchval("SELECT event_count FROM event_deltas") == 7
        monkeypatch.undo()
        found = await prove(proof, mends=True)
        assert [one.table for one in found if one.differences] == ["event_hours"]
        assert {one.hour for one in found if one.is_made_up} == {events.START}
        assert RollupProof._compare is compare
        await check_events(on_channel, stored * 2)
        assert not any(one.differences or one.is_open for one in await prove(proof))


async def test_what_raw_rows_have_gone_of_stays_as_it_was_folded(
    settings: Settings,
    serving: Serving,
    connection: Any,
    fold: Fold,
    closing: GapClosing,
) -> None:
    """A licence whose rows retention took, and partitions that went: late rows add to them."""
    stored = events.made_up(random.Random(4), 200)
    late = [one for one in events.made_up(random.Random(5), 200) if one.license_id != "l1"]
    async with both(settings, serving) as (on_channel, off_channel):
        await ingest(on_channel, request(*stored))
        await fold.fold(NOW)
        await connection.execute("DELETE FROM telemetry_events WHERE license_id = 'l1'")
        stub = EventServiceStub(on_channel)
        for _ in range(2):
            await ingest(off_channel, request(*late))
            stored += late
            await events.check(stub, stored, ("event_type",), HOUR)
            await events.check(stub, stored, events.KEYS, HOUR)
        await closing.run(NOW, pauses=False)
        await events.check(stub, stored, events.KEYS, HOUR)
        await connection.execute("DELETE FROM telemetry_events")
        await ingest(off_channel, request(*late))
        stored += late
        await events.check(stub, stored, events.KEYS, HOUR)
        await closing.run(NOW + LATER, pauses=False)
        assert await connection.fetchval(GAPS) == 0
        await fold.fold(NOW)
        await events.check(stub, stored, events.KEYS, HOUR)


async def test_an_hour_that_cannot_be_made_up_stops_no_other(
    settings: Settings, serving: Serving, connection: Any, closing: GapClosing
) -> None:
    async with both(settings, serving) as (_, off_channel):
        await ingest(off_channel, request(event(user_id="u"), sample(), span()))
    rollups = "SELECT DISTINCT rollup FROM rollup_gaps ORDER BY 1"
    assert [row[0] for row in await connection.fetch(rollups)] == [
        "event",
        "event_user",
        "sample",
        "span",
    ]
    await connection.execute("ALTER TABLE sample_deltas RENAME TO gone")
    with pytest.raises(ExceptionGroup) as caught:
        await closing.run(NOW, pauses=False)
    assert [type(one) for one in caught.value.exceptions] == [asyncpg.UndefinedTableError]
    assert [row[0] for row in await connection.fetch(rollups)] == ["sample"]
    await connection.execute("ALTER TABLE gone RENAME TO sample_deltas")
    # It rests first.
    await closing.run(NOW + timedelta(seconds=59), pauses=False)
    assert await connection.fetchval(GAPS) == 1
    await closing.run(NOW + timedelta(seconds=61), pauses=False)
    assert await connection.fetchval(GAPS) == 0


async def test_gaps_past_the_term_are_forgotten(fold: Fold, connection: Any) -> None:
    for days in (399, 401):
        await connection.execute(
            "INSERT INTO rollup_gaps (shard, rollup, hour, lane, first_flush_id, last_flush_id)"
            " VALUES (0, 'event', $1, 1, 1, 1)",
            NOW - timedelta(days=days),
        )
    await fold.clean(NOW)
    assert [row[0] for row in await connection.fetch("SELECT hour FROM rollup_gaps")] == [
        NOW - timedelta(days=399)
    ]


async def test_the_leader_closes_gaps_where_roll_ups_are_on(
    settings: Settings, serving: Serving, connection: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    stored = events.made_up(random.Random(6), 50)
    off = settings.model_copy(update={"rollups": False})
    monkeypatch.setattr("fernando_telemetry.upkeep.HOUSEKEEPING_AFTER_SECONDS", 0.0)
    monkeypatch.setattr("fernando_telemetry.upkeep.CLOSE_GAPS_SECONDS", 0.05)
    async with serving(off) as app, aio.insecure_channel(app.address) as channel:
        await ingest(channel, request(*stored))
        await events.check(EventServiceStub(channel), [], (), HOUR, filter="event_name = none")
    assert await connection.fetchval(GAPS) > 0
    async with serving(settings) as app, aio.insecure_channel(app.address) as channel:
        await check_events(channel, stored)
        await becomes(connection, GAPS, 0)
        await check_events(channel, stored)
        # It is the roll-up that answers.
        await connection.execute("TRUNCATE telemetry_events")
        await events.check(EventServiceStub(channel), stored, ("event_type",), HOUR)
