"""Every SQL statement of the implementation guide, on records that came by the service.

Each statement is quoted as it stands there; where it is invalid, its reading follows. The results
are compared with what Python makes of the records that were sent.
"""

from __future__ import annotations

from collections.abc import AsyncIterator
from datetime import UTC, date, datetime, timedelta
from decimal import Decimal
from typing import Any, TypeVar
from uuid import uuid4

import asyncpg
import numpy as np
import pytest
from google.protobuf.message import Message
from grpc import aio

from fernando.telemetry.v1 import BusinessMetric, Event, MetricType, SystemMetric
from tests.integration.ingest.ingest_call import ingest, request
from tests.integration.queries.guide_records import (
    KPI_ZONE,
    TYPES,
    different,
    events,
    grouped,
    hour_of,
    kpis,
    mean,
    samples,
    time_of,
    total,
)

EVENT_SUMMARY = """
SELECT * FROM telemetry_events_hourly_summary
WHERE event_type = 'user_action'
  AND hour >= NOW() - INTERVAL '24 hours';
"""
SYSTEM_PERFORMANCE = """
SELECT * FROM system_metrics_service_summary
WHERE service_name = 'api'
  AND hour >= NOW() - INTERVAL '1 hour'
ORDER BY hour DESC;
"""
BUSINESS_KPIS = """
SELECT * FROM business_metrics_category_summary
WHERE metric_category = 'revenue'
  AND date >= CURRENT_DATE - INTERVAL '30 days';
"""
ALERT_STATUS = """
SELECT * FROM alerts_status_summary
WHERE status = 'active'
ORDER BY severity DESC, triggered_at DESC;
"""
USER_ACTIVITY_DASHBOARD = """
SELECT 
    event_category,
    COUNT(*) as event_count,
    COUNT(DISTINCT user_id) as unique_users,
    DATE_TRUNC('hour', event_timestamp) as hour
FROM telemetry_events
WHERE event_timestamp >= NOW() - INTERVAL '24 hours'
GROUP BY event_category, DATE_TRUNC('hour', event_timestamp)
ORDER BY hour DESC, event_count DESC;
"""  # noqa: W291
SYSTEM_PERFORMANCE_DASHBOARD = """
SELECT 
    service_name,
    metric_name,
    AVG(metric_value) as avg_value,
    MAX(metric_value) as max_value,
    percentile_95 as p95_value
FROM system_metrics
WHERE metric_timestamp >= NOW() - INTERVAL '1 hour'
GROUP BY service_name, metric_name
ORDER BY avg_value DESC;
"""  # noqa: W291
BUSINESS_METRICS_DASHBOARD = """
SELECT 
    metric_name,
    metric_category,
    SUM(metric_value) as total_value,
    COUNT(DISTINCT license_id) as active_licenses
FROM business_metrics
WHERE period_start >= CURRENT_DATE - INTERVAL '30 days'
GROUP BY metric_name, metric_category
ORDER BY total_value DESC;
"""  # noqa: W291

COLUMNS = {
    "telemetry_events_hourly_summary": "event_type hour event_count unique_users unique_licenses "
    "avg_duration_ms",
    "system_metrics_service_summary": "service_name hour metric_name metric_type "
    "measurement_count avg_value min_value max_value p95_value metric_unit",
    "business_metrics_category_summary": "metric_category date metric_name metric_points "
    "total_value avg_value unique_users unique_licenses metric_unit currency period_type",
    "alerts_status_summary": "status severity triggered_at alert_count affected_rules first_alert "
    "last_alert avg_resolution_hours",
    "trace_performance_summary": "minute service_name operation_name license_id span_count "
    "error_count avg_duration_ms p50_duration_ms p95_duration_ms p99_duration_ms",
}


class Asked:
    """What a statement gave, and the session's clock while it ran."""

    def __init__(self, rows: list[Any], now: datetime, today: date) -> None:
        self.rows = [dict(row) for row in rows]
        self.now = now
        self.today = today


@pytest.fixture(params=["UTC", "Asia/Kolkata", "America/St_Johns"])
def zone(request: pytest.FixtureRequest) -> str:
    """Zones of sessions, two of them half an hour off."""
    return str(request.param)


@pytest.fixture
async def session(database: str, zone: str) -> AsyncIterator[Any]:
    opened = await asyncpg.connect(database, server_settings={"TimeZone": zone})
    yield opened
    await opened.close()


async def ask(session: Any, statement: str) -> Asked:
    async with session.transaction():
        now, today = await session.fetchrow("SELECT now(), CURRENT_DATE")
        return Asked(await session.fetch(statement), now, today)


Record = TypeVar("Record", bound=Message)


async def send(channel: aio.Channel, records: list[Record]) -> list[Record]:
    answer = await ingest(channel, request(*records))
    assert not answer.result.verdicts, answer
    return records


@pytest.mark.parametrize("view", COLUMNS)
async def test_the_views_columns(connection: Any, view: str) -> None:
    statement = await connection.prepare(f"SELECT * FROM {view}")
    assert [column.name for column in statement.get_attributes()] == COLUMNS[view].split()
    options = await connection.fetchval(
        "SELECT reloptions FROM pg_class WHERE oid = $1::text::regclass", view
    )
    assert options == ["security_invoker=true"]


async def test_event_summary(channel: aio.Channel, session: Any) -> None:
    sent = await send(channel, events(datetime.now(UTC)))
    asked = await ask(session, EVENT_SUMMARY)
    of_hours: dict[datetime, list[Event]] = grouped(
        (one for one in sent if TYPES[one.event_type] == "user_action"),
        lambda one: hour_of(time_of(one.event_timestamp)),
    )
    expected = {
        hour: {
            "event_type": "user_action",
            "hour": hour,
            "event_count": len(found),
            "unique_users": different(one.user_id for one in found),
            "unique_licenses": different(one.license_id for one in found),
            "avg_duration_ms": mean(
                [one.duration_ms for one in found if one.HasField("duration_ms")]
            ),
        }
        for hour, found in of_hours.items()
        if hour >= asked.now - timedelta(hours=24)
    }
    assert {row["hour"]: row for row in asked.rows} == expected
    assert len(asked.rows) == len(expected) < len(of_hours)
    everything = await session.fetch("SELECT * FROM telemetry_events_hourly_summary")
    assert sum(row["event_count"] for row in everything) == len(sent)


async def test_events_before_the_first_bound_are_summed_up_too(connection: Any) -> None:
    """The partition without a lower end has no bound to take hours from."""
    await connection.execute(
        "CREATE TABLE telemetry_events_before PARTITION OF telemetry_events "
        "FOR VALUES FROM (MINVALUE) TO ('2001-01-01 00:00:00+00')"
    )
    for minute in (5, 65, 66):
        await connection.execute(
            "INSERT INTO telemetry_events (event_id, event_timestamp, event_type, event_name, "
            "ingested_at, shard, flush_id) VALUES (gen_random_uuid(), "
            "'1999-03-04 10:00:00+00'::timestamptz + $1 * interval '1 minute', 'error_event', "
            "'late', now(), 0, 1)",
            minute,
        )
    rows = await connection.fetch(
        "SELECT hour, event_count FROM telemetry_events_hourly_summary ORDER BY hour"
    )
    first = datetime(1999, 3, 4, 10, tzinfo=UTC)
    assert [tuple(row) for row in rows] == [(first, 1), (first + timedelta(hours=1), 2)]


async def test_system_performance(channel: aio.Channel, session: Any) -> None:
    sent = await send(channel, samples(datetime.now(UTC)))
    asked = await ask(session, SYSTEM_PERFORMANCE)
    of_groups: dict[Any, list[SystemMetric]] = grouped(
        (one for one in sent if one.service_name == "api"),
        lambda one: (
            hour_of(time_of(one.metric_timestamp)),
            one.metric_name,
            one.metric_unit or None,
        ),
    )
    expected = {}
    for (hour, name, unit), found in of_groups.items():
        if hour < asked.now - timedelta(hours=1):
            continue
        values = [one.metric_value for one in found]
        p95: Any = float(np.percentile(values, 95))
        if found[0].metric_type == MetricType.METRIC_TYPE_COUNTER:
            p95 = None
        elif found[0].HasField("percentile_95"):
            p95 = max(one.percentile_95 for one in found)
        expected[hour, name, unit] = {
            "service_name": "api",
            "hour": hour,
            "metric_name": name,
            "metric_type": MetricType.Name(found[0].metric_type)[12:].lower(),
            "measurement_count": len(found),
            "avg_value": pytest.approx(mean(values)),
            "min_value": min(values),
            "max_value": max(values),
            "p95_value": pytest.approx(p95) if p95 is not None else None,
            "metric_unit": unit,
        }
    found_rows = {(row["hour"], row["metric_name"], row["metric_unit"]): row for row in asked.rows}
    assert found_rows == expected
    assert len(asked.rows) == len(expected)
    assert [row["hour"] for row in asked.rows] == sorted(
        (row["hour"] for row in asked.rows), reverse=True
    )


async def test_business_kpis(channel: aio.Channel, session: Any) -> None:
    local_today = datetime.now(KPI_ZONE).date()
    await send(channel, superseded := kpis(local_today))
    sent = corrected(superseded)
    await send(channel, sent[:1])
    asked = await ask(session, BUSINESS_KPIS)
    of_groups: dict[Any, list[BusinessMetric]] = grouped(
        sent,
        lambda one: (
            time_of(one.period_start).astimezone(KPI_ZONE).date(),
            one.metric_name,
            one.currency or None,
        ),
    )
    expected = {}
    for (day, name, currency), found in of_groups.items():
        if day < asked.today - timedelta(days=30):
            continue
        expected[day, name, currency] = {
            "metric_category": "revenue",
            "date": day,
            "metric_name": name,
            "metric_points": len(found),
            "total_value": total(one.metric_value for one in found) if name == "revenue" else None,
            "avg_value": total(one.metric_value for one in found) / len(found),
            "unique_users": different(one.user_id for one in found),
            "unique_licenses": different(one.license_id for one in found),
            "metric_unit": None,
            "currency": currency,
            "period_type": "daily",
        }
    rows = {(row["date"], row["metric_name"], row["currency"]): row for row in asked.rows}
    assert rows == expected
    assert len(asked.rows) == len(expected) < len(of_groups)


def corrected(sent: list[BusinessMetric]) -> list[BusinessMetric]:
    """Give the KPIs with another value of the first: the same period and identity."""
    first = BusinessMetric()
    first.CopyFrom(sent[0])
    first.metric_value = "7.77"
    return [first, *sent[1:]]


async def test_alert_status(session: Any) -> None:
    start = datetime.now(UTC).replace(microsecond=0)
    rule = uuid4()
    for place, (status, severity, rule_id) in enumerate(
        [
            ("active", "info", rule),
            ("active", "critical", rule),
            ("active", "critical", uuid4()),
            ("active", "warning", rule),
            ("active", "error", rule),
            ("resolved", "critical", rule),
            ("resolved", "critical", rule),
        ]
    ):
        triggered = start - timedelta(hours=place)
        resolved = triggered + timedelta(hours=place) if status == "resolved" else None
        await session.execute(
            "INSERT INTO alerts (alert_id, rule_id, alert_name, status, severity, fingerprint, "
            "triggered_at, resolved_at) VALUES ($1, $2, 'High CPU Usage', $3, $4, $5, $6, $7)",
            uuid4(), rule_id, status, severity, str(place), triggered, resolved,
        )  # fmt: skip
    asked = await ask(session, ALERT_STATUS)

    def summary(severity: str, first: int, last: int, count: int, rules: int) -> dict[str, Any]:
        return {
            "status": "active",
            "severity": severity,
            "triggered_at": start - timedelta(hours=last),
            "alert_count": count,
            "affected_rules": rules,
            "first_alert": start - timedelta(hours=first),
            "last_alert": start - timedelta(hours=last),
            "avg_resolution_hours": None,
        }

    assert asked.rows == [
        summary("critical", 2, 1, 2, 2),
        summary("error", 4, 4, 1, 1),
        summary("warning", 3, 3, 1, 1),
        summary("info", 0, 0, 1, 1),
    ]
    (row,) = await session.fetch("SELECT * FROM alerts_status_summary WHERE status = 'resolved'")
    assert row["avg_resolution_hours"] == pytest.approx(5.5)


async def test_user_activity_dashboard(channel: aio.Channel, session: Any, zone: str) -> None:
    sent = await send(channel, events(datetime.now(UTC)))
    asked = await ask(session, USER_ACTIVITY_DASHBOARD)
    of_groups: dict[Any, list[Event]] = grouped(
        (one for one in sent if time_of(one.event_timestamp) >= asked.now - timedelta(hours=24)),
        lambda one: (one.event_category or None, hour_of(time_of(one.event_timestamp), zone)),
    )
    expected = [
        {
            "event_category": category,
            "event_count": len(found),
            "unique_users": different(one.user_id for one in found),
            "hour": hour,
        }
        for (category, hour), found in of_groups.items()
    ]
    order = [(row["hour"], row["event_count"]) for row in asked.rows]
    assert order == sorted(order, reverse=True)
    assert sorted(asked.rows, key=str) == sorted(expected, key=str)


async def test_system_performance_dashboard(channel: aio.Channel, session: Any) -> None:
    """Ungrouped percentile_95 is an error in PostgreSQL; the largest one is meant."""
    sent = await send(channel, samples(datetime.now(UTC)))
    with pytest.raises(asyncpg.GroupingError):
        await ask(session, SYSTEM_PERFORMANCE_DASHBOARD)
    asked = await ask(
        session,
        SYSTEM_PERFORMANCE_DASHBOARD.replace("percentile_95 as", "MAX(percentile_95) as"),
    )
    of_groups: dict[Any, list[SystemMetric]] = grouped(
        (one for one in sent if time_of(one.metric_timestamp) >= asked.now - timedelta(hours=1)),
        lambda one: (one.service_name, one.metric_name),
    )
    expected = [
        {
            "service_name": service,
            "metric_name": name,
            "avg_value": mean([one.metric_value for one in found]),
            "max_value": max(one.metric_value for one in found),
            "p95_value": max(
                (one.percentile_95 for one in found if one.HasField("percentile_95")), default=None
            ),
        }
        for (service, name), found in of_groups.items()
    ]
    expected.sort(key=lambda row: -row["avg_value"])
    assert asked.rows == [{**row, "avg_value": pytest.approx(row["avg_value"])} for row in expected]


async def test_business_metrics_dashboard(channel: aio.Channel, session: Any) -> None:
    """A period sent again counts once, with its latest value."""
    await send(channel, superseded := kpis(datetime.now(KPI_ZONE).date()))
    sent = corrected(superseded)
    await send(channel, sent[:1])
    asked = await ask(session, BUSINESS_METRICS_DASHBOARD)
    since = await session.fetchval(
        "SELECT ($1::date - INTERVAL '30 days')::timestamptz", asked.today
    )
    of_names: dict[str, list[BusinessMetric]] = grouped(
        (one for one in sent if time_of(one.period_start) >= since), lambda one: one.metric_name
    )
    assert asked.rows == [
        {
            "metric_name": name,
            "metric_category": "revenue",
            "total_value": total(one.metric_value for one in of_names[name]),
            "active_licenses": different(one.license_id for one in of_names[name]),
        }
        for name in ("revenue", "revenue_per_user")
    ]
    assert asked.rows[1]["total_value"] % Decimal("49.99") == 0
