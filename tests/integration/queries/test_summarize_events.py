"""SummarizeEvents through a server: what is folded, what is not and raw rows are one answer."""

from __future__ import annotations

import asyncio
import math
import random
from collections import Counter, defaultdict
from datetime import UTC, datetime, timedelta
from typing import Any

import asyncpg
import pyarrow as pa
import pytest
from grpc import aio

from fernando.telemetry.v1 import (
    Event,
    EventServiceStub,
    EventType,
    SummarizeEventsRequest,
)
from fernando_telemetry.app import Application
from fernando_telemetry.domain.event_summary import USER_COLUMNS
from fernando_telemetry.domain.limits import EVENT_NAMES_PER_HOUR
from fernando_telemetry.domain.time_range import ALL_TIME
from fernando_telemetry.domain.user_sketch import COMPONENT_BITS, COMPONENTS
from fernando_telemetry.settings import Settings
from fernando_telemetry.storage import event_summary, flush
from fernando_telemetry.storage.event_type_summary import LONGEST_SENT
from fernando_telemetry.storage.fold import Fold
from fernando_telemetry.storage.partitions import EVENT_DELTAS
from fernando_telemetry.storage.rollup import RollupTerms
from fernando_telemetry.storage.sent_arrays import percentile_bucket, set_bits
from fernando_telemetry.storage.sessions import ControlPool
from fernando_telemetry.storage.statements import load
from fernando_telemetry.storage.user_places import UserPlaces
from tests.conftest import Serving, session_settings
from tests.integration.ingest.ingest_call import IngestCall, ingest, request
from tests.integration.ingest.records import event, stamp
from tests.integration.queries.rows import copy, make_partition, range_of, walk
from tests.integration.queries.rows import event as event_row

HOUR = timedelta(hours=1)
KEYS = ("event_type", "event_category", "event_name", "license_id", "source")
END = datetime.now(UTC).replace(minute=0, second=0, microsecond=0)
START = END - 6 * HOUR
BOTH = (
    "SELECT sum(event_count)::int8, sum(duration_sum) FROM ("
    + " UNION ALL ".join(
        f"SELECT event_count, duration_sum FROM {table}"
        for table in ("event_hours", "event_deltas")
    )
    + ") AS both_sides"
)
sql = load("fold")
rollup_sql = load("event_rollup")


@pytest.fixture
def fold(control: ControlPool, database: str) -> Fold:
    return Fold(control, session_settings(database), RollupTerms(30, 400))


@pytest.fixture(autouse=True)
def _fold_by_hand(monkeypatch: pytest.MonkeyPatch) -> None:
    """Let the tests say what is folded; the server's own duty does not come to it."""
    monkeypatch.setattr("fernando_telemetry.upkeep.FOLD_FIRST_AFTER_SECONDS", 3600.0)


def made_up(chance: random.Random, count: int) -> list[Event]:
    """Give events over the six hours, many of a group, some with durations."""
    return [
        event(
            f"name{chance.randrange(3)}",
            event_type=chance.choice(
                [EventType.EVENT_TYPE_ERROR_EVENT, EventType.EVENT_TYPE_API_EVENT]
            ),
            event_category=chance.choice(["", "auth"]),
            license_id=chance.choice(["", "l1", "l2"]),
            source=chance.choice(["", "web"]),
            user_id=f"u{chance.randrange(9)}",
            duration_ms=chance.choice([None, 0.0, chance.lognormvariate(3, 2)]),
            event_timestamp=stamp(START + chance.random() * (END - START)),
        )
        for _ in range(count)
    ]


def value_of(one: Event, column: str) -> str:
    if column == "event_type":
        return EventType.Name(one.event_type).removeprefix("EVENT_TYPE_").lower()
    return str(getattr(one, column))


def expected(events: list[Event], group_by: tuple[str, ...], bucket: timedelta) -> dict[Any, Any]:
    """Sum events up as the contract says, in plain Python."""
    groups: dict[Any, list[Event]] = defaultdict(list)
    for one in events:
        time = one.event_timestamp.ToDatetime(UTC)
        epoch = datetime(1970, 1, 1, tzinfo=UTC)
        start = time - (time - epoch) % bucket
        groups[start, tuple(value_of(one, column) for column in group_by)].append(one)
    found = {}
    for key, members in groups.items():
        durations = sorted(one.duration_ms for one in members if one.HasField("duration_ms"))
        found[key] = (
            len(members),
            sum(one.event_type == EventType.EVENT_TYPE_ERROR_EVENT for one in members),
            len({one.license_id for one in members} - {""}),
            sum(durations) / len(durations) if durations else None,
            durations[math.ceil(0.95 * len(durations)) - 1] if durations else None,
            len({one.user_id for one in members} - {""}),
        )
    return found


by_users = ("", "license_id = l1", "event_type = error_event", "event_category = auth")


async def check(
    stub: Any, events: list[Event], group_by: tuple[str, ...], bucket: timedelta, **fields: Any
) -> None:
    asked = SummarizeEventsRequest(
        time_range=range_of(START - HOUR, END), group_by=group_by, **fields
    )
    asked.bucket.FromTimedelta(bucket)

    async def call(one: Any, _: Any) -> Any:
        return await stub.SummarizeEvents(one)

    summaries = await walk(call, asked, "summaries")
    keys = [
        (one.bucket_start.ToDatetime(UTC), tuple(one.group[column] for column in group_by))
        for one in summaries
    ]
    wanted = expected(events, group_by, bucket)
    assert keys == sorted(wanted)
    for key, one in zip(keys, summaries, strict=True):
        count, errors, licenses, average, p95, users = wanted[key]
        assert (one.event_count, one.error_count, one.unique_licenses) == (count, errors, licenses)
        assert (
            one.HasField("avg_duration_ms") == one.HasField("p95_duration_ms") == (p95 is not None)
        )
        if p95 is not None:
            assert one.avg_duration_ms == pytest.approx(average, rel=1e-9)
            assert one.p95_duration_ms == pytest.approx(p95, rel=0.0201)
        is_sketched = set(group_by) <= set(USER_COLUMNS) and fields.get("filter", "") in by_users
        assert one.HasField("unique_users") == is_sketched
        # So few users set a bit each.
        assert one.unique_users == (users if is_sketched else 0)


@pytest.mark.parametrize("columnar", [True, False])
async def test_the_roll_up_says_what_the_raw_rows_say(
    settings: Settings,
    serving: Serving,
    fold: Fold,
    connection: Any,
    monkeypatch: pytest.MonkeyPatch,
    columnar: bool,
) -> None:
    if not columnar:
        # A machine without the wheels has neither.
        monkeypatch.setattr(flush, "can_encode", lambda: False)
    chance = random.Random(5)
    chosen = settings.model_copy(update={"columnar_ingest": columnar})
    events: list[Event] = []
    async with serving(chosen) as app, aio.insecure_channel(app.address) as channel:
        stub = EventServiceStub(channel)
        async with IngestCall(channel) as call:
            await call.welcome()
            for number in range(1, 4):
                some = made_up(chance, 400)
                await call.commit(number, *some)
                events += some
                # One part folded twice, one once, one not at all.
                if number < 3:
                    await fold.fold(datetime.now(UTC))
        assert await connection.fetchval("SELECT count(*) FROM event_deltas")
        assert await connection.fetchval("SELECT count(*) FROM event_hours")
        for group_by in ((), ("event_type",), USER_COLUMNS, KEYS):
            for bucket in (HOUR, 3 * HOUR, timedelta(minutes=20)):
                # Arrays of a long range are merged by PostgreSQL.
                for longest in (LONGEST_SENT, timedelta(0)):
                    monkeypatch.setattr(event_summary, "LONGEST_SENT", longest)
                    await check(stub, events, group_by, bucket, page_size=37)
        await fold.fold(datetime.now(UTC))
        assert not await connection.fetchval("SELECT count(*) FROM event_deltas")
        await check(stub, events, KEYS, HOUR)
        # Each group is one row of the roll-up by type, which has what comes of its arrays.
        await check(stub, events, ("event_type",), HOUR)
        of_l1 = [one for one in events if one.license_id == "l1"]
        await check(stub, of_l1, ("event_category",), HOUR, filter="license_id = l1")
        errors = [one for one in events if one.event_type == EventType.EVENT_TYPE_ERROR_EVENT]
        await check(stub, errors, (), 3 * HOUR, filter="event_type = error_event")
        some = [one for one in events if one.license_id == "l1" and one.event_name != "name0"]
        await check(
            stub, some, ("source",), HOUR, filter='license_id = "l1" AND NOT event_name = "name0"'
        )
        await check(
            stub, [one for one in events if one.user_id == "u3"], (), HOUR, filter="user_id = u3"
        )


@pytest.mark.parametrize("rollups", [True, False])
async def test_the_whole_calendar_is_a_range(
    settings: Settings, serving: Serving, rollups: bool
) -> None:
    chosen = settings.model_copy(update={"rollups": rollups})
    async with serving(chosen) as app, aio.insecure_channel(app.address) as channel:
        await ingest(channel, request(*made_up(random.Random(6), 100)))
        asked = SummarizeEventsRequest(
            time_range=range_of(ALL_TIME.start, ALL_TIME.end), group_by=["event_type"]
        )

        async def call(one: Any, _: Any) -> Any:
            return await EventServiceStub(channel).SummarizeEvents(one)

        summaries = await walk(call, asked, "summaries")
    assert sum(one.event_count for one in summaries) == 100
    assert {one.bucket_start.ToDatetime(UTC) for one in summaries} == {ALL_TIME.start}


async def test_without_roll_ups_raw_rows_answer(
    settings: Settings, serving: Serving, connection: Any
) -> None:
    chosen = settings.model_copy(update={"rollups": False})
    events = made_up(random.Random(6), 100)
    async with serving(chosen) as app, aio.insecure_channel(app.address) as channel:
        await ingest(channel, request(*events))
        await check(EventServiceStub(channel), events, KEYS, HOUR)
    assert await connection.fetchval(BOTH) is None
    assert not await connection.fetchval("SELECT count(*) FROM event_user_deltas")


async def test_ragged_ends_and_exact_users_come_from_raw_rows(
    server: Application, channel: aio.Channel, fold: Fold
) -> None:
    stub = EventServiceStub(channel)
    times = [START + minutes * timedelta(minutes=1) for minutes in (10, 70, 130, 190, 200)]
    some = [
        event(event_timestamp=stamp(time), user_id=f"u{n % 2}", duration_ms=10.0 * (n + 1))
        for n, time in enumerate(times)
    ]
    await ingest(channel, request(*some))
    await fold.fold(datetime.now(UTC))
    asked = SummarizeEventsRequest(time_range=range_of(times[0], times[-1]))
    (one,) = (await stub.SummarizeEvents(asked)).summaries
    assert (one.event_count, one.bucket_start) == (4, stamp(times[0]))
    assert one.unique_users == 2
    assert one.avg_duration_ms == 25.0
    assert one.p95_duration_ms == pytest.approx(40.0, rel=0.0201)
    asked.exact_unique_counts = True
    (one,) = (await stub.SummarizeEvents(asked)).summaries
    assert (one.event_count, one.unique_users) == (4, 2)


async def test_many_users_are_counted_within_three_percent(
    server: Application, channel: aio.Channel, connection: Any, fold: Fold
) -> None:
    count = 100_000
    async with IngestCall(channel) as call:
        await call.welcome()
        for batch in range(10):
            numbers = range(batch, count, 10)
            some = (
                event(user_id=f"user-{n}", event_timestamp=stamp(START + n * 6 * HOUR / count))
                for n in numbers
            )
            await call.commit(batch + 1, *some)
    stub = EventServiceStub(channel)
    # Users of one hour come again in another range's raw rows.
    for begin in (START, START - HOUR / 2):
        for _ in range(2):
            asked = SummarizeEventsRequest(time_range=range_of(begin, END + HOUR / 2))
            (one,) = (await stub.SummarizeEvents(asked)).summaries
            assert one.unique_users == pytest.approx(count, rel=0.03)
            asked.bucket.FromTimedelta(HOUR)
            for one in (await stub.SummarizeEvents(asked)).summaries:
                assert one.unique_users == pytest.approx(count / 6, rel=0.03)
            await fold.fold(datetime.now(UTC))
    words, size = await connection.fetchrow(
        "SELECT max(cardinality(user_words)), max(pg_column_size(h)) FROM event_user_hours h"
    )
    assert 400 < words <= 520
    assert size < 5_500


async def test_users_set_the_same_bits_in_sql(connection: Any) -> None:
    users = ["", "u", "ü", "用户-7", "a" * 256, "\x01", " u"] + [f"u{n}" for n in range(2_000)]
    found = await connection.fetch("SELECT user_place(u) AS place FROM unnest($1::text[]) u", users)
    places_of = UserPlaces()
    places = places_of(pa.array(users)).tolist()
    # Known ones too, in another order, beside a new one.
    again = places_of(pa.array([*reversed(users), "new"])).tolist()
    assert again[:-1] == places[::-1]
    assert [row["place"] for row in found] == places
    assert {place // COMPONENT_BITS for place in places} == set(range(COMPONENTS))


async def test_what_a_row_by_type_keeps_is_what_comes_of_its_arrays(connection: Any) -> None:
    chance = random.Random(9)
    for count in (0, 1, 40, 520):
        words = sorted(chance.sample(range(520), count))
        bits = [chance.randrange(-(2**63), 2**63) for _ in words]
        amounts = [chance.randrange(1, 10**9) for _ in words]
        row = await connection.fetchrow(
            "SELECT user_sketch_set_bits($1::int2[], $2::int8[]) AS set_bits,"
            " histogram_percentile_bucket($1::int2[], $3::int8[], 0.95) AS p95_bucket,"
            " array_send($1::int2[]) || array_send($2::int8[]) AS sketch,"
            " array_send($1::int2[]) || array_send($3::int8[]) AS histogram",
            words,
            bits,
            amounts,
        )
        if count:
            assert row["set_bits"] == set_bits(row["sketch"])
            assert row["p95_bucket"] == percentile_bucket(row["histogram"], 0.95)
        else:
            assert (row["set_bits"], row["p95_bucket"]) == ([0] * COMPONENTS, None)


async def test_repeats_do_not_count(
    server: Application, channel: aio.Channel, connection: Any
) -> None:
    sent = request(event(), event(), request_id="00000000-0000-4000-8000-000000000001")
    for _ in range(3):
        await ingest(channel, sent)
    assert await connection.fetchval(BOTH) == 2


async def test_a_fold_killed_at_any_point_neither_loses_nor_doubles(
    server: Application, channel: aio.Channel, connection: Any, fold: Fold, database: str
) -> None:
    raw = "SELECT count(*) FROM telemetry_events"
    chance = random.Random(7)
    for _ in range(5):
        await ingest(channel, request(*made_up(chance, 50)))
        victim = await asyncpg.connect(database)
        transaction = victim.transaction()
        await transaction.start()
        await victim.execute(sql.hold_fold)
        folded = await victim.fetchval(rollup_sql.fold, 20, 1_000, START - HOUR)
        assert folded == 20
        pid = victim.get_server_pid()
        assert await connection.fetchval(BOTH) == await connection.fetchval(raw)
        await connection.execute("SELECT pg_terminate_backend($1, 20000)", pid)
        victim.terminate()
        assert await connection.fetchval(BOTH) == await connection.fetchval(raw)
        # And one that is not: half of what is there, in the snapshot of a reader.
        async with connection.transaction(isolation="repeatable_read"):
            before = await connection.fetchval(raw)
            await fold.fold(datetime.now(UTC))
            assert await connection.fetchval(BOTH) == before
        assert await connection.fetchval(BOTH) == await connection.fetchval(raw)
        assert not await connection.fetchval("SELECT count(*) FROM event_deltas")


async def test_two_folds_at_once_share_the_work(
    server: Application, channel: aio.Channel, connection: Any, fold: Fold
) -> None:
    await ingest(channel, request(*made_up(random.Random(9), 300)))
    await asyncio.gather(fold.fold(datetime.now(UTC)), fold.fold(datetime.now(UTC)))
    assert await connection.fetchval(BOTH) == 300
    assert not await connection.fetchval("SELECT count(*) FROM event_deltas")


async def test_names_beyond_the_cap_are_other(
    server: Application, channel: aio.Channel, connection: Any, fold: Fold
) -> None:
    stub = EventServiceStub(channel)
    at = stamp(START + HOUR / 2)
    names = [f"n{number:05}" for number in range(EVENT_NAMES_PER_HOUR + 30)]
    await ingest(channel, request(*(event(name, event_timestamp=at) for name in names)))
    await fold.fold(datetime.now(UTC))
    # Known, unknown and not folded, another licence.
    late = [
        event(names[0], event_timestamp=at),
        event("new", event_timestamp=at),
        event("new", event_timestamp=at, license_id="l"),
    ]
    await ingest(channel, request(*late))
    wanted = Counter(names[:EVENT_NAMES_PER_HOUR])
    wanted.update({"__other__": 31, names[0]: 1, "new": 1})

    async def call(one: Any, _: Any) -> Any:
        return await stub.SummarizeEvents(one)

    for _ in range(2):
        asked = SummarizeEventsRequest(time_range=range_of(START, END), group_by=["event_name"])
        found = await walk(call, asked, "summaries")
        assert {one.group["event_name"]: one.event_count for one in found} == wanted
        # A filter on a name that the cap may have taken in is answered by the raw rows.
        named = SummarizeEventsRequest(
            time_range=range_of(START, END), filter=f"event_name = {names[-1]}"
        )
        (one,) = (await stub.SummarizeEvents(named)).summaries
        assert one.event_count == 1
        await fold.fold(datetime.now(UTC))


async def test_what_is_past_its_term_goes_and_emptied_partitions_too(
    connection: Any, control: ControlPool, database: str
) -> None:
    fold = Fold(control, session_settings(database), RollupTerms(2, 2))
    now = datetime.now(UTC)
    hour = now.replace(minute=0, second=0, microsecond=0)
    for hours, name in ((5, "old"), (4, "kept")):
        start = hour - hours * HOUR
        await connection.execute(
            f"CREATE TABLE event_deltas_{name} PARTITION OF {EVENT_DELTAS.name} "
            f"FOR VALUES FROM ('{start}') TO ('{start + HOUR}')"
        )
    columns = {
        "shard": 0,
        "event_type": "api_event",
        "event_category": "",
        "event_name": "n",
        "license_id": "",
        "source": "",
        "event_count": 1,
        "duration_count": 0,
        "duration_sum": 0.0,
        "duration_buckets": [],
        "duration_counts": [],
    }
    for days in (3, 1):
        delta = {"flushed_at": hour - 4 * HOUR, "hour": hour - timedelta(days=days)} | columns
        await copy(connection, "event_deltas", [delta])
        await copy(connection, "event_hours", [{"hour": hour - timedelta(days=days + 4)} | columns])
    await fold.clean(now)
    exists = "SELECT to_regclass($1) IS NOT NULL"
    assert not await connection.fetchval(exists, "event_deltas_old")
    assert await connection.fetchval(exists, "event_deltas_kept")
    assert not await connection.fetchval("SELECT count(*) FROM event_hours")
    await fold.fold(now)
    found = await connection.fetch("SELECT hour FROM event_hours")
    assert [row["hour"] for row in found] == [hour - timedelta(days=1)]
    await fold.clean(now)
    assert not await connection.fetchval(exists, "event_deltas_kept")


async def test_events_of_a_hand_written_row_are_not_missed_by_raw_buckets(
    connection: Any, control: ControlPool, server: Application, channel: aio.Channel
) -> None:
    """Rows that came without a delta show where raw rows are asked."""
    await make_partition(control, "telemetry_events", START + HOUR)
    await copy(connection, "telemetry_events", [event_row(START + HOUR)])
    asked = SummarizeEventsRequest(time_range=range_of(START, END), filter="session_id = ''")
    (one,) = (await EventServiceStub(channel).SummarizeEvents(asked)).summaries
    assert one.event_count == 1
