"""The series dictionary against a real database: ids, the limit, the window, many servers."""

from __future__ import annotations

import asyncio
import random
from collections import Counter
from collections.abc import AsyncIterator, Callable
from datetime import date, timedelta
from typing import Any

import pytest

from fernando_telemetry.domain.series import SeriesIdentity
from fernando_telemetry.domain.series_overflow import OVERFLOW
from fernando_telemetry.storage.series import SeriesDictionary
from fernando_telemetry.storage.series_admission import SeriesLimits
from tests.integration.storage.series_sessions import TODAY, CountingPool, series, users

Servers = Callable[[SeriesLimits], tuple[SeriesDictionary, CountingPool]]


@pytest.fixture
async def servers(database: str) -> AsyncIterator[Servers]:
    """Make dictionaries, each as on a server of its own."""
    pools: list[CountingPool] = []

    def make(limits: SeriesLimits) -> tuple[SeriesDictionary, CountingPool]:
        pools.append(CountingPool(database))
        return SeriesDictionary(pools[-1], limits, cache_bytes=4 * 1024 * 1024), pools[-1]

    yield make
    for pool in pools:
        await pool.close()


async def stored(connection: Any, metric_name: str = "requests") -> int:
    count: int = await connection.fetchval(
        "SELECT count(*) FROM metric_series WHERE metric_name = $1", metric_name
    )
    return count


async def labels_of(connection: Any, series_id: int) -> dict[str, str]:
    rows = await connection.fetch(
        "SELECT l.key, l.value FROM metric_series s, jsonb_each_text(s.labels) l "
        "WHERE series_id = $1",
        series_id,
    )
    return {row["key"]: row["value"] for row in rows}


async def age(connection: Any, days: int, condition: str = "true") -> None:
    """Let series look as if they had last been seen so many days before TODAY."""
    await connection.execute(
        f"UPDATE metric_series SET seen_on = $1 WHERE {condition}", TODAY - timedelta(days=days)
    )


async def test_ids_are_the_same_on_every_server_and_known_ones_cost_no_query(
    servers: Servers,
) -> None:
    one, pool = servers(SeriesLimits(100))
    two, _ = servers(SeriesLimits(100))
    wanted = [*users(0, 10), *users(0, 5, license_id="acme")]
    first = await one.resolve(wanted, TODAY)
    assert len({resolved.series_id for resolved in first.values()}) == 15
    before = pool.transactions
    assert await one.resolve(wanted * 2, TODAY) == first
    assert pool.transactions == before
    assert await two.resolve(wanted, TODAY) == first


async def test_a_series_in_use_is_noted_as_seen_each_day(servers: Servers, connection: Any) -> None:
    one, _ = servers(SeriesLimits(100))
    seen = "SELECT DISTINCT seen_on FROM metric_series"
    first = await one.resolve(users(0, 3), TODAY)
    for day in range(3):
        today = TODAY + timedelta(days=day)
        assert await one.resolve(users(0, 3), today) == first
        assert [row["seen_on"] for row in await connection.fetch(seen)] == [today]


async def test_the_label_with_most_values_overflows_and_the_others_stay(
    servers: Servers, connection: Any
) -> None:
    one, _ = servers(SeriesLimits(6))
    wanted = [series(user=f"u{n}", region=("eu", "us")[n % 2]) for n in range(20)]
    resolved = await one.resolve(wanted, TODAY)
    own = [one for one in resolved.values() if not one.overflowed_label]
    assert len(own) == 6
    assert await stored(connection) == 6 + 2
    for identity, found in resolved.items():
        labels = await labels_of(connection, found.series_id)
        if found.overflowed_label:
            assert found.overflowed_label == "user"
            assert labels == {"user": OVERFLOW, "region": dict(identity.labels)["region"]}
        else:
            assert labels == dict(identity.labels)


async def test_series_that_exist_go_on_when_their_metric_is_full(servers: Servers) -> None:
    one, _ = servers(SeriesLimits(5))
    two, _ = servers(SeriesLimits(5))
    first = await one.resolve(users(0, 5), TODAY)
    await one.resolve(users(5, 20), TODAY)
    again = await two.resolve(users(0, 20), TODAY)
    assert {one: again[one] for one in first} == first
    assert len({one.series_id for one in again.values()}) == 6


async def test_a_limit_is_for_one_metric_of_one_licence(servers: Servers, connection: Any) -> None:
    one, _ = servers(SeriesLimits(3))
    metrics = [{"license_id": ""}, {"license_id": "acme"}, {"metric_name": "errors"}]
    resolved = await one.resolve([s for m in metrics for s in users(0, 5, **m)], TODAY)
    overflowed = Counter(
        (identity.metric_name, identity.license_id)
        for identity, found in resolved.items()
        if found.overflowed_label
    )
    assert overflowed == {("requests", ""): 2, ("requests", "acme"): 2, ("errors", ""): 2}


async def test_series_unseen_for_seven_days_make_room(servers: Servers, connection: Any) -> None:
    one, _ = servers(SeriesLimits(4))
    await one.resolve(users(0, 4), TODAY - timedelta(days=20))
    await age(connection, 6)
    assert all(r.overflowed_label for r in (await one.resolve(users(4, 6), TODAY)).values())
    later = TODAY + timedelta(days=1)
    resolved = await one.resolve(users(6, 12), later)
    # The overflow series of the day before is one of the four.
    assert sum(not found.overflowed_label for found in resolved.values()) == 3


async def test_a_series_that_comes_back_needs_room_again(servers: Servers, connection: Any) -> None:
    one, _ = servers(SeriesLimits(3))
    first = await one.resolve(users(0, 3), TODAY - timedelta(days=20))
    await age(connection, 15)
    await one.resolve(users(3, 6), TODAY)
    back = await one.resolve(users(0, 1), TODAY)
    assert back[series(user="u0")].overflowed_label == "user"
    # With room it has its former id.
    roomy, _ = servers(SeriesLimits(10))
    assert await roomy.resolve(users(0, 1), TODAY) == {series(user="u0"): first[series(user="u0")]}


async def test_a_flood_of_values_costs_one_look_a_batch_and_bounded_memory(
    servers: Servers, connection: Any
) -> None:
    one, pool = servers(SeriesLimits(50))
    first = await one.resolve(users(0, 60), TODAY)
    own = [identity for identity, found in first.items() if not found.overflowed_label]
    made, before = await stored(connection), pool.transactions
    for turn in range(10):
        flood = users(1_000 * (turn + 1), 1_000 * (turn + 2))
        resolved = await one.resolve(flood, TODAY)
        assert {found.overflowed_label for found in resolved.values()} == {"user"}
        assert one.cached_bytes <= 4 * 1024 * 1024
    assert pool.transactions - before == 10
    assert await stored(connection) == made == 51
    # Series in use were not driven out, and a repeat costs nothing.
    before = pool.transactions
    assert not any(found.overflowed_label for found in (await one.resolve(own, TODAY)).values())
    assert pool.transactions == before
    latest = users(10_900, 11_000)
    await one.resolve(latest, TODAY)
    before = pool.transactions
    await one.resolve(latest, TODAY)
    assert pool.transactions == before


async def test_overflow_series_have_a_bound_too(servers: Servers, connection: Any) -> None:
    """5 series, 20 with one label replaced, 2 with all of them, then one."""
    one, _ = servers(SeriesLimits(5, overflow_series=20))
    for turn in range(60):
        wanted = [
            series(service_name=name, instance_id=name, a=name, b=name)
            for name in (f"{turn}-{n}" for n in range(5))
        ]
        await one.resolve(wanted, TODAY)
    assert await stored(connection) == 5 + 20 + 2 + 1
    new = series(service_name="new", instance_id="new", a="new", b="new")
    last = await one.resolve([new], TODAY)
    (found,) = last.values()
    assert found.field_path == "labels"
    assert await labels_of(connection, found.series_id) == {OVERFLOW: OVERFLOW}


async def test_the_label_that_explodes_next_is_found(servers: Servers, connection: Any) -> None:
    one, _ = servers(SeriesLimits(10, overflow_series=30))
    await one.resolve([series(a=f"{n}", b="b") for n in range(12)], TODAY)
    labels = []
    for number in range(20):
        resolved = await one.resolve([series(a="a", b=f"b{number}")], TODAY)
        labels += [found.overflowed_label for found in resolved.values()]
    assert labels[0] == "a"
    assert labels[-1] == "b"


async def test_churning_instances_end_in_few_series(servers: Servers, connection: Any) -> None:
    one, _ = servers(SeriesLimits(5, overflow_series=20))
    for turn in range(30):
        await one.resolve([series(instance_id=f"{turn}-{n}") for n in range(5)], TODAY)
    assert await stored(connection) == 6


async def test_servers_agree_to_the_very_series(servers: Servers, connection: Any) -> None:
    """Eight servers make different series of the same metrics at once, in different orders."""
    limits = SeriesLimits(100)
    metrics = ["a", "b", "c", "d"]

    async def work(number: int) -> Counter[tuple[str, str]]:
        one, _ = servers(limits)
        found: Counter[tuple[str, str]] = Counter()
        for turn in range(6):
            order = random.Random(number).sample(metrics, len(metrics))
            wanted: list[SeriesIdentity] = []
            for metric in order:
                first = 1_000 * number + 10 * turn
                wanted += users(first, first + 10, metric_name=metric)
            resolved = await one.resolve(wanted, TODAY)
            found.update((one.metric_name, r.overflowed_label) for one, r in resolved.items())
        return found

    total: Counter[tuple[str, str]] = Counter()
    for found in await asyncio.gather(*(work(number) for number in range(8))):
        total += found
    for metric in metrics:
        assert total[metric, ""] == 100
        assert total[metric, "user"] == 8 * 6 * 10 - 100
        assert await stored(connection, metric) == 101


async def test_many_metrics_at_once(servers: Servers, connection: Any) -> None:
    """More metrics than PostgreSQL has room for locks."""
    one, _ = servers(SeriesLimits(5))
    two, _ = servers(SeriesLimits(5))
    wanted = [series(f"m{number}") for number in range(6_000)]
    first, second = await asyncio.gather(
        one.resolve(wanted, TODAY), two.resolve(reversed(wanted), TODAY)
    )
    assert first == second
    assert await connection.fetchval("SELECT count(*) FROM series_counts") == 6_000


async def test_all_servers_note_their_series_at_midnight(servers: Servers, connection: Any) -> None:
    wanted = users(0, 300)
    dictionaries = [servers(SeriesLimits(1_000))[0] for _ in range(4)]
    for one in dictionaries:
        await one.resolve(wanted, TODAY)
    for day in range(1, 4):
        today: date = TODAY + timedelta(days=day)
        orders = [random.Random(place).sample(wanted, len(wanted)) for place in range(4)]
        answers = await asyncio.gather(
            *(one.resolve(order, today) for one, order in zip(dictionaries, orders, strict=True))
        )
        assert all(answer == answers[0] for answer in answers)
        assert await connection.fetchval("SELECT min(seen_on) FROM metric_series") == today
