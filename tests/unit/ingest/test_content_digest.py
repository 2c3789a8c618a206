"""Signatures of content: the same for every encoding of the same records, else another."""

from __future__ import annotations

import hashlib
import random
from collections.abc import Iterator
from typing import Any

import numpy as np
import pytest
from google.protobuf.message import Message
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from fernando.telemetry.v1 import (
    BusinessMetric,
    Event,
    MetricColumns,
    MetricSeries,
    Span,
    SystemMetric,
    TelemetryRecords,
)
from fernando_telemetry.domain.digests import bytes_digest, content_digest, is_other_content
from fernando_telemetry.ingest import content_digest as module
from fernando_telemetry.ingest.content_digest import ContentHash
from tests.integration.ingest.records import field as wire_field
from tests.integration.ingest.records import number_field
from tests.unit.ingest.content_cases import change, made, signature

SEEDS = st.integers(0, 2**64 - 1)
UNKNOWN = 900


def re_encoded(message: Message, chance: random.Random) -> bytes:
    """Encode a message otherwise: fields and map entries in another order, unknown fields added."""
    parts: list[bytes] = []
    for descriptor, value in message.ListFields():
        number = descriptor.number
        if descriptor.message_type is not None and descriptor.message_type.GetOptions().map_entry:
            entries = [
                wire_field(number, wire_field(1, key) + wire_field(2, value[key])) for key in value
            ]
            chance.shuffle(entries)
            # A key that comes twice: the last entry counts.
            first = next(iter(value))
            parts.append(wire_field(number, wire_field(1, first) + wire_field(2, "overwritten")))
            parts[-1] += b"".join(entries)
        elif descriptor.message_type is not None:
            items = value if descriptor.is_repeated else [value]
            parts.append(b"".join(wire_field(number, re_encoded(item, chance)) for item in items))
        else:
            alone = type(message)()
            if descriptor.is_repeated:
                getattr(alone, descriptor.name).extend(value)
            else:
                setattr(alone, descriptor.name, value)
            parts.append(alone.SerializeToString())
    if chance.random() < 0.3:
        parts.append(wire_field(UNKNOWN, "of later days"))
    if chance.random() < 0.3:
        parts.append(number_field(UNKNOWN + 1, 7))
    chance.shuffle(parts)
    return b"".join(parts)


@given(SEEDS)
@settings(deadline=None, suppress_health_check=list(HealthCheck))
def test_another_encoding_of_the_same_content_has_the_same_signature(seed: int) -> None:
    chance = random.Random(seed)
    records = made(chance)
    again = TelemetryRecords.FromString(re_encoded(records, chance))
    assert signature(again) == signature(records)


@given(SEEDS)
@settings(deadline=None, suppress_health_check=list(HealthCheck))
def test_any_change_makes_another_signature(seed: int) -> None:
    chance = random.Random(seed)
    records = made(chance)
    before = signature(records)
    changed = TelemetryRecords.FromString(records.SerializeToString())
    while not change(changed, chance):
        pass
    assert signature(changed) != before


def _every_field(message: Any, path: str = "") -> Iterator[str]:
    for field in message.DESCRIPTOR.fields:
        yield f"{path}{field.number} {field.name} {field.type} {field.is_repeated:d}"
        if field.message_type is not None:
            yield from _every_field(field.message_type._concrete_class, f"{path}{field.number}.")


def test_the_version_rises_with_the_fields() -> None:
    """Another set of fields needs another VERSION: a signature would differ without a change."""
    fields = "\n".join(
        line
        for kind in (Event, SystemMetric, BusinessMetric, Span, MetricColumns, MetricSeries)
        for line in _every_field(kind)
    )
    pinned = {1: "74ffb81d4feb73b8"}
    assert pinned[module.VERSION] == hashlib.sha256(fields.encode()).hexdigest()[:16]


def test_the_formula_is_durable() -> None:
    """Marks hold these for long: what is stored today must be known tomorrow."""
    records = TelemetryRecords()
    event = records.events.add(event_name="nämé", event_data="{}", tags=["a", "b"], duration_ms=0)
    event.event_timestamp.FromMicroseconds(1_700_000_000_123_456)
    records.events.add(event_type=2)
    records.system_metrics.add(labels={"a": "b", "long": "x" * 2_000, "": ""})
    span = records.spans.add(tags={"k": "v"}, http_status_code=200)
    span.events.add(name="e", attributes={"a": "b"})
    records.business_metrics.add(metric_value="1.50")
    columns = records.metric_columns
    columns.series.add(metric_name="cpu", labels={"host": "a"})
    columns.series_index.append(0)
    columns.time_unix_micros.append(5)
    columns.value.append(-0.0)
    assert signature(records)[20:].hex() == "f3f6e9bbbc9e3e5fcc3d5824db77f476"


def test_an_element_that_did_not_parse_counts_as_an_empty_one() -> None:
    class Unparsed:
        """What decode.py puts in the place of such an element."""

    class Lists:
        events = (Event(event_name="a"), Unparsed())
        system_metrics = business_metrics = spans = ()
        metric_columns = MetricColumns()

    whole = TelemetryRecords(events=[Event(event_name="a"), Event()])
    assert signature(Lists) == signature(whole)


TEXTS = st.lists(st.binary(max_size=40) | st.binary(min_size=1_020, max_size=1_030), max_size=40)


@given(TEXTS)
@settings(deadline=None)
def test_text_hashes_are_those_of_the_formula(texts: list[bytes]) -> None:
    """The vectorised sums against the formula in plain words."""

    def plain(text: bytes) -> int:
        if len(text) > 1_024:
            return int.from_bytes(hashlib.sha256(text).digest()[:8], "little")
        total = len(text) * 0xD6E8FEB86659FD93
        for place, byte in enumerate(text):
            total += (byte + 1) * pow(0x2545F4914F6CDD1D, place, 1 << 64)
        return total % (1 << 64)

    lengths = np.array([len(text) for text in texts], np.int64)
    data = np.frombuffer(b"".join(texts), np.uint8)
    assert module._text_hashes(lengths, data).tolist() == [plain(text) for text in texts]


def test_text_hashes_go_on_over_chunks() -> None:
    texts = [bytes([number % 251]) * (number % 1_000) for number in range(400)]
    lengths = np.array([len(text) for text in texts], np.int64)
    together = module._text_hashes(lengths, np.frombuffer(b"".join(texts), np.uint8))
    alone = [
        int(module._text_hashes(np.array([len(text)]), np.frombuffer(text, np.uint8))[0])
        for text in texts
    ]
    assert together.tolist() == alone


def test_what_is_unset_in_every_record_leaves_no_section() -> None:
    content = ContentHash()
    content.add_texts(1, (3,), np.zeros(5, np.int32), b"")
    content.add_numbers(1, (2,), np.zeros(5, np.int32))
    content.add_numbers(1, (10,), np.ones(5), np.zeros(5, bool))
    nothing = np.zeros(0, np.uint8)
    content.add_entries(2, (9,), np.zeros(5), (nothing, nothing), (nothing, nothing))
    assert content.signature() == ContentHash().signature()


COUNTS = (1, 0, 0, 0, 0)
FIRST = content_digest(b"first", 1, COUNTS, b"s" * 16)


@pytest.mark.parametrize(
    ("again", "other"),
    [
        (FIRST, False),
        (content_digest(b"first", 2, (2, 0, 0, 0, 0), b"t" * 16), False),
        (content_digest(b"again", 1, COUNTS, b"s" * 16), False),
        (content_digest(b"again", 1, COUNTS, b"t" * 16), True),
        (content_digest(b"again", 1, (0, 1, 0, 0, 0), b"s" * 16), True),
        # A server that knows other fields: only the counts can be compared.
        (content_digest(b"again", 2, COUNTS, b"t" * 16), False),
        (content_digest(b"again", 2, (0, 1, 0, 0, 0), b"s" * 16), True),
        (bytes_digest(b"first"), False),
        (bytes_digest(b"again"), True),
        (None, False),
    ],
)
def test_digests_are_compared(again: bytes | None, other: bool) -> None:
    assert is_other_content(FIRST, again) is other
    assert is_other_content(again, FIRST) is other
