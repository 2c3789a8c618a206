"""ListBusinessMetrics: current values, superseded ones, exact decimals."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import datetime, timedelta
from decimal import Decimal
from typing import Any
from uuid import UUID

import pytest

from fernando.telemetry.v1 import (
    BusinessMetric,
    CalculationMethod,
    ListBusinessMetricsRequest,
    PeriodType,
)
from fernando_telemetry.storage.partitions import Partitions, raw_tables
from fernando_telemetry.storage.sessions import ControlPool
from fernando_telemetry.transport.metric_servicer import MetricService
from tests.conftest import session_settings
from tests.integration.queries.rows import business_metric, copy, day, walk

HOUR = timedelta(hours=1)
SECOND = timedelta(seconds=1)


async def listed(
    metrics: MetricService, today: datetime, text: str = "", **arguments: Any
) -> list[BusinessMetric]:
    request = ListBusinessMetricsRequest(time_range=day(today), filter=text, **arguments)
    return await walk(metrics.ListBusinessMetrics, request, "business_metrics")


async def test_a_full_kpi_comes_back(
    metrics: MetricService, connection: Any, today: datetime
) -> None:
    row = business_metric(
        today,
        1,
        metric_category="sales",
        metric_unit="usd",
        currency="USD",
        period_type="custom",
        calculation_method="distinct_count",
        license_id="l1",
        customer_id="c1",
        user_id="u1",
        dimensions='{"region": "é"}',
        time_zone="Europe/Lisbon",
    )
    await copy(connection, "business_metric_versions", [row])
    (found,) = await listed(metrics, today)
    expected = BusinessMetric(
        metric_name="revenue",
        metric_category="sales",
        metric_value="49.90",
        metric_unit="usd",
        currency="USD",
        period_type=PeriodType.PERIOD_TYPE_CUSTOM,
        calculation_method=CalculationMethod.CALCULATION_METHOD_DISTINCT_COUNT,
        license_id="l1",
        customer_id="c1",
        user_id="u1",
        dimensions={"region": "é"},
        time_zone="Europe/Lisbon",
        metric_id=str(row["metric_id"]),
    )
    expected.period_start.FromDatetime(today)
    expected.period_end.FromDatetime(today + HOUR)
    expected.ingested_at.FromDatetime(today)
    assert found == expected


@pytest.mark.parametrize(
    "value",
    [
        "0",
        "0.000000000000000001",
        "-12345678901234567890.123456789012345678",
        "1000000000000000000",
        "49.90",
        "1200",
        "0.00",
    ],
)
async def test_decimals_are_exact(
    metrics: MetricService, connection: Any, today: datetime, value: str
) -> None:
    await copy(
        connection,
        "business_metric_versions",
        [business_metric(today, 1, metric_value=Decimal(value))],
    )
    (found,) = await listed(metrics, today, f"metric_value = {value}")
    assert found.metric_value == value


async def test_the_latest_commit_is_current(
    metrics: MetricService, connection: Any, today: datetime
) -> None:
    def version(identity: int, order: int, value: int, committed: datetime) -> dict[str, Any]:
        return business_metric(
            today,
            identity,
            metric_id=UUID(int=order),
            metric_value=Decimal(value),
            ingested_at=committed,
            metric_name=f"kpi{identity}",
        )

    rows = [
        version(1, 9, 10, today),
        version(1, 1, 11, today + SECOND),  # later commit, smaller id
        version(2, 2, 20, today),
        version(2, 3, 21, today),  # one commit: the greater id
        version(3, 4, 30, today),
        business_metric(today + HOUR, 3, metric_name="kpi3", metric_value=Decimal(31)),
    ]
    await copy(connection, "business_metric_versions", rows)
    current = {found.metric_value for found in await listed(metrics, today, page_size=1)}
    assert current == {"11", "21", "30", "31"}
    versions = await listed(metrics, today, include_superseded=True, page_size=1)
    assert {found.metric_value: found.superseded for found in versions} == {
        "10": True,
        "11": False,
        "20": True,
        "21": False,
        "30": False,
        "31": False,
    }
    # A filter that only the superseded version passes does not bring it back.
    assert not await listed(metrics, today, "metric_value = 10")
    (found,) = await listed(metrics, today, "metric_value = 10", include_superseded=True)
    assert found.superseded


async def test_the_range_is_on_period_start(
    metrics: MetricService, connection: Any, database: str, today: datetime
) -> None:
    rows = [
        business_metric(today, 1, metric_name="starts"),
        business_metric(
            today - HOUR, 2, metric_name="before", period_end=today + HOUR, period_type="custom"
        ),
        business_metric(today + 24 * HOUR - SECOND, 3, metric_name="last"),
        business_metric(today + 24 * HOUR, 4, metric_name="after"),
    ]
    # Tomorrow may be in the next month, whose partition is made on demand.
    control = ControlPool(session_settings(database), 1)
    needed: dict[str, Sequence[datetime]] = {
        "business_metric_versions": [row["period_end"] for row in rows]
    }
    await Partitions(control, raw_tables()).ensure(needed)
    await control.close()
    await copy(connection, "business_metric_versions", rows)
    assert [found.metric_name for found in await listed(metrics, today)] == ["last", "starts"]


@pytest.mark.parametrize("order_by", ["period_start desc", "period_start"])
async def test_a_kpi_corrected_between_two_pages_comes_once(
    metrics: MetricService, connection: Any, today: datetime, order_by: str
) -> None:
    """Every KPI is corrected after each page: none is skipped, none comes twice."""
    kpis = 12

    async def commit(round_: int) -> None:
        rows = [
            business_metric(
                today,
                number,
                metric_name=f"kpi{number}",
                metric_value=Decimal(round_),
                # Ids that fall and rise: a place by version would lose some either way.
                metric_id=UUID(int=(1000 - round_ if number % 2 else 1000 + round_) * 100 + number),
                ingested_at=today + round_ * SECOND,
            )
            for number in range(kpis)
        ]
        await copy(connection, "business_metric_versions", rows)

    await commit(0)
    names: list[str] = []
    request = ListBusinessMetricsRequest(order_by=order_by, page_size=5)
    request.time_range.start_time.FromDatetime(today)
    request.time_range.end_time.FromDatetime(today + HOUR)
    for round_ in range(1, 10):
        page = await metrics.ListBusinessMetrics(request, None)
        names += [found.metric_name for found in page.business_metrics]
        request.page_token = page.next_page_token
        if not request.page_token:
            break
        await commit(round_)
    assert sorted(names) == sorted(f"kpi{number}" for number in range(kpis))
