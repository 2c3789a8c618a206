"""What is in the tables after an ack: every column of every kind, to the last digit."""

from __future__ import annotations

import json
from datetime import UTC, date, datetime, timedelta
from decimal import Decimal
from ipaddress import ip_address
from typing import Any

import pytest
from google.protobuf.timestamp_pb2 import Timestamp
from grpc import aio

from fernando.telemetry.v1 import (
    CalculationMethod,
    Distribution,
    EventType,
    MetricType,
    PeriodType,
    RecordDefaults,
    SpanEvent,
    SpanKind,
    SpanLink,
    SpanStatus,
    SystemMetric,
    Temporality,
    VerdictReason,
)
from fernando_telemetry.domain.identifiers import shard_of
from fernando_telemetry.settings import Settings
from tests.conftest import Serving
from tests.integration.ingest.ingest_call import IngestCall, ingest, request
from tests.integration.ingest.records import columns, event, kpi, now, sample, span, stamp

pytestmark = pytest.mark.usefixtures("each_path")

TRACE, SPAN_ID = "0af7651916cd43dd8448eb211c80319c", "b7ad6b7169203331"
FIRST_SECOND = -62_135_596_800
ADDED = {"shard", "flush_id", "ingested_at", "ordinal"}


def moment(**before: float) -> tuple[Timestamp, datetime]:
    """Give a time with nanoseconds, and what is stored of it."""
    stored = (now() - timedelta(**before)).replace(microsecond=123_456)
    given = stamp(stored)
    given.nanos += 789
    return given, stored


async def only_row(connection: Any, table: str) -> dict[str, Any]:
    (row,) = await connection.fetch(f"SELECT * FROM {table}")
    return {name: value for name, value in row.items() if name not in ADDED}


async def test_every_column_of_an_event(channel: aio.Channel, connection: Any) -> None:
    given, stored = moment(hours=3)
    sent = event(
        "user_login",
        event_timestamp=given,
        event_type=EventType.EVENT_TYPE_SECURITY_EVENT,
        event_category="authentication",
        user_id="u-1",
        license_id="acme",
        session_id="s-1",
        event_data='{"b": [1, 2.50, null], "a": {"é": "😀"}, "n": 12345678901234567890.10}',
        tags=["two", "one", "two", ""],
        duration_ms=0.1,
        source="web",
        source_ip="2001:db8::1",
        trace_id=TRACE.upper(),
        span_id=SPAN_ID.upper(),
        user_agent="curl/8",
        source_version="1.2.3",
        event_id="ignored",
        ingested_at=Timestamp(seconds=1),
    )
    await ingest(channel, request(sent))
    row = await only_row(connection, "telemetry_events")
    assert row.pop("event_id").version == 7
    assert row.pop("event_data") == (
        '{"a": {"é": "😀"}, "b": [1, 2.50, null], "n": 12345678901234567890.10}'
    )
    assert row == {
        "event_timestamp": stored,
        "event_type": "security_event",
        "event_name": "user_login",
        "event_category": "authentication",
        "user_id": "u-1",
        "license_id": "acme",
        "session_id": "s-1",
        "tags": ["two", "one", "two", ""],
        "duration_ms": 0.1,
        "source": "web",
        "source_ip": ip_address("2001:db8::1"),
        "source_version": "1.2.3",
        "user_agent": "curl/8",
        "trace_id": TRACE,
        "span_id": SPAN_ID,
    }


async def test_every_column_of_a_kpi(channel: aio.Channel, connection: Any) -> None:
    start = now().replace(hour=0, minute=30, second=0, microsecond=654_321) - timedelta(days=3)
    sent = kpi(
        "revenue",
        metric_category="money",
        metric_value="-12345678901234567890.123456789012345600",
        metric_unit="cents",
        currency="EUR",
        period_start=stamp(start),
        period_end=stamp(start + timedelta(days=1)),
        period_type=PeriodType.PERIOD_TYPE_DAILY,
        calculation_method=CalculationMethod.CALCULATION_METHOD_DISTINCT_COUNT,
        license_id="acme",
        customer_id="c-1",
        user_id="u-1",
        dimensions={"z": "", "a": "é"},
        time_zone="America/New_York",
    )
    await ingest(channel, request(sent))
    row = await only_row(connection, "business_metric_versions")
    assert row.pop("metric_id").version == 7
    assert row.pop("identity_hash") is not None
    assert json.loads(row.pop("dimensions")) == {"a": "é", "z": ""}
    # Half past midnight UTC is the evening before in New York.
    local = date.fromordinal(start.toordinal() - 1)
    assert row == {
        "period_start": start,
        "period_end": start + timedelta(days=1),
        "period_date": local,
        "period_type": "daily",
        "metric_name": "revenue",
        "metric_category": "money",
        "metric_value": Decimal("-12345678901234567890.123456789012345600"),
        "metric_unit": "cents",
        "currency": "EUR",
        "calculation_method": "distinct_count",
        "license_id": "acme",
        "customer_id": "c-1",
        "user_id": "u-1",
        "time_zone": "America/New_York",
    }


@pytest.mark.parametrize("value", ["49.90", "0", "-0.00", "1.000000000000000000", "007"])
async def test_money_keeps_the_scale_it_was_sent_with(
    channel: aio.Channel, connection: Any, value: str
) -> None:
    await ingest(channel, request(kpi(metric_value=value)))
    text = await connection.fetchval("SELECT metric_value::text FROM business_metric_versions")
    assert Decimal(text) == Decimal(value)
    assert text.partition(".")[2] == value.partition(".")[2]


async def test_every_column_of_a_span(channel: aio.Channel, connection: Any) -> None:
    given, stored = moment(hours=1)
    sent = span(
        "GET /users",
        trace_id="8448eb211c80319c",
        span_id=SPAN_ID,
        parent_span_id="00F067AA0BA902B7",
        service_name="users",
        kind=SpanKind.SPAN_KIND_SERVER,
        start_time=given,
        duration_ms=12.5,
        status=SpanStatus.SPAN_STATUS_ERROR,
        error_message="boom",
        http_method="GET",
        http_url="http://x/users",
        http_status_code=0,
        user_id="u-1",
        license_id="acme",
        tags={"k": "v" * 750, "e": ""},
        events=[
            SpanEvent(time=given, name="retry", attributes={"n": "1"}),
            SpanEvent(time=Timestamp(seconds=-62_135_596_800)),
            SpanEvent(),
        ],
        links=[SpanLink(trace_id=TRACE, span_id=SPAN_ID, attributes={"a": "b"}), SpanLink()],
        session_id="s-1",
        host_name="h-1",
        instance_id="i-1",
        service_version="2.0",
        trace_state="vendor=1",
    )
    await ingest(channel, request(sent))
    row = await only_row(connection, "traces")
    assert json.loads(row.pop("tags")) == {"k": "v" * 750, "e": ""}
    assert json.loads(row.pop("events")) == [
        {"name": "retry", "time": stored.isoformat(), "attributes": {"n": "1"}},
        {"name": "", "time": "0001-01-01T00:00:00+00:00"},
        {"name": ""},
    ]
    assert json.loads(row.pop("links")) == [
        {"trace_id": TRACE, "span_id": SPAN_ID, "attributes": {"a": "b"}},
        {"trace_id": "", "span_id": ""},
    ]
    assert row == {
        "trace_id": "0000000000000000" + "8448eb211c80319c",
        "span_id": SPAN_ID,
        "parent_span_id": "00f067aa0ba902b7",
        "service_name": "users",
        "operation_name": "GET /users",
        "kind": "server",
        "start_time": stored,
        "duration_ms": 12.5,
        "end_time": stored + timedelta(milliseconds=12.5),
        "status": "error",
        "error_message": "boom",
        "http_method": "GET",
        "http_url": "http://x/users",
        "http_status_code": 0,
        "user_id": "u-1",
        "license_id": "acme",
        "session_id": "s-1",
        "host_name": "h-1",
        "instance_id": "i-1",
        "service_version": "2.0",
        "trace_state": "vendor=1",
    }


IDENTITY: dict[str, Any] = {
    "metric_type": MetricType.METRIC_TYPE_TIMER,
    "metric_unit": "ms",
    "service_name": "users",
    "host_name": "h-1",
    "instance_id": "i-1",
    "labels": {"b": "", "a": "é"},
    "license_id": "acme",
    "temporality": Temporality.TEMPORALITY_DELTA,
}


async def test_every_column_of_a_sample(channel: aio.Channel, connection: Any) -> None:
    given, stored = moment(days=100)
    await ingest(
        channel,
        request(sample("latency", metric_timestamp=given, metric_value=-0.1, **IDENTITY)),
    )
    row = await only_row(connection, "metric_samples")
    series = dict(await connection.fetchrow("SELECT * FROM metric_series"))
    assert row == {"series_id": series["series_id"], "time": stored, "value": -0.1}
    assert json.loads(series["labels"]) == {"a": "é", "b": ""}
    assert {name: series[name] for name in (*IDENTITY, "metric_name") if name != "labels"} == {
        "metric_name": "latency",
        "metric_type": "timer",
        "metric_unit": "ms",
        "service_name": "users",
        "host_name": "h-1",
        "instance_id": "i-1",
        "license_id": "acme",
        "temporality": "delta",
    }


async def test_every_column_of_a_distribution(channel: aio.Channel, connection: Any) -> None:
    given, stored = moment(days=1)
    spread = Distribution(
        count=2**63 - 1,
        sum=1e308,
        min=-1.5,
        max=99.5,
        upper_bounds=[-1.0, 0.0, 0.1],
        bucket_counts=[1, 0, 2**63 - 3, 1],
    )
    percentiles = {f"percentile_{rank}": rank + 0.5 for rank in (50, 90, 95, 99)}
    await ingest(
        channel,
        request(
            sample(
                "d", metric_timestamp=given, metric_value=0.0, distribution=spread, **percentiles
            )
        ),
    )
    row = await only_row(connection, "metric_distributions")
    row.pop("series_id")
    assert row == {
        "time": stored,
        "value": 0.0,
        **percentiles,
        "distribution_count": 2**63 - 1,
        "distribution_sum": 1e308,
        "distribution_min": -1.5,
        "distribution_max": 99.5,
        "upper_bounds": [-1.0, 0.0, 0.1],
        "bucket_counts": [1, 0, 2**63 - 3, 1],
    }


async def test_percentiles_alone_and_bounds_alone(channel: aio.Channel, connection: Any) -> None:
    await ingest(
        channel,
        request(
            sample("p", metric_value=None, percentile_95=0.0),
            sample("d", metric_value=None, distribution=Distribution(count=0)),
        ),
    )
    rows = await connection.fetch("SELECT * FROM metric_distributions ORDER BY ordinal")
    only_percentile, empty = (
        {name for name, value in row.items() if value is not None} for row in rows
    )
    key = {"series_id", "time", "ordinal", "shard", "flush_id"}
    assert only_percentile == key | {"percentile_95"}
    assert empty == key | {f"distribution_{name}" for name in ("count", "sum", "min", "max")}


NOT_NULL = {
    "telemetry_events": {"event_id", "event_timestamp", "event_type", "event_name"},
    "business_metric_versions": {"metric_id", "period_start", "period_end", "period_date"}
    | {"period_type", "metric_name", "metric_value", "dimensions", "time_zone", "identity_hash"},
    "traces": {"trace_id", "span_id", "service_name", "operation_name", "start_time", "tags"},
    "metric_series": {"series_id", "metric_name", "metric_type", "labels", "identity_hash"}
    | {"created_at", "seen_on"},
}


async def test_an_empty_text_is_null(channel: aio.Channel, connection: Any) -> None:
    begun = now()
    await ingest(channel, request(event(), sample(), kpi(), span()))
    for table, filled in NOT_NULL.items():
        (row,) = await connection.fetch(f"SELECT * FROM {table}")
        assert {name for name, value in row.items() if value is not None} - ADDED == filled, table
    for table, time in (("telemetry_events", "event_timestamp"), ("traces", "start_time")):
        received = await connection.fetchval(f"SELECT {time} FROM {table}")
        assert begun <= received <= now()


async def test_defaults_fill_what_records_leave_empty(
    channel: aio.Channel, connection: Any
) -> None:
    defaults = RecordDefaults(
        license_id="d-license",
        source="d-source",
        source_version="d-version",
        service_name="d-service",
        host_name="d-host",
        instance_id="d-instance",
    )
    own = {"license_id": "own", "service_name": "own", "host_name": "own", "instance_id": "own"}
    async with IngestCall(channel) as stream:
        await stream.welcome(defaults=defaults)
        committed = await stream.commit(
            1,
            event(),
            event(license_id="own", source="own", source_version="own"),
            sample(),
            sample(**own),
            kpi(),
            span(service_name=""),
            span(**own),
        )
    assert list(committed.verdicts) == []

    async def rows(query: str) -> list[tuple[Any, ...]]:
        return [tuple(row) for row in await connection.fetch(query + " ORDER BY 1")]

    assert await rows("SELECT license_id, source, source_version FROM telemetry_events") == [
        ("d-license", "d-source", "d-version"),
        ("own", "own", "own"),
    ]
    wanted = [("d-license", "d-service", "d-host", "d-instance"), ("own",) * 4]
    names = "license_id, service_name, host_name, instance_id"
    assert await rows(f"SELECT {names} FROM metric_series") == wanted
    assert await rows(f"SELECT {names} FROM traces") == wanted
    assert await rows("SELECT license_id FROM business_metric_versions") == [("d-license",)]


async def test_a_counter_without_temporality_is_cumulative(
    channel: aio.Channel, connection: Any
) -> None:
    counter = MetricType.METRIC_TYPE_COUNTER
    await ingest(
        channel,
        request(
            sample(metric_type=counter),
            sample(metric_type=counter, temporality=Temporality.TEMPORALITY_CUMULATIVE),
            sample(metric_type=counter, temporality=Temporality.TEMPORALITY_DELTA),
            sample(),
        ),
    )
    rows = await connection.fetch(
        "SELECT s.metric_type::text, s.temporality::text, count(*) FROM metric_samples "
        "JOIN metric_series s USING (series_id) GROUP BY 1, 2 ORDER BY 1, 2"
    )
    assert [tuple(row) for row in rows] == [
        ("counter", "cumulative", 2),
        ("counter", "delta", 1),
        ("gauge", None, 1),
    ]


async def test_equal_samples_are_kept_twice(channel: aio.Channel, connection: Any) -> None:
    at = now()
    one = sample(metric_timestamp=stamp(at))
    await ingest(channel, request(one, one))
    await ingest(channel, request(one, columns(1.0, at=at)))
    assert await connection.fetchval("SELECT count(*) FROM metric_samples") == 4
    assert await connection.fetchval("SELECT count(DISTINCT series_id) FROM metric_samples") == 1


async def test_samples_of_columns_equal_samples_of_messages(
    channel: aio.Channel, connection: Any
) -> None:
    at = now()
    given = columns(*range(100), at=at)
    await ingest(channel, request(given))
    base = given.time_unix_micros[0]
    rows = await connection.fetch("SELECT time, value FROM metric_samples ORDER BY value")
    epoch = datetime(1970, 1, 1, tzinfo=UTC)
    assert [tuple(row) for row in rows] == [
        (epoch + timedelta(microseconds=base + place), float(place)) for place in range(100)
    ]


async def test_series_ids_are_stable_over_servers(
    settings: Settings, serving: Serving, connection: Any
) -> None:
    orders: list[list[SystemMetric]] = [
        [sample(f"metric-{number}", labels={"n": str(number)}) for number in numbers]
        for numbers in (range(20), range(19, -1, -1), range(20))
    ]
    for sent in orders:
        async with serving(settings) as app, aio.insecure_channel(app.address) as channel:
            await ingest(channel, request(*sent))
    assert await connection.fetchval("SELECT count(*) FROM metric_series") == 20
    counts = await connection.fetch("SELECT count(*) FROM metric_samples GROUP BY series_id")
    assert [row["count"] for row in counts] == [3] * 20


async def test_what_the_flush_adds(channel: aio.Channel, connection: Any) -> None:
    before = await connection.fetchval("SELECT clock_timestamp()")
    async with IngestCall(channel) as stream:
        await stream.welcome("producer-7", defaults=RecordDefaults(license_id="acme"))
        committed = await stream.commit(
            1,
            *(event(f"e{number:03}") for number in range(300)),
            *(kpi(f"k{number:03}") for number in range(300)),
            *(span(f"s{number:03}") for number in range(300)),
            *(sample(percentile_50=float(number)) for number in range(10)),
            sample(),
        )
        await stream.commit(2, event("later"))
    after = await connection.fetchval("SELECT clock_timestamp()")
    flush_id = int(committed.commit_token, 16)
    of_flush = f"FROM {{}} WHERE flush_id = {flush_id}"
    for table, order, name, letter in (
        ("telemetry_events", "event_id", "event_name", "e"),
        ("business_metric_versions", "metric_id", "metric_name", "k"),
        ("traces", "ordinal", "operation_name", "s"),
    ):
        query = f"SELECT {name} AS name, shard, ingested_at {of_flush} ORDER BY {order}"
        rows = await connection.fetch(query.format(table))
        assert [row["name"] for row in rows] == [f"{letter}{n:03}" for n in range(300)], table
        assert {row["shard"] for row in rows} == {shard_of("acme", "producer-7")}
        (ingested_at,) = {row["ingested_at"] for row in rows}
        assert before <= ingested_at <= after
    query = f"SELECT percentile_50 {of_flush} ORDER BY ordinal".format("metric_distributions")
    assert [row[0] for row in await connection.fetch(query)] == [float(n) for n in range(10)]
    flush = await connection.fetchrow("SELECT * FROM flushes WHERE flush_id = $1", flush_id)
    names = ("event", "business_metric", "span", "distribution", "sample")
    assert [flush[f"{name}_count"] for name in names] == [300, 300, 300, 10, 1]
    assert flush["ingested_at"] == ingested_at
    extremes = await connection.fetchrow(
        "SELECT min(period_end), max(period_end) FROM business_metric_versions"
    )
    assert (flush["business_metric_min_time"], flush["business_metric_max_time"]) == tuple(extremes)


async def test_shards_lie_within_64_and_belong_to_a_producer(
    channel: aio.Channel, connection: Any
) -> None:
    for producer in ("a", "b", "a"):
        async with IngestCall(channel) as stream:
            welcome = await stream.welcome(producer)
            await stream.commit(welcome.last_sequence + 1, event(producer))
            await stream.end()
    for _ in range(20):
        await ingest(channel, request(event("unary")))
    rows = await connection.fetch("SELECT event_name, shard FROM telemetry_events")
    assert {row["shard"] for row in rows if row["event_name"] != "unary"} == {
        shard_of("", "a"),
        shard_of("", "b"),
    }
    unary = {row["shard"] for row in rows if row["event_name"] == "unary"}
    assert len(unary) > 1
    assert all(0 <= shard < 64 for shard in unary)


async def test_the_latest_of_an_identity_is_current(channel: aio.Channel, connection: Any) -> None:
    same = kpi("revenue", metric_value="1.0", currency="EUR")
    await ingest(channel, request(same))
    other = kpi("revenue", metric_value="9", currency="USD")
    corrected = kpi("revenue", metric_value="2.0", currency="EUR")
    last = kpi("revenue", metric_value="3.0", currency="EUR")
    await ingest(channel, request(corrected, other, last))
    assert await connection.fetchval("SELECT count(*) FROM business_metric_versions") == 4
    current = await connection.fetch("SELECT metric_value FROM business_metrics ORDER BY 1")
    assert [str(row["metric_value"]) for row in current] == ["3.0", "9"]


async def partitions(connection: Any, table: str) -> dict[str, str]:
    rows = await connection.fetch(
        "SELECT c.relname, pg_get_expr(c.relpartbound, c.oid) AS bounds FROM pg_inherits i "
        "JOIN pg_class c ON c.oid = i.inhrelid WHERE i.inhparent = $1::text::regclass",
        table,
    )
    return {row["relname"]: row["bounds"] for row in rows}


async def test_late_rows_get_partitions(
    settings: Settings, serving: Serving, connection: Any
) -> None:
    for_ever = settings.model_copy(
        update={f"retention_{kind}_days": 0 for kind in ("events", "metrics", "business", "traces")}
    )
    midnight = now().replace(hour=0, minute=0, second=0, microsecond=0)
    ages = (60, 399, 402, 4_000, 20_000)
    async with serving(for_ever) as app, aio.insecure_channel(app.address) as channel:
        for days in ages:
            at = stamp(midnight - timedelta(days=days) + timedelta(hours=1))
            first = Timestamp(seconds=FIRST_SECOND + 1)
            answer = await ingest(
                channel,
                request(
                    event(event_timestamp=at),
                    sample(metric_timestamp=at),
                    sample(metric_timestamp=at, percentile_50=1.0),
                    kpi(period_start=first, period_end=at),
                    span(start_time=at),
                ),
            )
            assert list(answer.result.verdicts) == []
        # The oldest second there is; the one before is Go's zero time, and -infinity to asyncpg.
        ends = [event(event_timestamp=Timestamp(seconds=FIRST_SECOND + more)) for more in (0, 1)]
        result = (await ingest(channel, request(*ends))).result
        assert [(one.index, one.reason) for one in result.verdicts] == [
            (0, VerdictReason.VERDICT_REASON_TIME_TOO_OLD)
        ]
    for table in ("telemetry_events", "metric_samples", "metric_distributions", "traces"):
        bounds = await partitions(connection, table)
        assert sum("MINVALUE" in bound for bound in bounds.values()) == 1
        for days in ages[:2]:
            day = midnight - timedelta(days=days)
            bound = bounds[f"{table}_p{day:%Y%m%d}"]
            assert f"{day:%Y-%m-%d}" in bound
            assert f"{day + timedelta(days=1):%Y-%m-%d}" in bound
    kpis = await partitions(connection, "business_metric_versions")
    assert sum("MINVALUE" in bound for bound in kpis.values()) == 1
    assert await connection.fetchval("SELECT count(*) FROM telemetry_events") == len(ages) + 1
    assert await connection.fetchval("SELECT min(event_timestamp) FROM telemetry_events") == (
        datetime(1, 1, 1, 0, 0, 1, tzinfo=UTC)
    )


async def test_a_partition_dropped_behind_the_server_is_made_again(
    channel: aio.Channel, connection: Any
) -> None:
    late, _ = moment(days=40)
    for expected in (1, 1):
        await ingest(channel, request(event(event_timestamp=late)))
        assert await connection.fetchval("SELECT count(*) FROM telemetry_events") == expected
        name = next(
            name
            for name in await partitions(connection, "telemetry_events")
            if name.endswith(f"p{late.ToDatetime():%Y%m%d}")
        )
        await connection.execute(f"DROP TABLE {name}")
