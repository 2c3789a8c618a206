"""Records spoilt at random: near to good ones, so that they get through a part of the checks."""

from __future__ import annotations

import math
import random
from typing import Any

from google.protobuf.message import Message
from google.protobuf.timestamp_pb2 import Timestamp

from fernando.telemetry.v1 import Distribution, MetricType, SpanEvent, SpanLink
from tests.integration.ingest.records import event, kpi, now, sample, span, stamp

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
