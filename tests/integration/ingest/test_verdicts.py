"""Each reason for which a record is rejected or adjusted, with good neighbours on both sides."""

from __future__ import annotations

import math
from collections.abc import AsyncIterator, Callable
from contextlib import AbstractAsyncContextManager
from datetime import timedelta
from typing import Any

import pytest
from google.protobuf.message import Message
from google.protobuf.timestamp_pb2 import Timestamp
from grpc import aio

from fernando.telemetry.v1 import (
    Distribution,
    MetricColumns,
    MetricSeries,
    MetricType,
    RecordKind,
    SpanEvent,
    SpanLink,
    VerdictReason,
)
from fernando_telemetry.app import Application
from fernando_telemetry.domain import limits
from fernando_telemetry.settings import Settings
from tests.integration.ingest.ingest_call import IngestCall, batch
from tests.integration.ingest.judging import Bad, Raw, judge
from tests.integration.ingest.records import (
    columns,
    event,
    field,
    kpi,
    now,
    sample,
    span,
    stamp,
)
from tests.integration.transport.server_log import ServerLog

pytestmark = pytest.mark.usefixtures("each_path")

LONGEST_AGES = {"event_timestamp": 90, "metric_timestamp": 180, "period_end": 180, "start_time": 30}


async def test_verdict_field_missing(channel: aio.Channel, connection: Any) -> None:
    await judge(
        channel,
        connection,
        "FIELD_MISSING",
        Bad(event(event_type=0), "event_type"),
        Bad(event(""), "event_name"),
        Bad(sample(""), "metric_name"),
        Bad(sample(metric_type=0), "metric_type"),
        Bad(sample(metric_value=None), "metric_value"),
        Bad(sample(labels={"": "x"}), "labels"),
        Bad(kpi(""), "metric_name"),
        Bad(kpi(metric_value=""), "metric_value"),
        Bad(kpi(period_start=None), "period_start"),
        Bad(kpi(period_end=None), "period_end"),
        Bad(kpi(dimensions={"": "x"}), "dimensions"),
        Bad(span(trace_id=""), "trace_id"),
        Bad(span(span_id=""), "span_id"),
        Bad(span(service_name=""), "service_name"),
        Bad(span(tags={"": "x"}), "tags"),
        Bad(span(events=[SpanEvent(attributes={"": "x"})]), "events[0].attributes"),
        Bad(span(links=[SpanLink(attributes={"": "x"})]), "links[0].attributes"),
    )


async def test_verdict_unknown_enum_value(channel: aio.Channel, connection: Any) -> None:
    await judge(
        channel,
        connection,
        "UNKNOWN_ENUM_VALUE",
        Bad(event(event_type=8), "event_type"),
        Bad(event(event_type=-1), "event_type"),
        Bad(sample(metric_type=6), "metric_type"),
        Bad(sample(temporality=3), "temporality"),
        Bad(kpi(period_type=8), "period_type"),
        Bad(kpi(calculation_method=10), "calculation_method"),
        Bad(span(kind=6), "kind"),
        Bad(span(status=2**31 - 1), "status"),
    )


# Longest texts in bytes of UTF-8, by the function that makes the record.
TEXTS: list[tuple[Any, str, int]] = [
    *((event, name, 256) for name in ("event_name", "event_category", "user_id", "license_id")),
    *((event, name, 256) for name in ("session_id", "source", "source_version")),
    (event, "user_agent", 8192),
    *((sample, name, 256) for name in ("metric_name", "metric_unit", "service_name", "host_name")),
    *((sample, name, 256) for name in ("instance_id", "license_id")),
    *((kpi, name, 256) for name in ("metric_name", "metric_category", "metric_unit", "user_id")),
    *((kpi, name, 256) for name in ("license_id", "customer_id")),
    *((span, name, 256) for name in ("service_name", "operation_name", "http_method", "user_id")),
    *((span, name, 256) for name in ("license_id", "session_id", "host_name", "instance_id")),
    (span, "service_version", 256),
    *((span, name, 8192) for name in ("error_message", "http_url", "trace_state")),
]


def texts_of(size: int) -> tuple[str, str]:
    """Give two texts of `size` bytes: of one byte a character, and of two and four."""
    wide = "é" * (size // 2 - 2) + "😀"
    return "a" * size, wide + "a" * (size - len(wide.encode()))


def with_text(make: Any, name: str, text: str) -> Message:
    record: Message = make(**{name: text}) if name not in _names(make) else make(text)
    return record


def _names(make: Any) -> tuple[str, ...]:
    return {
        event: ("event_name",),
        sample: ("metric_name",),
        kpi: ("metric_name",),
        span: ("operation_name",),
    }[make]


def nested_texts(extra: int) -> list[Bad]:
    """Give records with a text of its limit plus `extra` bytes inside a list or map."""
    return [
        *(Bad(event(tags=["ok", text]), "tags") for text in texts_of(256 + extra)),
        Bad(
            event(event_data='{"a":"' + "é" * (limits.PAYLOAD_BYTES // 2 - 4) + '"}' + " " * extra),
            "event_data",
        ),
        *(Bad(sample(labels={text: "v"}), "labels") for text in texts_of(64 + extra)),
        *(Bad(sample(labels={"key": text}), "labels.key") for text in texts_of(256 + extra)),
        *(Bad(kpi(dimensions={text: "v"}), "dimensions") for text in texts_of(64 + extra)),
        *(Bad(kpi(dimensions={"k": text}), "dimensions.k") for text in texts_of(256 + extra)),
        *(Bad(span(tags={text: "v"}), "tags") for text in texts_of(256 + extra)),
        *(Bad(span(tags={"k": text}), "tags.k") for text in texts_of(8192 + extra)),
        Bad(span(events=[SpanEvent(name="n" * (8192 + extra))]), "events[0].name"),
        Bad(
            span(events=[SpanEvent(), SpanEvent(attributes={"k": "v" * (8192 + extra)})]),
            "events[1].attributes.k",
        ),
        Bad(
            span(links=[SpanLink(attributes={"k" * (256 + extra): "v"})]),
            "links[0].attributes",
        ),
    ]


async def test_verdict_text_too_long(channel: aio.Channel, connection: Any) -> None:
    cases = [
        Bad(with_text(make, name, text), name)
        for make, name, limit in TEXTS
        for text in texts_of(limit + 1)
    ]
    await judge(channel, connection, "TEXT_TOO_LONG", *cases, *nested_texts(1))


async def test_texts_at_their_limit_are_stored(channel: aio.Channel, connection: Any) -> None:
    whole = [with_text(make, name, text) for make, name, limit in TEXTS for text in texts_of(limit)]
    nested = [case.record for case in nested_texts(0) if isinstance(case.record, Message)]
    async with IngestCall(channel) as stream:
        await stream.welcome()
        committed = await stream.commit(1, *whole, *nested)
    assert list(committed.verdicts) == []
    assert committed.accepted_count == len(whole) + len(nested)
    longest = "SELECT max(octet_length(event_name)), max(octet_length(user_agent)) FROM "
    assert tuple(await connection.fetchrow(longest + "telemetry_events")) == (256, 8192)


async def test_verdict_nul_in_text(channel: aio.Channel, connection: Any) -> None:
    nul = "a\0b"
    await judge(
        channel,
        connection,
        "NUL_IN_TEXT",
        *(Bad(with_text(make, name, nul), name) for make, name, _ in TEXTS),
        Bad(event(event_data='{"a": "\0"}'), "event_data"),
        Bad(event(tags=["ok", nul]), "tags"),
        Bad(sample(labels={nul: "v"}), "labels"),
        Bad(sample(labels={"k": nul}), "labels.k"),
        Bad(kpi(dimensions={"k": nul}), "dimensions.k"),
        Bad(kpi(time_zone=nul), "time_zone"),
        Bad(span(tags={nul: "v"}), "tags"),
        Bad(span(events=[SpanEvent(name=nul)]), "events[0].name"),
    )


async def test_verdict_invalid_utf8(channel: aio.Channel, connection: Any) -> None:
    bad = b"caf\xe9"

    def spoilt(good: Message, addition: bytes) -> Raw:
        return Raw(type(good), good.SerializeToString() + addition)

    entry_key, entry_value = field(1, bad) + field(2, "v"), field(1, "k") + field(2, bad)
    await judge(
        channel,
        connection,
        "INVALID_UTF8",
        Bad(spoilt(event(), field(3, bad)), "event_name"),
        Bad(spoilt(event(), field(9, bad)), "tags"),
        Bad(spoilt(event(), field(5, b"\xed\xa0\x80")), "user_id"),
        Bad(spoilt(sample(), field(9, entry_key)), "labels.key"),
        Bad(spoilt(sample(), field(9, entry_value)), "labels.value"),
        Bad(spoilt(kpi(), field(3, bad)), "metric_value"),
        Bad(spoilt(kpi(), field(13, entry_key)), "dimensions.key"),
        Bad(spoilt(span(), field(16, entry_value)), "tags.value"),
        Bad(spoilt(span(), field(17, field(2, bad))), "events.name"),
        Bad(spoilt(span(), field(18, field(3, entry_key))), "links.attributes.key"),
    )


async def test_verdict_invalid_json(channel: aio.Channel, connection: Any) -> None:
    texts = [
        "{",
        "nonsense",
        "[1]",
        '"text"',
        "null",
        "1",
        '{"a": NaN}',
        '{"a": Infinity}',
        '{"a": -Infinity}',
        '{"a": 1e400000}',
        '{"a": 1e-400000}',
        '{"a": 1e131072}',
        '{"a": 1' + "0" * 131_072 + "}",
        '{"a": 0.' + "0" * 16_383 + "1}",
        r'{"a": "\ud800"}',
        r'{"a": "\udc00\ud800"}',
        r'{"\ud800": 1}',
        r'{"a": "\u0000"}',
        r'{"\u0000": 1}',
        # Python keeps the last of two equal keys; PostgreSQL reads them all.
        r'{"a": "\u0000", "a": 1}',
        r'{"b": {"a": "\ud800", "a": 1}}',
        '\ufeff{"a": 1}',
        '{"a": "\x01"}',
        '{"a": "\n"}',
        '{"a": 01}',
        '{"a": 1.}',
        '{"a": .5}',
        '{"a": +1}',
        '{"a": 0x10}',
        '{"a": 1,}',
        '{"a": 1}{}',
        "{'a': 1}",
        '{"a": "\\x41"}',
        '{"a": tru}',
        '{"a": 1} \u00a0',
    ]
    await judge(
        channel,
        connection,
        "INVALID_JSON",
        *(Bad(event(event_data=text), "event_data") for text in texts),
    )


async def test_verdict_json_too_deep(channel: aio.Channel, connection: Any) -> None:
    def nested(levels: int) -> str:
        return '{"a":' * levels + "1" + "}" * levels

    await judge(
        channel,
        connection,
        "JSON_TOO_DEEP",
        Bad(event(event_data=nested(65)), "event_data"),
        Bad(event(event_data='{"a":' + "[" * 64 + "]" * 64 + "}"), "event_data"),
        Bad(event(event_data=nested(10_000)), "event_data"),
        Bad(event(event_data='{"a":' + "[" * 100_000), "event_data"),
    )
    async with IngestCall(channel) as stream:
        await stream.welcome("deep-enough")
        brackets = '{"a": "' + "[{" * 200 + '"}'
        committed = await stream.commit(1, event(event_data=nested(64)), event(event_data=brackets))
    assert committed.accepted_count == 2


async def test_verdict_time_too_old(channel: aio.Channel, connection: Any) -> None:
    def older(days: float) -> Timestamp:
        return stamp(now() - timedelta(days=days))

    await judge(
        channel,
        connection,
        "TIME_TOO_OLD",
        Bad(event(event_timestamp=older(90.01)), "event_timestamp"),
        Bad(event(event_timestamp=Timestamp(seconds=-1)), "event_timestamp"),
        Bad(event(event_timestamp=Timestamp(seconds=-(2**62))), "event_timestamp"),
        Bad(sample(metric_timestamp=older(180.01)), "metric_timestamp"),
        Bad(kpi(period_start=older(200), period_end=older(180.01)), "period_end"),
        Bad(kpi(period_start=Timestamp(seconds=-(2**62))), "period_start"),
        # Go's zero time, which asyncpg would store as -infinity.
        Bad(kpi(period_start=Timestamp(seconds=-62_135_596_800)), "period_start"),
        Bad(span(start_time=older(30.01)), "start_time"),
        Bad(span(duration_ms=30.01 * 86_400_000), "duration_ms"),
    )
    async with IngestCall(channel) as stream:
        await stream.welcome("young-enough")
        committed = await stream.commit(
            1,
            event(event_timestamp=older(89.99)),
            sample(metric_timestamp=older(179.99)),
            # A KPI's age is that of the period's end.
            kpi(period_start=older(2000), period_end=older(179.99)),
            span(start_time=older(29.99)),
            span(duration_ms=29.99 * 86_400_000),
        )
    assert list(committed.verdicts) == []


async def test_verdict_time_in_future(channel: aio.Channel, connection: Any) -> None:
    def ahead(days: float) -> Timestamp:
        return stamp(now() + timedelta(days=days))

    await judge(
        channel,
        connection,
        "TIME_IN_FUTURE",
        Bad(event(event_timestamp=ahead(1.01)), "event_timestamp"),
        Bad(event(event_timestamp=Timestamp(seconds=2**62)), "event_timestamp"),
        Bad(sample(metric_timestamp=ahead(1.01)), "metric_timestamp"),
        Bad(kpi(period_start=ahead(1.01), period_end=ahead(2)), "period_start"),
        Bad(kpi(period_end=ahead(400.01)), "period_end"),
        Bad(span(start_time=ahead(1.01)), "start_time"),
    )
    async with IngestCall(channel) as stream:
        await stream.welcome("near-enough")
        committed = await stream.commit(
            1,
            event(event_timestamp=ahead(0.99)),
            sample(metric_timestamp=ahead(0.99)),
            kpi(period_start=ahead(0.99), period_end=ahead(399.99)),
            span(start_time=ahead(0.99)),
        )
    assert list(committed.verdicts) == []


async def test_verdict_value_not_finite(channel: aio.Channel, connection: Any) -> None:
    def spread(**fields: Any) -> Message:
        return sample(distribution=Distribution(count=1, **fields))

    await judge(
        channel,
        connection,
        "VALUE_NOT_FINITE",
        *(Bad(event(duration_ms=bad), "duration_ms") for bad in (math.nan, math.inf)),
        *(Bad(sample(metric_value=bad), "metric_value") for bad in (math.nan, math.inf, -math.inf)),
        *(
            Bad(sample(name, **{name: math.nan}), name)
            for name in ("percentile_50", "percentile_90", "percentile_95", "percentile_99")
        ),
        *(
            Bad(spread(**{name: math.inf}), f"distribution.{name}")
            for name in ("sum", "min", "max")
        ),
        Bad(
            spread(upper_bounds=[1, math.inf], bucket_counts=[1, 0, 0]),
            "distribution.upper_bounds",
        ),
        Bad(span(duration_ms=-math.inf), "duration_ms"),
    )


async def test_verdict_invalid_decimal(channel: aio.Channel, connection: Any) -> None:
    bad = ("1e3", "+1", " 1", "1 ", "1.", ".5", "1,5", "NaN", "Infinity", "0x1", "--1", "٣")
    long = ("1" * 21, "0." + "1" * 19, "9" * 10_000)
    await judge(
        channel,
        connection,
        "INVALID_DECIMAL",
        *(Bad(kpi(metric_value=value), "metric_value") for value in (*bad, *long)),
    )


async def test_verdict_invalid_currency(channel: aio.Channel, connection: Any) -> None:
    await judge(
        channel,
        connection,
        "INVALID_CURRENCY",
        *(Bad(kpi(currency=code), "currency") for code in ("eur", "EURO", "XYZ", "€", "E\0R")),
    )


async def test_verdict_invalid_period(channel: aio.Channel, connection: Any) -> None:
    same, earlier = stamp(now()), stamp(now() - timedelta(hours=1))
    await judge(
        channel,
        connection,
        "INVALID_PERIOD",
        Bad(kpi(period_start=same, period_end=same), "period_end"),
        Bad(kpi(period_start=same, period_end=earlier), "period_end"),
    )


async def test_verdict_invalid_id(channel: aio.Channel, connection: Any) -> None:
    await judge(
        channel,
        connection,
        "INVALID_ID",
        *(
            Bad(event(trace_id=bad), "trace_id")
            for bad in ("0" * 32, "g" * 32, "a" * 31, "a" * 33, "0" * 16, "a" * 100_000, "ª" * 32)
        ),
        *(Bad(event(span_id=bad), "span_id") for bad in ("0" * 16, "a" * 17, "x" * 16)),
        Bad(span(trace_id="no"), "trace_id"),
        Bad(span(span_id="a" * 32), "span_id"),
        Bad(span(parent_span_id="0" * 16), "parent_span_id"),
        Bad(span(links=[SpanLink(), SpanLink(trace_id="no")]), "links[1].trace_id"),
        Bad(span(links=[SpanLink(span_id="no")]), "links[0].span_id"),
    )


async def test_verdict_invalid_ip(channel: aio.Channel, connection: Any) -> None:
    bad = ("testclient", "fe80::1%eth0", "10.0.0.0/8", "::1/64", "1.2.3", "01.2.3.4", "1.2.3.4\0")
    await judge(
        channel,
        connection,
        "INVALID_IP",
        *(Bad(event(source_ip=address), "source_ip") for address in bad),
        kept=True,
    )
    assert await connection.fetchval("SELECT count(source_ip) FROM telemetry_events") == 0


async def test_verdict_too_many_labels(channel: aio.Channel, connection: Any) -> None:
    def entries(count: int) -> dict[str, str]:
        return {f"key{number}": "v" for number in range(count)}

    await judge(
        channel,
        connection,
        "TOO_MANY_LABELS",
        Bad(event(tags=["tag"] * 65), "tags"),
        Bad(sample(labels=entries(65)), "labels"),
        Bad(kpi(dimensions=entries(65)), "dimensions"),
        Bad(span(tags=entries(65)), "tags"),
        Bad(span(events=[SpanEvent(attributes=entries(65))]), "events[0].attributes"),
        Bad(span(links=[SpanLink(attributes=entries(65))]), "links[0].attributes"),
    )
    async with IngestCall(channel) as stream:
        await stream.welcome("few-enough")
        most = entries(64)
        committed = await stream.commit(
            1,
            event(tags=["tag"] * 64),
            sample(labels=most),
            kpi(dimensions=most),
            span(tags=most),
        )
    assert list(committed.verdicts) == []


async def test_verdict_too_many_items(channel: aio.Channel, connection: Any) -> None:
    buckets = Distribution(upper_bounds=list(range(160)), bucket_counts=[0] * 161)
    await judge(
        channel,
        connection,
        "TOO_MANY_ITEMS",
        Bad(sample(distribution=buckets), "distribution.bucket_counts"),
        Bad(span(events=[SpanEvent()] * 129), "events"),
        Bad(span(links=[SpanLink()] * 129), "links"),
    )
    async with IngestCall(channel) as stream:
        await stream.welcome("few-enough")
        most = Distribution(upper_bounds=list(range(159)), bucket_counts=[0] * 160)
        committed = await stream.commit(
            1,
            sample(distribution=most),
            span(events=[SpanEvent()] * 128, links=[SpanLink()] * 128),
        )
    assert list(committed.verdicts) == []


async def test_verdict_record_too_large(channel: aio.Channel, connection: Any) -> None:
    events = [SpanEvent(name="n" * 8192)] * 65
    await judge(channel, connection, "RECORD_TOO_LARGE", Bad(span(events=events), ""))


async def test_verdict_invalid_distribution(channel: aio.Channel, connection: Any) -> None:
    def bad(field_path: str, **fields: Any) -> Bad:
        return Bad(sample(distribution=Distribution(**fields)), f"distribution.{field_path}")

    await judge(
        channel,
        connection,
        "INVALID_DISTRIBUTION",
        bad("bucket_counts", count=1, upper_bounds=[1], bucket_counts=[1]),
        bad("bucket_counts", count=1, upper_bounds=[1, 2], bucket_counts=[1]),
        bad("bucket_counts", count=1, upper_bounds=[1]),
        bad("count", count=3, upper_bounds=[1], bucket_counts=[1, 1]),
        bad("count", count=0, upper_bounds=[1], bucket_counts=[2**63, 2**63]),
        bad("upper_bounds", count=2, upper_bounds=[1, 1], bucket_counts=[1, 1, 0]),
        bad("upper_bounds", count=2, upper_bounds=[2, 1], bucket_counts=[1, 1, 0]),
        bad("min", count=2, min=2, max=1),
    )


async def test_verdict_invalid_time_zone(channel: aio.Channel, connection: Any) -> None:
    names = ("Nowhere/Land", "../etc/passwd", "/etc/passwd", "Europe", "tzdata.zi", "UTC+1", " UTC")
    await judge(
        channel,
        connection,
        "INVALID_TIME_ZONE",
        *(Bad(kpi(time_zone=name), "time_zone") for name in names),
    )


async def test_verdict_value_out_of_range(channel: aio.Channel, connection: Any) -> None:
    today = int(now().timestamp())
    negative, whole = Timestamp(seconds=today, nanos=-1), Timestamp(seconds=today, nanos=10**9)
    await judge(
        channel,
        connection,
        "VALUE_OUT_OF_RANGE",
        Bad(event(event_timestamp=negative), "event_timestamp.nanos"),
        Bad(event(event_timestamp=whole), "event_timestamp.nanos"),
        Bad(event(duration_ms=-0.001), "duration_ms"),
        Bad(event(duration_ms=1.0001e12), "duration_ms"),
        Bad(sample(metric_timestamp=whole), "metric_timestamp.nanos"),
        Bad(sample(distribution=Distribution(count=2**63)), "distribution.count"),
        Bad(kpi(period_end=negative), "period_end.nanos"),
        Bad(span(start_time=whole), "start_time.nanos"),
        Bad(span(events=[SpanEvent(time=Timestamp(seconds=2**62))]), "events[0].time"),
        Bad(span(events=[SpanEvent(time=negative)]), "events[0].time"),
    )


async def column_verdicts(
    channel: aio.Channel, connection: Any, given: MetricColumns, *raw: bytes
) -> list[tuple[int, str, str]]:
    """Send columns; gives (index, reason, field path) of the verdicts."""
    data = field(5, given.SerializeToString() + b"".join(raw))
    async with IngestCall(channel) as stream:
        await stream.welcome()
        committed = await stream.commit(1, data)
    total = len(given.value)
    assert committed.accepted_count + committed.rejected_count == total
    stored = await connection.fetchval("SELECT count(*) FROM metric_samples")
    assert stored == committed.accepted_count
    assert all(one.kind == RecordKind.RECORD_KIND_METRIC_COLUMNS for one in committed.verdicts)
    return [
        (one.index, VerdictReason.Name(one.reason).removeprefix("VERDICT_REASON_"), one.field_path)
        for one in committed.verdicts
    ]


async def test_verdict_unknown_series_index(channel: aio.Channel, connection: Any) -> None:
    given = columns(1, 2, 3, 4)
    given.series_index[1] = 1
    given.series_index[3] = 2**32 - 1
    assert await column_verdicts(channel, connection, given) == [
        (1, "UNKNOWN_SERIES_INDEX", "metric_columns.series_index"),
        (3, "UNKNOWN_SERIES_INDEX", "metric_columns.series_index"),
    ]


async def test_samples_of_columns_are_judged_one_by_one(
    channel: aio.Channel, connection: Any
) -> None:
    given = columns(1, math.nan, 3, 4, 5, 6, -math.inf)
    day = 86_400_000_000
    given.time_unix_micros[2] -= 181 * day
    given.time_unix_micros[3] += 2 * day
    given.time_unix_micros[4] = -(2**63)
    given.time_unix_micros[5] = 2**63 - 1
    time = "metric_columns.time_unix_micros"
    assert await column_verdicts(channel, connection, given) == [
        (1, "VALUE_NOT_FINITE", "metric_columns.value"),
        (2, "TIME_TOO_OLD", time),
        (3, "TIME_IN_FUTURE", time),
        (4, "TIME_TOO_OLD", time),
        (5, "TIME_IN_FUTURE", time),
        (6, "VALUE_NOT_FINITE", "metric_columns.value"),
    ]


async def test_a_bad_series_costs_its_own_samples(channel: aio.Channel, connection: Any) -> None:
    gauge = MetricType.METRIC_TYPE_GAUGE
    bad = [
        MetricSeries(metric_type=gauge),
        MetricSeries(metric_name="a", metric_type=9),  # type: ignore[arg-type]
        MetricSeries(metric_name="a", metric_type=gauge, labels={"k": "v" * 257}),
    ]
    given = columns(*range(8), series=bad)
    given.series_index[:] = [0, 1, 0, 2, 0, 3, 3, 0]
    path = "metric_columns.series"
    assert await column_verdicts(channel, connection, given) == [
        (1, "FIELD_MISSING", f"{path}[1].metric_name"),
        (3, "UNKNOWN_ENUM_VALUE", f"{path}[2].metric_type"),
        (5, "TEXT_TOO_LONG", f"{path}[3].labels.k"),
        (6, "TEXT_TOO_LONG", f"{path}[3].labels.k"),
    ]


@pytest.mark.parametrize(
    ("series", "name"),
    [
        (field(1, b"\xff"), "metric_name"),
        (field(7, field(1, b"\xff") + field(2, "v")), "labels.key"),
    ],
)
async def test_invalid_utf8_in_a_series_costs_its_own_samples(
    channel: aio.Channel, connection: Any, series: bytes, name: str
) -> None:
    given = columns(1, 2, 3)
    given.series_index[1] = 1
    assert await column_verdicts(channel, connection, given, field(1, series)) == [
        (1, "INVALID_UTF8", f"metric_columns.series[1].{name}")
    ]


async def test_verdict_refused_by_database(
    channel: aio.Channel, connection: Any, server_log: ServerLog
) -> None:
    await connection.execute(
        "ALTER TABLE telemetry_events ADD CONSTRAINT refuses CHECK (event_name <> 'refused')"
    )
    async with IngestCall(channel) as stream:
        await stream.welcome()
        names = ["a", "b", "refused", "c", "d", "refused", "e"]
        records = [*map(event, names), sample(), span()]
        committed = await stream.commit(1, *records)
        again = await stream.commit(2, event("f"))
        await stream.end()
    assert [(one.index, one.reason, one.field_path) for one in committed.verdicts] == [
        (place, VerdictReason.VERDICT_REASON_REFUSED_BY_DATABASE, "") for place in (2, 5)
    ]
    assert (committed.accepted_count, committed.rejected_count) == (7, 2)
    assert again.accepted_count == 1
    stored = await connection.fetch("SELECT event_name FROM telemetry_events ORDER BY event_id")
    assert [row["event_name"] for row in stored] == ["a", "b", "c", "d", "e", "f"]
    entries = server_log.named("rows_refused_by_database")
    assert [(entry["rows"], entry["log_level"]) for entry in entries] == [(2, "error")]
    assert "refuses" in entries[0]["reason"]
    async with IngestCall(channel) as stream:
        await stream.welcome()
        await stream.send(batch(1, *records))
        repeat = (await stream.ack()).duplicate
    assert (repeat.accepted_count, repeat.rejected_count) == (7, 2)


async def test_verdicts_stop_at_a_hundred_and_counts_go_on(
    channel: aio.Channel, connection: Any
) -> None:
    async with IngestCall(channel) as stream:
        await stream.welcome()
        committed = await stream.commit(1, *[event("")] * 150, event())
    assert len(committed.verdicts) == 100
    assert committed.verdicts_truncated
    assert (committed.accepted_count, committed.rejected_count) == (1, 150)


SMALL_LIMIT = 3


@pytest.fixture
async def limited(
    settings: Settings, serving: Callable[[Settings], AbstractAsyncContextManager[Application]]
) -> AsyncIterator[Application]:
    """A server that lets a metric have few series."""
    small = settings.model_copy(update={"series_limit": SMALL_LIMIT, "health_interval_seconds": 0})
    async with serving(small) as app:
        yield app


async def test_verdict_label_cardinality(limited: Application, connection: Any) -> None:
    """Samples, distributions and columns are kept; the ack counts and lists what became coarser."""
    made = sample("m", labels={"user": "u0", "region": "eu"})
    metrics = [sample("m", labels={"user": f"u{n}", "region": "eu"}) for n in range(SMALL_LIMIT)]
    later = [
        sample("m", labels={"user": "new", "region": "us"}, percentile_50=1.0),
        made,
        sample("m", labels={"user": "newer", "region": "us"}),
    ]
    packed = MetricColumns(
        series=[
            MetricSeries(metric_name="m", metric_type=MetricType.METRIC_TYPE_GAUGE, labels=labels)
            for labels in ({"user": "u1", "region": "eu"}, {"user": "newest", "region": "us"})
        ],
        series_index=[0, 1, 1],
        time_unix_micros=[int(now().timestamp() * 1e6) + n for n in range(3)],
        value=[1.0, 2.0, 3.0],
    )
    async with aio.insecure_channel(limited.address) as channel, IngestCall(channel) as stream:
        await stream.welcome()
        first = await stream.commit(1, *metrics)
        assert (first.accepted_count, first.adjusted_count) == (SMALL_LIMIT, 0)
        second = await stream.commit(2, *later, packed)
        await stream.end()
    async with aio.insecure_channel(limited.address) as channel, IngestCall(channel) as stream:
        await stream.welcome()
        await stream.send(batch(2, *later, packed))
        repeat = (await stream.ack()).duplicate
        await stream.end()
    assert (second.accepted_count, second.rejected_count, second.adjusted_count) == (6, 0, 4)
    system, column = RecordKind.RECORD_KIND_SYSTEM_METRIC, RecordKind.RECORD_KIND_METRIC_COLUMNS
    places = [(one.kind, one.index) for one in second.verdicts]
    assert places == [(system, 0), (system, 2), (column, 1), (column, 2)]
    for one in second.verdicts:
        assert one.kept
        assert one.reason == VerdictReason.VERDICT_REASON_LABEL_CARDINALITY
        assert one.field_path == "labels.user"
        assert one.detail
    assert (repeat.accepted_count, repeat.adjusted_count) == (6, 4)
    rows = await connection.fetch(
        "SELECT labels ->> 'user' AS user, labels ->> 'region' AS region, count(*) AS count "
        "FROM system_metrics GROUP BY 1, 2 ORDER BY 1"
    )
    assert [tuple(row) for row in rows] == [
        ("__overflow__", "us", 4),
        ("u0", "eu", 2),
        ("u1", "eu", 2),
        ("u2", "eu", 1),
    ]


async def test_more_than_a_hundred_overflowed_samples_are_counted(
    limited: Application, connection: Any
) -> None:
    metrics = [sample("m", labels={"user": f"u{n}"}) for n in range(SMALL_LIMIT + 150)]
    async with aio.insecure_channel(limited.address) as channel, IngestCall(channel) as stream:
        await stream.welcome()
        committed = await stream.commit(1, *metrics, sample("m", metric_type=0))
        await stream.end()
    assert (committed.accepted_count, committed.rejected_count) == (SMALL_LIMIT + 150, 1)
    assert committed.adjusted_count == 150
    assert len(committed.verdicts) == limits.VERDICTS_PER_ACK
    assert committed.verdicts_truncated
    assert await connection.fetchval("SELECT count(*) FROM system_metrics") == SMALL_LIMIT + 150
    assert limited.counters.overflowed == 150
