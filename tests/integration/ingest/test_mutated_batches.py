"""Batches spoilt at random: what the checks pass PostgreSQL stores, and neighbours stay whole.

tests/fuzz sends rubbish to every method; here the bytes are near to good ones, so that they get
through the checks and into a COPY.
"""

from __future__ import annotations

import math
import random
from typing import Any

import pytest
from google.protobuf.message import Message
from google.protobuf.timestamp_pb2 import Timestamp
from grpc import aio
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from fernando.telemetry.v1 import Distribution, MetricType, SpanEvent, SpanLink, VerdictReason
from tests.conftest import share
from tests.integration.ingest.ingest_call import IngestCall, batch
from tests.integration.ingest.records import columns, event, kpi, now, records, sample, span, stamp
from tests.integration.transport.server_log import ServerLog

STORED = """
SELECT (SELECT count(*) FROM telemetry_events) + (SELECT count(*) FROM metric_samples)
    + (SELECT count(*) FROM metric_distributions) + (SELECT count(*) FROM traces)
    + (SELECT count(*) FROM business_metric_versions)
"""
TEXTS = [
    *(
        "",
        "a",
        "é" * 128,
        "\x7f\u2028",
        "\ufffe\uffff",
        "a\0b",
        "x" * 257,
        "'; --",
        r"\N",
        "\\",
        "\t\n\r",
    ),
    *(
        "NaN",
        "Infinity",
        "1e5",
        "-0.00",
        "9" * 20,
        "0." + "9" * 18,
        "2001:db8::1",
        "::ffff:1.2.3.4",
    ),
    *("1.2.3.4/32", "EUR", "UTC", "posixrules", "GMT+0", "0" * 32, "AB" * 16, "ab" * 8, "ª" * 16),
    *('{"a": 1e131072}', r'{"a": "\u0000"}', '{"a": {"a": -0.0e-5}}', "{}", "[]", '{"a":1,"a":"'),
]
NUMBERS = [0.0, -0.0, 1.5, math.nan, math.inf, -math.inf, 5e-324, -1.8e308, 1e12, 2.0**63]
WHOLE = [0, 1, 2, 5, 7, 255, 2**31 - 1]
SECONDS = [0, -1, 2**62, -(2**62), -62_135_596_800, -62_135_596_799, 253_402_300_799]


def spoilt(message: Message, chance: random.Random) -> Message:
    """Change some fields, at any depth, to values that lie at an edge."""
    for field in message.DESCRIPTOR.fields:
        if field.message_type is not None and field.message_type.GetOptions().map_entry:
            if chance.random() < 0.3:
                getattr(message, field.name)[chance.choice(TEXTS)] = chance.choice(TEXTS)
            continue
        present = len(getattr(message, field.name)) if field.is_repeated else True
        if field.message_type is not None:
            inner = getattr(message, field.name)
            if field.is_repeated:
                for one in inner:
                    spoilt(one, chance)
            elif message.HasField(field.name):
                spoilt(inner, chance)
            continue
        if chance.random() > 0.12 or not present:
            continue
        value: Any
        match field.cpp_type:
            case field.CPPTYPE_STRING:
                value = chance.choice(TEXTS)
            case field.CPPTYPE_DOUBLE:
                value = chance.choice(NUMBERS)
            case field.CPPTYPE_BOOL:
                value = True
            case field.CPPTYPE_INT64 if isinstance(message, Timestamp):
                near = int(now().timestamp()) + chance.randrange(-40_000_000, 40_000_000)
                value = chance.choice([*SECONDS, near])
            case field.CPPTYPE_UINT64:
                value = chance.choice([*WHOLE, 2**63 - 1, 2**64 - 1])
            case _:
                value = chance.choice(WHOLE)
        if field.is_repeated:
            items = getattr(message, field.name)
            items[chance.randrange(len(items))] = value
        else:
            setattr(message, field.name, value)
    return message


def rich() -> list[Message]:
    """Give good records with much in them."""
    at = stamp(now())
    return [
        event(
            event_timestamp=at,
            event_data='{"a": [1, "x"]}',
            tags=["a", "b"],
            source_ip="10.0.0.1",
            duration_ms=1.0,
        ),
        sample(metric_timestamp=at, labels={"k": "v"}),
        sample(metric_type=MetricType.METRIC_TYPE_COUNTER, percentile_50=1.0, percentile_99=2.0),
        sample(
            distribution=Distribution(
                count=3, sum=3, min=1, max=1, upper_bounds=[1, 2], bucket_counts=[3, 0, 0]
            )
        ),
        kpi(currency="EUR", dimensions={"k": "v"}, time_zone="Europe/Lisbon", metric_value="1.10"),
        span(
            start_time=at,
            duration_ms=2.0,
            http_status_code=200,
            tags={"k": "v"},
            events=[SpanEvent(time=at, name="n", attributes={"k": "v"})],
            links=[SpanLink(trace_id="ab" * 16, span_id="ab" * 8, attributes={"k": "v"})],
        ),
    ]


def cut(data: bytes, chance: random.Random) -> bytes:
    """Damage bytes, now and then."""
    if chance.random() < 0.7:
        return data
    changed = bytearray(data)
    place = chance.randrange(2, len(changed))
    changed[place] = chance.randrange(256)
    return bytes(changed)


@pytest.mark.fuzz
@pytest.mark.timeout(1200)
async def test_spoilt_batches_are_judged_here_and_not_by_postgresql(
    channel: aio.Channel, connection: Any, server_log: ServerLog, request: pytest.FixtureRequest
) -> None:
    seeds: list[int] = []

    @settings(
        max_examples=share(request, "fuzz", 150, 6_000),
        deadline=None,
        database=None,
        suppress_health_check=list(HealthCheck),
    )
    @given(seed=st.integers(0, 2**32))
    def choose(seed: int) -> None:
        seeds.append(seed)

    choose()
    accepted = 0
    outcomes: dict[str, int] = {"committed": 0, "refused": 0}
    async with IngestCall(channel, timeout_seconds=1_000) as stream:
        await stream.welcome()
        for sequence, seed in enumerate(seeds, 1):
            chance = random.Random(seed)
            given_records = [*rich(), columns(1, 2, 3)]
            for record in given_records:
                spoilt(record, chance)
            whole = batch(sequence, *(cut(records([record]), chance) for record in given_records))
            await stream.send(whole)
            ack = await stream.ack()
            assert ack.sequence == sequence, seed
            outcomes[ack.WhichOneof("outcome") or ""] += 1
            accepted += ack.committed.accepted_count
            refused = [
                one
                for one in ack.committed.verdicts
                if one.reason == VerdictReason.VERDICT_REASON_REFUSED_BY_DATABASE
            ]
            assert refused == [], seed
        await stream.end()
    assert await connection.fetchval(STORED) == accepted
    assert accepted > len(seeds)
    assert min(outcomes.values()) > len(seeds) // 50
    noted = {entry["event"] for entry in server_log.entries}
    assert not noted & {"rows_refused_by_database", "flush_failed", "flush_retried", "call_broke"}
