"""QuerySystemMetrics: what it computes, held against plain Python over the same samples."""

from __future__ import annotations

import math
import random
from collections import defaultdict
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest

from fernando.telemetry.v1 import (
    Aggregation,
    GapFill,
    MetricSeries,
    MetricType,
    QuerySystemMetricsRequest,
    TimeSeries,
)
from fernando_telemetry.domain.errors import (
    AggregationNotApplicable,
    InvalidField,
    InvalidPageToken,
    QueryTooExpensive,
)
from fernando_telemetry.queries.metrics import MetricQueries
from fernando_telemetry.storage.snapshots import Snapshots
from fernando_telemetry.transport.metric_servicer import MetricService
from tests.integration.queries.rows import copy, day, distribution, range_of, sample, series, walk

SECOND = timedelta(seconds=1)
MINUTE = timedelta(minutes=1)
EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
SHARES = {"p50": 0.5, "p90": 0.9, "p95": 0.95, "p99": 0.99}


def number(word: str) -> Any:
    return Aggregation.Value(f"AGGREGATION_{word.upper()}")


def asking(
    start: datetime, end: datetime, period: timedelta, align: str, **fields: Any
) -> QuerySystemMetricsRequest:
    fields.setdefault("metric_name", "cpu_usage")
    if "reduce" in fields:
        fields["reduce"] = number(fields["reduce"])
    request = QuerySystemMetricsRequest(
        time_range=range_of(start, end), align=number(align), **fields
    )
    request.alignment_period.FromTimedelta(period)
    return request


async def computed(metrics: MetricService, request: QuerySystemMetricsRequest) -> list[TimeSeries]:
    return await walk(metrics.QuerySystemMetrics, request, "time_series")


def points(one: TimeSeries) -> dict[datetime, tuple[float, int]]:
    assert list(one.bucket_start_unix_micros) == sorted(set(one.bucket_start_unix_micros))
    return {
        EPOCH + timedelta(microseconds=micros): (value, count)
        for micros, value, count in zip(
            one.bucket_start_unix_micros, one.values, one.sample_counts, strict=True
        )
    }


@dataclass
class Known:
    """A series and its samples, as Python has them."""

    identity: str
    host: str
    zone: str
    temporality: str | None
    samples: list[tuple[datetime, float]] = field(default_factory=list)


def bucket(time: datetime, period: timedelta) -> datetime:
    return time - (time - EPOCH) % period


def disc(values: Sequence[float], share: float) -> float:
    """Give the value of a rank: the smallest that a share of all does not exceed."""
    return sorted(values)[math.ceil(share * len(values)) - 1]


OF_VALUES: dict[str, Callable[[Sequence[float]], float]] = {
    "average": lambda values: math.fsum(values) / len(values),
    "sum": math.fsum,
    "min": min,
    "max": max,
    "count": len,
    **{word: (lambda values, share=share: disc(values, share)) for word, share in SHARES.items()},  # type: ignore[misc]
}


def aligned(
    one: Known, start: datetime, end: datetime, period: timedelta, align: str
) -> dict[datetime, tuple[float, int, datetime]]:
    """Give value, count and last time of each bucket of one series."""
    samples = sorted(one.samples)
    found: dict[datetime, list[int]] = defaultdict(list)
    for place, (time, _) in enumerate(samples):
        if start <= time < end:
            found[bucket(time, period)].append(place)
    answer = {}
    for at, places in found.items():
        values = [samples[place][1] for place in places]
        last_time = samples[places[-1]][0]
        if align == "last":
            value: float | None = values[-1]
        elif align in ("rate", "delta"):
            value = growth(one, samples, places, start - max(period, 5 * MINUTE), align)
        else:
            value = OF_VALUES[align](values)
        if value is not None:
            answer[at] = (value, len(places), last_time)
    return answer


def growth(
    one: Known,
    samples: list[tuple[datetime, float]],
    places: list[int],
    back: datetime,
    align: str,
) -> float | None:
    grown, begun = [], []
    for place in places:
        value = samples[place][1]
        before = samples[place - 1] if place and samples[place - 1][0] >= back else None
        if before is not None:
            begun.append(before[0])
        if one.temporality == "delta":
            # The time that a first sample grew in is not known: it has no rate.
            if before is not None or align == "delta":
                grown.append(value)
        elif before is not None:
            grown.append(value - before[1] if value >= before[1] else value)
    if not grown:
        return None
    if align == "delta":
        return math.fsum(grown)
    return math.fsum(grown) / ((samples[places[-1]][0] - min(begun)) / SECOND)


def reduced(
    lines: list[dict[datetime, tuple[float, int, datetime]]], reduce: str
) -> dict[datetime, tuple[float, int]]:
    by_bucket: dict[datetime, list[tuple[datetime, int, float, int]]] = defaultdict(list)
    for place, line in enumerate(lines):
        for at, (value, count, last_time) in line.items():
            by_bucket[at].append((last_time, place, value, count))
    answer = {}
    for at, found in by_bucket.items():
        values = [value for _, _, value, _ in found]
        value = max(found)[2] if reduce == "last" else OF_VALUES[reduce](values)
        answer[at] = (value, sum(count for *_, count in found))
    return answer


async def made_up(
    connection: Any, chance: random.Random, today: datetime, metric_type: str
) -> list[Known]:
    """Store series of two hosts and zones over an hour; counters count on and reset."""
    made = []
    for place in range(7):
        host, zone = f"h{place % 2}", ("a", "b", "")[place % 3]
        temporality = ("cumulative", "delta")[place % 2] if metric_type == "counter" else None
        number, identity = await series(
            connection,
            metric_type=metric_type,
            host_name=host,
            labels=f'{{"zone": "{zone}"}}' if zone else "{}",
            temporality=temporality,
        )
        one = Known(identity.hex, host, zone, temporality)
        value = 0.0
        for _ in range(chance.randrange(60, 200)):
            time = today + timedelta(microseconds=chance.randrange(3_600_000_000))
            one.samples.append((time, 0.0))
        for index, (time, _) in enumerate(sorted(one.samples)):
            if metric_type == "counter":
                step = chance.uniform(0, 5)
                resets = chance.random() < 0.05
                value = step if temporality == "delta" or resets else value + step
            else:
                value = chance.uniform(-100, 100)
            one.samples[index] = (time, value)
        one.samples.sort()
        await copy(
            connection,
            "metric_samples",
            [sample(number, time, value) for time, value in one.samples],
        )
        made.append(one)
    # Another metric is never read.
    other, _ = await series(connection, metric_name="memory_usage", metric_type=metric_type)
    await copy(connection, "metric_samples", [sample(other, today + MINUTE, 1e9)])
    return made


def same(found: dict[datetime, tuple[float, int]], wanted: dict[Any, Any]) -> None:
    assert found.keys() == wanted.keys()
    for at, (value, count) in found.items():
        assert count == wanted[at][1]
        assert value == pytest.approx(wanted[at][0], rel=1e-9, abs=1e-9, nan_ok=True)


ALIGNS = {
    "gauge": ("average", "sum", "min", "max", "count", "last", *SHARES),
    "counter": ("average", "max", "count", "last", "rate", "delta"),
}


@pytest.mark.parametrize("metric_type", ["gauge", "counter"])
async def test_every_alignment_of_each_series(
    metrics: MetricService, connection: Any, today: datetime, metric_type: str
) -> None:
    made = await made_up(connection, random.Random(1), today, metric_type)
    for align in ALIGNS[metric_type]:
        for period in (MINUTE, 7 * SECOND, 17 * MINUTE, timedelta(hours=2)):
            start, end = today + 61 * SECOND, today + 49 * MINUTE + timedelta(microseconds=7)
            found = await computed(metrics, asking(start, end, period, align, page_size=3))
            wanted = [
                (one.identity, line)
                for one in made
                if (line := aligned(one, start, end, period, align))
            ]
            assert [given.series.series_id for given in found] == [name for name, _ in wanted]
            for given, (_, line) in zip(found, wanted, strict=True):
                same(points(given), line)


@pytest.mark.parametrize("reduce", ["average", "sum", "min", "max", "count", "last", "p50", "p95"])
@pytest.mark.parametrize("fields", [(), ("host_name",), ("labels.zone", "host_name")])
async def test_every_reduction(
    metrics: MetricService,
    connection: Any,
    today: datetime,
    reduce: str,
    fields: tuple[str, ...],
) -> None:
    made = await made_up(connection, random.Random(2), today, "gauge")
    start, end, period = today, today + timedelta(hours=1), 5 * MINUTE
    groups: dict[tuple[str, ...], list[Known]] = defaultdict(list)
    for one in made:
        groups[tuple({"host_name": one.host}.get(name, one.zone) for name in fields)].append(one)
    for align in ("average", "last", "count", "max"):
        request = asking(start, end, period, align, reduce=reduce, group_by=fields, page_size=2)
        found = await computed(metrics, request)
        for given, key in zip(found, sorted(groups), strict=True):
            named = dict(zip(fields, key, strict=True))
            zone = named.get("labels.zone", "")
            assert given.series == MetricSeries(
                host_name=named.get("host_name", ""), labels={"zone": zone} if zone else {}
            )
            lines = [aligned(member, start, end, period, align) for member in groups[key]]
            same(points(given), reduced(lines, reduce))


async def test_percentiles_of_a_group_are_of_all_its_values(
    metrics: MetricService, connection: Any, today: datetime
) -> None:
    made = await made_up(connection, random.Random(3), today, "gauge")
    end = today + timedelta(hours=1)
    (found,) = await computed(metrics, asking(today, end, 60 * MINUTE, "p90", reduce="p90"))
    values = [value for one in made for _, value in one.samples]
    assert points(found) == {today: (disc(values, 0.9), len(values))}
    for reduce in ("min", "max", "count", "last"):
        request = asking(today, end, 10 * MINUTE, "p90", reduce=reduce, group_by=["host_name"])
        for given, host in zip(await computed(metrics, request), ("h0", "h1"), strict=True):
            lines = [
                aligned(member, today, end, 10 * MINUTE, "p90")
                for member in made
                if member.host == host
            ]
            same(points(given), reduced(lines, reduce))


async def test_percentiles_come_from_distributions_then_from_given_ones_then_from_values(
    metrics: MetricService, connection: Any, today: datetime
) -> None:
    one, _ = await series(connection, metric_type="timer", host_name="h1")
    two, _ = await series(connection, metric_type="timer", host_name="h2")
    counted: dict[str, Any] = {
        "value": None,
        "percentile_50": None,
        "distribution_count": 10,
        "distribution_sum": 60.0,
        "distribution_min": 2.0,
        "distribution_max": 12.0,
        "upper_bounds": [4.0, 8.0],
        "bucket_counts": [4, 4, 2],
    }
    nothing: dict[str, Any] = dict.fromkeys(counted)
    await copy(
        connection,
        "metric_distributions",
        [
            # The first minute has distributions, one of them in each series.
            distribution(one, today, 0, **counted),
            distribution(two, today + SECOND, 1, **(counted | {"bucket_counts": [0, 0, 10]})),
            distribution(one, today + 2 * SECOND, 2, **(nothing | {"percentile_50": 900.0})),
            # The second has given ones, which win against values.
            distribution(one, today + MINUTE, 3, **(nothing | {"percentile_50": 7.0})),
            distribution(one, today + MINUTE, 4, **(nothing | {"percentile_50": 5.0, "value": 1})),
            # The fourth has none of the kind asked for.
            distribution(one, today + 3 * MINUTE, 5, **nothing | {"value": 3.0}),
        ],
    )
    await copy(
        connection,
        "metric_samples",
        [
            sample(one, today + MINUTE, 100.0),
            *(sample(one, today + 2 * MINUTE, float(value)) for value in (4, 1, 3, 2)),
        ],
    )
    end = today + 5 * MINUTE
    first, second = await computed(metrics, asking(today, end, MINUTE, "p50"))
    assert points(first) == {
        today: (5.0, 2),
        today + MINUTE: (7.0, 3),
        today + 2 * MINUTE: (2.0, 4),
        today + 3 * MINUTE: (3.0, 1),
    }
    assert points(second) == {today: (10.0, 1)}
    # Both series of the first minute together: 4 + 4 + 12 values.
    (both,) = await computed(metrics, asking(today, today + MINUTE, MINUTE, "p50", reduce="p50"))
    assert both.values[0] == pytest.approx(8 + 4 * 2 / 12)
    assert list(both.sample_counts) == [3]
    (most,) = await computed(metrics, asking(today, today + MINUTE, MINUTE, "p50", reduce="max"))
    assert points(most) == {today: (10.0, 3)}
    (average, _) = await computed(metrics, asking(today, end, MINUTE, "average"))
    assert points(average)[today] == (6.0, 2)
    assert points(average)[today + MINUTE] == (50.5, 3)
    (low, _) = await computed(metrics, asking(today, end, MINUTE, "min"))
    assert points(low)[today] == (2.0, 2)


async def test_cumulative_distributions_count_what_came_in(
    metrics: MetricService, connection: Any, today: datetime
) -> None:
    one, _ = await series(connection, metric_type="distribution", temporality="cumulative")

    def at(minute: int, counts: list[int], total: float, ordinal: int) -> dict[str, Any]:
        return distribution(
            one,
            today + minute * MINUTE,
            ordinal,
            distribution_count=sum(counts),
            distribution_sum=total,
            distribution_min=0.0,
            distribution_max=40.0,
            upper_bounds=[10.0, 20.0],
            bucket_counts=counts,
        )

    await copy(
        connection,
        "metric_distributions",
        [
            at(0, [5, 0, 0], 25.0, 0),
            at(1, [5, 4, 0], 85.0, 1),
            # The sender began anew.
            at(2, [2, 0, 0], 10.0, 2),
            at(3, [2, 0, 0], 10.0, 3),
        ],
    )
    start, end = today + MINUTE, today + 4 * MINUTE
    (found,) = await computed(metrics, asking(start, end, MINUTE, "p50"))
    assert points(found) == {start: (15.0, 1), start + MINUTE: (5.0, 1)}
    (found,) = await computed(metrics, asking(start, end, MINUTE, "average"))
    assert points(found) == {start: (15.0, 1), start + MINUTE: (5.0, 1)}


async def test_gaps(metrics: MetricService, connection: Any, today: datetime) -> None:
    one, _ = await series(connection)
    await copy(
        connection,
        "metric_samples",
        [sample(one, today + MINUTE, 5.0), sample(one, today + 3 * MINUTE, 7.0)],
    )
    wanted: dict[Any, list[Any]] = {
        GapFill.GAP_FILL_UNSPECIFIED: [None, 5, None, 7, None],
        GapFill.GAP_FILL_NONE: [None, 5, None, 7, None],
        GapFill.GAP_FILL_NAN: [math.nan, 5, math.nan, 7, math.nan],
        GapFill.GAP_FILL_PREVIOUS: [None, 5, 5, 7, 7],
        GapFill.GAP_FILL_ZERO: [0, 5, 0, 7, 0],
    }
    for gap_fill, values in wanted.items():
        request = asking(today, today + 5 * MINUTE, MINUTE, "max", gap_fill=gap_fill)
        (found,) = await computed(metrics, request)
        same(
            points(found),
            {
                today + place * MINUTE: (value, int(place in (1, 3)))
                for place, value in enumerate(values)
                if value is not None
            },
        )


async def test_filters_on_series_and_on_samples(
    metrics: MetricService, connection: Any, today: datetime
) -> None:
    made = await made_up(connection, random.Random(4), today, "gauge")
    end = today + timedelta(hours=1)

    async def sums(text: str) -> dict[str, float]:
        found = await computed(metrics, asking(today, end, timedelta(hours=1), "sum", filter=text))
        return {one.series.series_id: one.values[0] for one in found}

    def expected(chosen: Callable[[Known, float], bool]) -> dict[str, Any]:
        return {
            one.identity: pytest.approx(
                math.fsum(value for _, value in one.samples if chosen(one, value)), abs=1e-9
            )
            for one in made
            if any(chosen(one, value) for _, value in one.samples)
        }

    assert await sums("host_name = h1") == expected(lambda one, _: one.host == "h1")
    assert await sums('labels.zone = "a" AND metric_value > 50') == expected(
        lambda one, value: one.zone == "a" and value > 50
    )
    assert await sums("host_name = h0 OR metric_value < 0") == expected(
        lambda one, value: one.host == "h0" or value < 0
    )
    assert await sums("metric_name = memory_usage") == {}


async def test_values_whose_sum_no_double_holds(
    metrics: MetricService, connection: Any, today: datetime
) -> None:
    """One sender's odd values must not be an error for everybody who asks."""
    one, _ = await series(connection)
    await copy(
        connection,
        "metric_samples",
        [
            *[sample(one, today, 1.7e308)] * 2,
            *[sample(one, today + MINUTE, -1.7e308)] * 2,
            *[sample(one, today + 2 * MINUTE, 5e-324)] * 3,
            *[sample(one, today + 3 * MINUTE, value) for value in (1.7e308, -1.7e308)],
        ],
    )
    for align in ("sum", "average"):
        request = asking(today, today + 5 * MINUTE, MINUTE, align)
        (found,) = await computed(metrics, request)
        assert list(found.values[:2]) == [math.inf, -math.inf]
        assert found.values[2] == pytest.approx(0, abs=1e-300)
        assert math.isnan(found.values[3])
    for reduce in ("sum", "average", "max"):
        await computed(metrics, asking(today, today + DAY, DAY, "last", reduce=reduce))


DAY = timedelta(days=1)


async def test_no_series_is_an_empty_answer(metrics: MetricService, today: datetime) -> None:
    for align in Aggregation.keys():  # noqa: SIM118  # an enum has no other way
        request = asking(today, today + MINUTE, SECOND, "average")
        request.align = Aggregation.Value(align)
        assert await computed(metrics, request) == []


async def test_at_most_11000_buckets(
    metrics: MetricService, connection: Any, today: datetime
) -> None:
    one, _ = await series(connection)
    await copy(connection, "metric_samples", [sample(one, today, 1.0)])
    end = today + 11_000 * SECOND
    fits = asking(today, end, SECOND, "max", gap_fill=GapFill.GAP_FILL_ZERO)
    (found,) = await computed(metrics, fits)
    assert len(found.values) == 11_000
    with pytest.raises(QueryTooExpensive, match="smallest that fits is 2 s"):
        await computed(metrics, asking(today, end + SECOND, SECOND, "max"))
    start = today - timedelta(days=365)
    with pytest.raises(QueryTooExpensive, match=r"31,536,000,000 .* fits is 2868 s"):
        await computed(metrics, asking(start, today, timedelta(milliseconds=1), "max"))
    with pytest.raises(QueryTooExpensive):
        await computed(metrics, asking(start, today, 2867 * SECOND, "count"))
    assert not await computed(metrics, asking(start, today, 2868 * SECOND, "count"))


async def test_at_most_so_many_samples(
    snapshots: Snapshots, connection: Any, today: datetime
) -> None:
    one, _ = await series(connection)
    await copy(
        connection,
        "metric_samples",
        [sample(one, today + place * SECOND, float(place)) for place in range(100)],
    )
    end = today + timedelta(hours=1)
    for align in ("average", "last", "p95"):
        enough = MetricService(MetricQueries(snapshots, None, 100))
        assert len(await computed(enough, asking(today, end, MINUTE, align))) == 1
        short = MetricService(MetricQueries(snapshots, None, 99))
        with pytest.raises(QueryTooExpensive, match="More than 99 samples"):
            await computed(short, asking(today, end, MINUTE, align))


@pytest.mark.parametrize(
    ("align", "fields", "aggregation"),
    [
        ("p95", {}, "p95"),
        ("average", {"reduce": "p50"}, "p50"),
    ],
)
async def test_percentiles_of_counters(
    metrics: MetricService,
    connection: Any,
    today: datetime,
    align: str,
    fields: dict[str, Any],
    aggregation: str,
) -> None:
    await series(connection, metric_type="counter")
    with pytest.raises(AggregationNotApplicable) as caught:
        await computed(metrics, asking(today, today + MINUTE, SECOND, align, **fields))
    assert (caught.value.aggregation, caught.value.metric_type) == (aggregation, "counter")


async def test_percentiles_of_rates_of_counters(
    metrics: MetricService, connection: Any, today: datetime
) -> None:
    await made_up(connection, random.Random(5), today, "counter")
    request = asking(today, today + timedelta(hours=1), MINUTE, "rate", reduce="p95")
    assert len(await computed(metrics, request)) == 1


@pytest.mark.parametrize("align", ["rate", "delta"])
@pytest.mark.parametrize("metric_type", ["gauge", "timer", "histogram", "distribution"])
async def test_growth_of_what_is_no_counter(
    metrics: MetricService, connection: Any, today: datetime, align: str, metric_type: str
) -> None:
    await series(connection, metric_type=metric_type)
    with pytest.raises(AggregationNotApplicable) as caught:
        await computed(metrics, asking(today, today + MINUTE, SECOND, align))
    assert (caught.value.aggregation, caught.value.metric_type) == (align, metric_type)


@pytest.mark.parametrize("reduce", ["average", "sum", "p50"])
async def test_figures_of_percentiles(metrics: MetricService, today: datetime, reduce: str) -> None:
    with pytest.raises(AggregationNotApplicable):
        await computed(metrics, asking(today, today + MINUTE, SECOND, "p95", reduce=reduce))


@pytest.mark.parametrize(
    ("changes", "path"),
    [
        ({"metric_name": ""}, "metric_name"),
        ({"metric_name": "a\0b"}, "metric_name"),
        ({"group_by": ["host_name"]}, "group_by"),
        ({"reduce": "rate"}, "reduce"),
        ({"reduce": "sum", "group_by": ["metric_value"]}, "group_by[0]"),
        ({"reduce": "sum", "group_by": ["host_name", "host_name"]}, "group_by[1]"),
        ({"reduce": "sum", "group_by": [f"labels.{n}" for n in range(50)]}, "group_by"),
        ({"gap_fill": 9}, "gap_fill"),
        ({"page_size": -1}, "page_size"),
        ({"min_commit_token": "x"}, "min_commit_token"),
    ],
)
async def test_refused_fields(
    metrics: MetricService, today: datetime, changes: dict[str, Any], path: str
) -> None:
    with pytest.raises(InvalidField) as caught:
        await computed(metrics, asking(today, today + MINUTE, SECOND, "average", **changes))
    assert caught.value.field == path


@pytest.mark.parametrize("seconds", [0, -1, 400_000_000])
async def test_refused_periods(metrics: MetricService, today: datetime, seconds: int) -> None:
    with pytest.raises(InvalidField, match="alignment_period"):
        await computed(metrics, asking(today, today + DAY, seconds * SECOND, "average"))
    with pytest.raises(InvalidField, match="alignment_period"):
        await metrics.QuerySystemMetrics(
            QuerySystemMetricsRequest(time_range=day(today), metric_name="x"), None
        )


async def test_unknown_aggregations(metrics: MetricService, today: datetime) -> None:
    for name in ("align", "reduce"):
        request = asking(today, today + DAY, MINUTE, "average")
        setattr(request, name, 77)
        with pytest.raises(InvalidField, match=name):
            await computed(metrics, request)


async def test_units_do_not_mix(metrics: MetricService, connection: Any, today: datetime) -> None:
    for unit, value in (("ms", 5.0), ("s", 1.0)):
        one, _ = await series(connection, metric_unit=unit)
        await copy(connection, "metric_samples", [sample(one, today, value)])
    end = today + MINUTE
    with pytest.raises(InvalidField, match="'ms' and 's'"):
        await computed(metrics, asking(today, end, MINUTE, "sum", reduce="sum"))
    split = asking(today, end, MINUTE, "sum", reduce="sum", group_by=["metric_unit"])
    assert [one.series.metric_unit for one in await computed(metrics, split)] == ["ms", "s"]
    (count,) = await computed(metrics, asking(today, end, MINUTE, "count", reduce="sum"))
    assert list(count.values) == [2.0]
    (both,) = await computed(metrics, asking(today, end, MINUTE, "sum", reduce="count"))
    assert list(both.values) == [2.0]


async def test_a_token_is_bound_to_its_request(
    metrics: MetricService, connection: Any, today: datetime
) -> None:
    for _ in range(3):
        one, _ = await series(connection)
        await copy(connection, "metric_samples", [sample(one, today, 1.0)])
    first = await metrics.QuerySystemMetrics(
        asking(today, today + DAY, MINUTE, "sum", page_size=2), None
    )
    assert len(first.time_series) == 2
    same_token = {"page_token": first.next_page_token}
    again = asking(today, today + DAY, MINUTE, "sum", page_size=1, **same_token)
    assert len((await metrics.QuerySystemMetrics(again, None)).time_series) == 1
    for other in (
        asking(today, today + DAY, MINUTE, "max", **same_token),
        asking(today, today + DAY, 2 * MINUTE, "sum", **same_token),
        asking(today, today + DAY, MINUTE, "sum", metric_name="other", **same_token),
        asking(today, today + DAY, MINUTE, "sum", reduce="sum", **same_token),
    ):
        with pytest.raises(InvalidPageToken):
            await metrics.QuerySystemMetrics(other, None)


async def test_a_page_ends_at_2_mib(
    metrics: MetricService, connection: Any, today: datetime
) -> None:
    """Fifteen series of 11,000 buckets are some 2.8 MiB."""
    for _ in range(15):
        one, _ = await series(connection)
        await copy(connection, "metric_samples", [sample(one, today, 1.0)])
    request = asking(
        today,
        today + 11_000 * SECOND,
        SECOND,
        "max",
        gap_fill=GapFill.GAP_FILL_ZERO,
    )
    first = await metrics.QuerySystemMetrics(request, None)
    assert 0 < len(first.time_series) < 15
    assert first.ByteSize() < 2 * 1024 * 1024
    assert len(await computed(metrics, request)) == 15


async def test_type_and_temporality_make_groups(
    metrics: MetricService, connection: Any, today: datetime
) -> None:
    for kind in ("gauge", "timer"):
        one, _ = await series(connection, metric_type=kind)
        await copy(connection, "metric_samples", [sample(one, today, 1.0)])
    request = asking(today, today + DAY, DAY, "sum", reduce="sum", group_by=["metric_type"])
    found = await computed(metrics, request)
    assert [one.series.metric_type for one in found] == [
        MetricType.METRIC_TYPE_GAUGE,
        MetricType.METRIC_TYPE_TIMER,
    ]
