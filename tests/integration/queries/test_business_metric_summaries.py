"""SummarizeBusinessMetrics: what may be added up, and what never meets in one sum."""

from __future__ import annotations

from datetime import datetime, timedelta
from decimal import Decimal
from typing import Any

import pytest

from fernando.telemetry.v1 import (
    BusinessMetricSummary,
    PeriodType,
    SummarizeBusinessMetricsRequest,
)
from fernando_telemetry.domain.errors import InvalidField, InvalidPageToken, InvalidTimeRange
from fernando_telemetry.transport.metric_servicer import MetricService
from tests.integration.queries.rows import business_metric, copy, day, walk

HOUR = timedelta(hours=1)


async def summaries(
    metrics: MetricService, today: datetime, **arguments: Any
) -> list[BusinessMetricSummary]:
    request = SummarizeBusinessMetricsRequest(time_range=day(today), **arguments)
    return await walk(metrics.SummarizeBusinessMetrics, request, "summaries")


class Kpis:
    """Collects rows of KPIs, each with an identity of its own unless told otherwise."""

    def __init__(self, today: datetime) -> None:
        self.rows: list[dict[str, Any]] = []
        self._today = today

    def add(self, value: str, hour: int = 0, **columns: Any) -> None:
        start = self._today + hour * HOUR
        identity = columns.pop("identity", len(self.rows) + 100)
        given = {"calculation_method": "sum", "currency": "EUR", "metric_unit": None} | columns
        self.rows.append(business_metric(start, identity, metric_value=Decimal(value), **given))


async def test_every_figure(metrics: MetricService, connection: Any, today: datetime) -> None:
    kpis = Kpis(today)
    kpis.add("10.50", 0, license_id="l1", user_id="u1", metric_category="sales")
    kpis.add("1.25", 2, license_id="l2", user_id="u1", metric_category="sales")
    kpis.add("3.25", 1, license_id="l1", user_id=None, metric_category="sales")
    await copy(connection, "business_metric_versions", kpis.rows)
    assert await summaries(metrics, today) == [
        BusinessMetricSummary(
            metric_name="revenue",
            metric_category="sales",
            currency="EUR",
            period_type=PeriodType.PERIOD_TYPE_HOURLY,
            value_count=3,
            total_value="15.00",
            avg_value="5",
            min_value="1.25",
            max_value="10.50",
            last_value="1.25",
            active_licenses=2,
            unique_users=1,
        )
    ]


async def test_units_currencies_and_periods_never_mix(
    metrics: MetricService, connection: Any, today: datetime
) -> None:
    kpis = Kpis(today)
    for columns in (
        {},
        {"currency": "USD"},
        {"currency": None, "metric_unit": "requests"},
        {"currency": None},
        {"period_type": "custom"},
        {"metric_name": "cost"},
    ):
        kpis.add("1", **columns)
        kpis.add("2", **columns)
    await copy(connection, "business_metric_versions", kpis.rows)
    found = await summaries(metrics, today, page_size=1)
    assert len(found) == 6
    assert {one.total_value for one in found} == {"3"}
    hourly = await summaries(metrics, today, period_type=PeriodType.PERIOD_TYPE_CUSTOM)
    assert [one.period_type for one in hourly] == [PeriodType.PERIOD_TYPE_CUSTOM]


@pytest.mark.parametrize(
    ("methods", "total"),
    [
        (("sum", "sum"), "3"),
        (("count", "count"), "3"),
        (("average", "average"), None),
        (("sum", "average"), None),
        (("distinct_count", "distinct_count"), None),
        ((None, "sum"), None),
    ],
)
async def test_a_total_only_of_sums_and_counts(
    metrics: MetricService,
    connection: Any,
    today: datetime,
    methods: tuple[str | None, str | None],
    total: str | None,
) -> None:
    kpis = Kpis(today)
    for value, method in zip(("1", "2"), methods, strict=True):
        kpis.add(value, calculation_method=method)
    await copy(connection, "business_metric_versions", kpis.rows)
    (found,) = await summaries(metrics, today)
    assert (found.total_value if found.HasField("total_value") else None) == total
    assert (found.avg_value, found.value_count) == ("1.5", 2)


async def test_superseded_values_never_count(
    metrics: MetricService, connection: Any, today: datetime
) -> None:
    kpis = Kpis(today)
    kpis.add("1000", identity=1, license_id="old")
    kpis.add("7", identity=1, license_id="new", ingested_at=today + HOUR)
    await copy(connection, "business_metric_versions", kpis.rows)
    (found,) = await summaries(metrics, today)
    assert (found.total_value, found.max_value, found.value_count) == ("7", "7", 1)
    assert not await summaries(metrics, today, filter='license_id = "old"')


async def test_groups(metrics: MetricService, connection: Any, today: datetime) -> None:
    kpis = Kpis(today)
    kpis.add("1", license_id="l1", dimensions='{"region": "eu", "a.b": "x"}')
    kpis.add("2", license_id="l1", dimensions='{"region": "us"}')
    kpis.add("4", license_id=None, dimensions='{"region": "eu"}')
    kpis.add("8", license_id="l1", dimensions='{"region": "eu", "a.b": "x"}')
    await copy(connection, "business_metric_versions", kpis.rows)

    async def totals(*group_by: str) -> dict[tuple[str, ...], str]:
        found = await summaries(metrics, today, group_by=group_by, page_size=1)
        return {tuple(one.group[path] for path in group_by): one.total_value for one in found}

    assert await totals("license_id") == {("",): "4", ("l1",): "11"}
    assert await totals("dimensions.region", "license_id") == {
        ("eu", ""): "4",
        ("eu", "l1"): "9",
        ("us", "l1"): "2",
    }
    assert await totals("dimensions.a.b") == {("",): "6", ("x",): "9"}
    assert await totals("calculation_method", "metric_name") == {("sum", "revenue"): "15"}


async def test_the_longest_token_is_taken(
    metrics: MetricService, connection: Any, today: datetime
) -> None:
    long = "é" * 128
    keys = [f"k{place}" for place in range(8)]
    kpis = Kpis(today)
    for end in ("a", "b"):
        values = ", ".join(f'"{key}": "{long[:-1]}{end}"' for key in keys)
        kpis.add(
            "1",
            metric_name=long,
            metric_category=long,
            metric_unit=long,
            dimensions=f"{{{values}}}",
        )
    await copy(connection, "business_metric_versions", kpis.rows)
    group_by = [f"dimensions.{key}" for key in keys]
    assert len(await summaries(metrics, today, group_by=group_by, page_size=1)) == 2


async def test_refusals(metrics: MetricService, connection: Any, today: datetime) -> None:
    for group_by, field in (
        (["metric_value"], "group_by[0]"),
        (["period_start"], "group_by[0]"),
        (["license_id", "license_id"], "group_by[1]"),
        (["dimensions"], "group_by[0]"),
        (["dimensions."], "group_by[0]"),
        (["dimensions." + "k" * 65], "group_by[0]"),
        (["1=1; --"], "group_by[0]"),
        ([f"dimensions.k{place}" for place in range(50)], "group_by"),
    ):
        with pytest.raises(InvalidField) as caught:
            await summaries(metrics, today, group_by=group_by)
        assert caught.value.field == field
    with pytest.raises(InvalidField, match="period_type"):
        await summaries(metrics, today, period_type=99)
    with pytest.raises(InvalidTimeRange):
        await metrics.SummarizeBusinessMetrics(SummarizeBusinessMetricsRequest(), None)
    kpis = Kpis(today)
    kpis.add("1")
    kpis.add("1", currency="USD")
    await copy(connection, "business_metric_versions", kpis.rows)
    first = SummarizeBusinessMetricsRequest(time_range=day(today), page_size=1)
    token = (await metrics.SummarizeBusinessMetrics(first, None)).next_page_token
    with pytest.raises(InvalidPageToken):
        await summaries(metrics, today, group_by=["license_id"], page_token=token)
