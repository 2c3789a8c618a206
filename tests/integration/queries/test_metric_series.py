"""ListMetricSeries: which series there are, and which had samples."""

from __future__ import annotations

from datetime import datetime, timedelta
from typing import Any

import pytest

from fernando.telemetry.v1 import (
    ListMetricSeriesRequest,
    MetricSeries,
    MetricType,
    Temporality,
    TimeRange,
)
from fernando_telemetry.domain.errors import InvalidFilter, InvalidPageToken, InvalidTimeRange
from fernando_telemetry.transport.metric_servicer import MetricService
from tests.integration.queries.rows import copy, distribution, range_of, sample, series, walk

HOUR = timedelta(hours=1)


async def names(metrics: MetricService, **arguments: Any) -> list[str]:
    request = ListMetricSeriesRequest(**arguments)
    return [one.metric_name for one in await walk(metrics.ListMetricSeries, request, "series")]


async def test_a_full_series_comes_back(metrics: MetricService, connection: Any) -> None:
    _, identity = await series(
        connection,
        metric_name="requests",
        metric_type="counter",
        metric_unit="1",
        service_name="shop",
        host_name="h1",
        instance_id="i1",
        labels='{"zone": "é"}',
        license_id="l1",
        temporality="delta",
    )
    (found,) = (await metrics.ListMetricSeries(ListMetricSeriesRequest(), None)).series
    assert found == MetricSeries(
        metric_name="requests",
        metric_type=MetricType.METRIC_TYPE_COUNTER,
        metric_unit="1",
        service_name="shop",
        host_name="h1",
        instance_id="i1",
        labels={"zone": "é"},
        license_id="l1",
        temporality=Temporality.TEMPORALITY_DELTA,
        series_id=identity.hex,
    )


async def test_pages_by_name_then_age(metrics: MetricService, connection: Any) -> None:
    for name, host in (("b", "1"), ("a", "1"), ("b", "2"), ("B", "1"), ("a", "2")):
        await series(connection, metric_name=name, host_name=host)
    request = ListMetricSeriesRequest(page_size=2)
    found = await walk(metrics.ListMetricSeries, request, "series")
    assert [one.metric_name + one.host_name for one in found] == ["B1", "a1", "a2", "b1", "b2"]


async def test_filters(metrics: MetricService, connection: Any) -> None:
    _, identity = await series(connection, metric_name="cpu", service_name="shop")
    await series(connection, metric_name="rss", service_name="shop")
    await series(connection, metric_name="free")
    assert await names(metrics, filter='service_name = "shop"') == ["cpu", "rss"]
    assert await names(metrics, filter=f'series_id = "{identity.hex}"') == ["cpu"]
    assert await names(metrics, filter='service_name = ""') == ["free"]
    with pytest.raises(InvalidFilter):
        await names(metrics, filter="metric_value > 1")


async def test_only_active_series(metrics: MetricService, connection: Any, today: datetime) -> None:
    numbers = {
        name: (await series(connection, metric_name=name))[0]
        for name in ("plain", "buckets", "before", "after", "silent")
    }
    await copy(
        connection,
        "metric_samples",
        [
            sample(numbers["plain"], today + HOUR, 1.0),
            sample(numbers["before"], today + HOUR - timedelta(microseconds=1), 1.0),
            sample(numbers["after"], today + 2 * HOUR, 1.0),
        ],
    )
    await copy(
        connection,
        "metric_distributions",
        [distribution(numbers["buckets"], today + HOUR, 0, percentile_50=1.0)],
    )
    active_in = range_of(today + HOUR, today + 2 * HOUR)
    assert await names(metrics, active_in=active_in, page_size=1) == ["buckets", "plain"]
    assert len(await names(metrics)) == 5


async def test_refusals(metrics: MetricService, connection: Any, today: datetime) -> None:
    half = TimeRange(end_time=range_of(today, today + HOUR).end_time)
    for given in (TimeRange(), half, range_of(today, today)):
        with pytest.raises(InvalidTimeRange):
            await names(metrics, active_in=given)
    for name in ("a", "b"):
        await series(connection, metric_name=name)
    page = await metrics.ListMetricSeries(ListMetricSeriesRequest(page_size=1), None)
    for other in (
        ListMetricSeriesRequest(filter='metric_name = "b"'),
        ListMetricSeriesRequest(active_in=range_of(today, today + HOUR)),
    ):
        other.page_token = page.next_page_token
        with pytest.raises(InvalidPageToken):
            await metrics.ListMetricSeries(other, None)
