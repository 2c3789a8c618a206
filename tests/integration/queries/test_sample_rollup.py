"""The roll-up of samples: what is folded, what is not and raw rows are one answer."""

from __future__ import annotations

import random
from collections.abc import AsyncIterator
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
from grpc import aio

from fernando.telemetry.v1 import (
    MetricColumns,
    MetricSeries,
    MetricServiceStub,
    MetricType,
)
from fernando_telemetry.domain.retention import Retention
from fernando_telemetry.domain.time_range import TimeRange
from fernando_telemetry.settings import Settings
from fernando_telemetry.storage import flush
from fernando_telemetry.storage.fold import Fold
from fernando_telemetry.storage.rollup import RollupTerms
from fernando_telemetry.storage.rollup_proof import RollupProof
from fernando_telemetry.storage.sample_rollup import SAMPLE_ROLLUP
from fernando_telemetry.storage.sessions import ControlPool
from tests.conftest import Serving, session_settings
from tests.integration.ingest.ingest_call import IngestCall
from tests.integration.ingest.records import sample, stamp
from tests.integration.queries.rows import walk
from tests.integration.queries.test_time_series import (
    Known,
    aligned,
    asking,
    points,
    reduced,
    same,
)

HOUR = timedelta(hours=1)
MINUTE = timedelta(minutes=1)
END = datetime.now(UTC).replace(minute=0, second=0, microsecond=0)
START = END - 5 * HOUR
TERMS = RollupTerms(30, 400)
RETENTION = Retention.of_days(90, 180, 180, 30)
ALIGNS = ("average", "sum", "min", "max", "count", "last")


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


def made_up(chance: random.Random, known: dict[str, Known], count: int) -> list[Any]:
    """Give samples of five hosts, as messages and as columns, and note what they are.

    Some share their moment, some come late, and a minute has many.
    """
    records: list[Any] = []
    hosts = sorted(known)
    columns = MetricColumns(
        series=[
            MetricSeries(
                metric_name="cpu_usage", metric_type=MetricType.METRIC_TYPE_GAUGE, host_name=host
            )
            for host in hosts
        ]
    )
    for _ in range(count):
        host = chance.choice(hosts)
        second = chance.choice([chance.randrange(18_000), chance.randrange(600)])
        time = START + timedelta(seconds=second, milliseconds=chance.choice([0, 500]))
        value = chance.choice([chance.uniform(-100, 100), 7.0])
        known[host].samples.append((time, value))
        if chance.random() < 0.5:
            records.append(
                sample(
                    "cpu_usage", host_name=host, metric_value=value, metric_timestamp=stamp(time)
                )
            )
        else:
            columns.series_index.append(hosts.index(host))
            columns.time_unix_micros.append(stamp(time).ToMicroseconds())
            columns.value.append(value)
    return [*records, columns]


async def differences(proof: RollupProof, *, mends: bool = False) -> int:
    """Prove the roll-up by raw rows; give how many of its groups differ."""
    wanted = TimeRange(START - HOUR, END + HOUR)
    found = [
        one
        for step in await proof.steps([SAMPLE_ROLLUP], wanted, datetime.now(UTC), RETENTION)
        for one in await proof.take(step, mends=mends)
    ]
    assert {one.table for one in found} == {"sample_minutes", "sample_hours"}
    return sum(one.differences for one in found)


@pytest.mark.parametrize("columnar", [True, False])
async def test_the_roll_up_says_what_the_raw_rows_say(
    settings: Settings,
    serving: Serving,
    fold: Fold,
    proof: RollupProof,
    connection: Any,
    monkeypatch: pytest.MonkeyPatch,
    columnar: bool,
) -> None:
    if not columnar:
        # A machine without the wheels has neither.
        monkeypatch.setattr(flush, "can_encode", lambda: False)
    chance = random.Random(11)
    known = {f"h{place}": Known("", f"h{place}", "", None) for place in range(5)}
    chosen = settings.model_copy(update={"columnar_ingest": columnar})
    async with serving(chosen) as app, aio.insecure_channel(app.address) as channel:
        metrics = MetricServiceStub(channel)

        async def computed(request: Any) -> list[Any]:
            async def call(one: Any, _: Any) -> Any:
                return await metrics.QuerySystemMetrics(one)

            return await walk(call, request, "time_series")

        async def check(start: datetime, end: datetime, period: timedelta) -> None:
            for align in ALIGNS:
                found = await computed(asking(start, end, period, align, page_size=2))
                for one in found:
                    same(
                        points(one),
                        aligned(known[one.series.host_name], start, end, period, align),
                    )
                assert {one.series.host_name for one in found} == set(known)
                (line,) = await computed(asking(start, end, period, align, reduce="max"))
                lines = [aligned(one, start, end, period, align) for one in known.values()]
                same(points(line), reduced(lines, "max"))

        async with IngestCall(channel) as call:
            await call.welcome()
            for number in range(1, 4):
                await call.commit(number, *made_up(chance, known, 500))
                # One part folded twice, one once, one not at all.
                if number < 3:
                    await fold.fold(datetime.now(UTC))
        assert await connection.fetchval("SELECT count(*) FROM sample_deltas")
        assert await connection.fetchval("SELECT count(*) FROM sample_minutes")
        for one in known.values():
            one.samples.sort()
        assert await differences(proof) == 0
        ragged = timedelta(minutes=17, seconds=13)
        for period in (MINUTE, 7 * MINUTE, HOUR, 2 * HOUR, timedelta(seconds=90)):
            await check(START, END, period)
            await check(START + ragged, END - ragged, period)
        await fold.fold(datetime.now(UTC))
        assert not await connection.fetchval("SELECT count(*) FROM sample_deltas")
        assert await differences(proof) == 0
        await check(START + ragged, END, MINUTE)
        await check(START, END - ragged, HOUR)
        # It is the roll-up that answers.
        await connection.execute("TRUNCATE metric_samples")
        await check(START, END, MINUTE)
        await check(START, END, HOUR)


async def test_rebuild_mends_what_differs(
    settings: Settings, serving: Serving, fold: Fold, proof: RollupProof, connection: Any
) -> None:
    chance = random.Random(12)
    known = {f"h{place}": Known("", f"h{place}", "", None) for place in range(3)}
    rows = "SELECT * FROM sample_minutes ORDER BY 1, 2, 3"
    async with (
        serving(settings) as app,
        aio.insecure_channel(app.address) as channel,
        IngestCall(channel) as call,
    ):
        await call.welcome()
        await call.commit(1, *made_up(chance, known, 400))
        await fold.fold(datetime.now(UTC))
        await call.commit(2, *made_up(chance, known, 400))
    before = [tuple(row) for row in await connection.fetch(rows)]
    assert await differences(proof) == 0
    await connection.execute(
        "UPDATE sample_minutes SET value_max = value_max + 1 WHERE minute < $1", START + HOUR
    )
    await connection.execute("DELETE FROM sample_hours WHERE hour >= $1", END - HOUR)
    await connection.execute(
        "DELETE FROM sample_deltas WHERE minute BETWEEN $1 AND $2", START + HOUR, END - HOUR
    )
    assert await differences(proof) > 10
    assert await differences(proof, mends=True) > 10
    assert await differences(proof) == 0
    await fold.fold(datetime.now(UTC))
    assert await differences(proof) == 0
    after = [tuple(row) for row in await connection.fetch(rows)]
    assert len(after) > len(before)


async def test_odd_values_never_stop_the_fold(
    settings: Settings, serving: Serving, fold: Fold, proof: RollupProof
) -> None:
    """A sum that runs over would be an error in every turn of the fold, for ever."""
    values = [1.7e308, 1.7e308, -1.7e308, 5e-324, 9e289, 9e289]
    async with serving(settings) as app, aio.insecure_channel(app.address) as channel:
        async with IngestCall(channel) as call:
            await call.welcome()
            for number in range(1, 4):
                metrics = [
                    sample(
                        "cpu_usage",
                        metric_value=value,
                        metric_timestamp=stamp(START + place % 3 * MINUTE),
                    )
                    for place, value in enumerate(values)
                ]
                await call.commit(number, *metrics)
                await fold.fold(datetime.now(UTC))
        stub = MetricServiceStub(channel)
        for align in ALIGNS:
            (line,) = (await stub.QuerySystemMetrics(asking(START, END, MINUTE, align))).time_series
            assert len(line.values) == 3
    assert await differences(proof) == 0


async def test_what_is_past_its_term_is_dropped(
    settings: Settings, serving: Serving, database: str, connection: Any
) -> None:
    now = datetime.now(UTC)
    control = ControlPool(session_settings(database), 2)
    short = Fold(control, session_settings(database), RollupTerms(2, 5))
    old = [now - days * timedelta(days=1) for days in (1, 3, 7)]
    async with (
        serving(settings) as app,
        aio.insecure_channel(app.address) as channel,
        IngestCall(channel) as call,
    ):
        await call.welcome()
        await call.commit(1, *(sample(metric_timestamp=stamp(time)) for time in old))
    # As far as they are kept they are folded, the rest is not.
    await short.fold(now)
    assert not await connection.fetchval("SELECT count(*) FROM sample_deltas")
    assert await connection.fetchval("SELECT count(*) FROM sample_minutes") == 1
    assert await connection.fetchval("SELECT count(*) FROM sample_hours") == 2
    await short.clean(now + timedelta(days=1, hours=1))
    assert await connection.fetchval("SELECT count(*) FROM sample_minutes") == 0
    assert await connection.fetchval("SELECT count(*) FROM sample_hours") == 2
    await short.clean(now + timedelta(days=3))
    assert await connection.fetchval("SELECT count(*) FROM sample_hours") == 1
    await control.close()
