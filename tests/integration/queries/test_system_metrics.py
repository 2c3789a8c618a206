"""ListSystemMetrics: plain samples and distributions in one order."""

from __future__ import annotations

from collections import Counter
from datetime import datetime, timedelta
from typing import Any

import pytest

from fernando.telemetry.v1 import (
    ListSystemMetricsRequest,
    MetricType,
    SystemMetric,
    Temporality,
)
from fernando_telemetry.transport.metric_servicer import MetricService
from tests.integration.queries.rows import copy, day, distribution, sample, series, walk

SECOND = timedelta(seconds=1)


async def listed(
    metrics: MetricService, today: datetime, text: str = "", **arguments: Any
) -> list[SystemMetric]:
    request = ListSystemMetricsRequest(time_range=day(today), filter=text, **arguments)
    return await walk(metrics.ListSystemMetrics, request, "system_metrics")


async def test_samples_carry_their_series(
    metrics: MetricService, connection: Any, today: datetime
) -> None:
    number, identity = await series(
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
    await copy(connection, "metric_samples", [sample(number, today, 1.5)])
    (found,) = await listed(metrics, today)
    expected = SystemMetric(
        metric_name="requests",
        metric_type=MetricType.METRIC_TYPE_COUNTER,
        metric_value=1.5,
        metric_unit="1",
        service_name="shop",
        host_name="h1",
        instance_id="i1",
        labels={"zone": "é"},
        license_id="l1",
        temporality=Temporality.TEMPORALITY_DELTA,
        series_id=identity.hex,
    )
    expected.metric_timestamp.FromDatetime(today)
    assert found == expected


async def test_distributions_and_percentiles(
    metrics: MetricService, connection: Any, today: datetime
) -> None:
    number, _ = await series(connection, metric_type="histogram")
    full: dict[str, Any] = {
        "value": None,
        "percentile_95": None,
        "distribution_count": 2**63 - 1,
        "distribution_sum": 3.5,
        "distribution_min": 0.5,
        "distribution_max": 2.0,
        "upper_bounds": [1.0],
        "bucket_counts": [1, 2**63 - 2],
    }
    empty = dict.fromkeys(full)
    await copy(
        connection,
        "metric_distributions",
        [
            distribution(number, today, 0, **full),
            distribution(number, today, 1, **(empty | {"percentile_95": 0.0})),
        ],
    )
    first, second = await listed(metrics, today, order_by="metric_timestamp", page_size=1)
    assert first.distribution.count == 2**63 - 1
    assert list(first.distribution.upper_bounds) == [1.0]
    assert list(first.distribution.bucket_counts) == [1, 2**63 - 2]
    assert (first.distribution.sum, first.distribution.min, first.distribution.max) == (3.5, 0.5, 2)
    assert not first.HasField("metric_value")
    assert second.HasField("percentile_95")
    assert not second.HasField("percentile_50")
    assert not second.HasField("distribution")


@pytest.mark.parametrize("page_size", [1, 2, 3, 7, 1000])
@pytest.mark.parametrize("order_by", ["metric_timestamp", "metric_timestamp desc"])
async def test_rows_equal_in_everything_are_counted(
    metrics: MetricService, connection: Any, today: datetime, page_size: int, order_by: str
) -> None:
    number, _ = await series(connection)
    other, _ = await series(connection, metric_name="memory_usage")
    plain = [
        *[sample(number, today, 1.0)] * 5,
        *[sample(number, today, -0.0)] * 4,
        *[sample(number, today, 1.0, flush_id=7)] * 3,
        *[sample(other, today, 1.0)] * 6,
        *[sample(other, today + SECOND, 1.0)] * 2,
    ]
    await copy(connection, "metric_samples", plain)
    await copy(
        connection,
        "metric_distributions",
        [distribution(number, today, place, value=1.0) for place in range(3)],
    )
    found = await listed(metrics, today, page_size=page_size, order_by=order_by)
    assert Counter(one.metric_value for one in found) == {1.0: 19, 0.0: 4}
    assert Counter(one.metric_name for one in found) == {"cpu_usage": 15, "memory_usage": 8}
    times = [one.metric_timestamp.seconds for one in found]
    assert times == sorted(times, reverse=order_by.endswith("desc"))


async def test_filters_on_series_and_on_samples(
    metrics: MetricService, connection: Any, today: datetime
) -> None:
    one, identity = await series(connection, service_name="shop")
    two, _ = await series(connection, metric_type="counter", temporality="cumulative")
    rows = [sample(one, today, 1.0), sample(one, today + SECOND, 2.0), sample(two, today, 3.0)]
    await copy(connection, "metric_samples", rows)
    await copy(
        connection,
        "metric_distributions",
        [distribution(two, today + 2 * SECOND, 0, value=4.0, percentile_95=9.0)],
    )

    async def values(text: str) -> list[float]:
        return [found.metric_value for found in await listed(metrics, today, text, page_size=1)]

    assert await values("service_name = shop") == [2.0, 1.0]
    assert await values('service_name = ""') == [4.0, 3.0]
    assert await values(f"series_id = {identity.hex}") == [2.0, 1.0]
    assert await values("metric_type = counter AND metric_value < 4") == [3.0]
    assert await values("temporality = cumulative AND percentile_95 > 8.5") == [4.0]
    assert await values("metric_value >= 2") == [4.0, 2.0, 3.0]
    assert sorted(await values("percentile_95 != 9")) == [1.0, 2.0, 3.0]
    assert await values(f'metric_timestamp = "{(today + SECOND).isoformat()}"') == [2.0]
    assert await values("metric_name = nothing") == []


async def test_a_sample_outlives_its_series(
    metrics: MetricService, connection: Any, today: datetime
) -> None:
    number, _ = await series(connection)
    await copy(
        connection,
        "metric_samples",
        [sample(number, today, 1.0), sample(number + 1, today, 2.0)],
    )
    found = await listed(metrics, today, page_size=1)
    assert [(one.metric_name, one.metric_value) for one in found] == [("", 2.0), ("cpu_usage", 1.0)]
