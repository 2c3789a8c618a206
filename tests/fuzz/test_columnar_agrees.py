"""Columnar checks and record checks agree: equal rows on good input, equal verdicts on bad."""

from __future__ import annotations

import random
import struct
from collections import Counter
from datetime import UTC
from typing import Any

import pytest
from google.protobuf.message import Message

from fernando.telemetry.v1 import (
    Event,
    MetricColumns,
    MetricSeries,
    Span,
    SystemMetric,
    TelemetryRecords,
)
from fernando_telemetry.domain.verdicts import Verdict
from fernando_telemetry.ingest.checks.context import context_for
from fernando_telemetry.ingest.columnar.decoding import GivenBatch, ParsedBatch
from fernando_telemetry.ingest.group_check import GroupChecker
from fernando_telemetry.storage.rows import EVENTS
from tests.conftest import share
from tests.fuzz.agreement import DEFAULTS, NOW, RETENTION, both, fast, plain
from tests.integration.ingest.records import (
    columns,
    event,
    field,
    kpi,
    number_field,
    records,
    sample,
    span,
    stamp,
)
from tests.integration.ingest.spoiling import TEXTS, cut, rich, spoilt


def plain_records() -> list[Message]:
    """Give good records that the columns take, unlike some of `rich`."""
    at = stamp(NOW)
    ids = {"trace_id": "ab" * 16, "span_id": "cd" * 8}
    return [
        event(event_timestamp=at, event_data='{"a": 1}', tags=["a"], source_ip="::1", **ids),
        event(trace_id="ab" * 8, session_id="s", user_agent="ü"),
        sample(metric_timestamp=at, labels={"a": "1", "b": "2"}),
        sample(labels={"b": "2", "a": "1"}, service_name="s"),
        span(start_time=at, duration_ms=1.5, tags={"k": 'a"b\\', "ü": "\n"}),
        span(start_time=at, parent_span_id="ef" * 8, http_status_code=404),
    ]


def test_the_libraries_are_there() -> None:
    assert fast.uses_columns
    assert not plain.uses_columns


async def test_good_records_become_columns() -> None:
    data = records([*plain_records(), columns(1.0, 2.0)])
    (result,) = await fast.check([GivenBatch(data, context_for(NOW, DEFAULTS[1], RETENTION))])
    assert sum(len(part) for part in result.slices) == 8
    assert not any(result.rows.rows.values())
    await both(data, data, data, defaults=DEFAULTS)


@pytest.mark.fuzz
@pytest.mark.timeout(3600)
async def test_spoilt_records(request: pytest.FixtureRequest) -> None:
    verdicts: Counter[str] = Counter()
    stored = 0
    for seed in range(share(request, "fuzz", 300, 25_000)):
        chance = random.Random(seed)
        batches = []
        for _ in range(chance.randrange(1, 4)):
            given = [one for _ in range(3) for one in (*plain_records(), *rich())]
            given += [columns(1, 2, 3)] if chance.random() < 0.7 else []
            chance.shuffle(given)
            for record in given:
                if chance.random() < 0.3:
                    spoilt(record, chance)
            pieces = [records([record]) for record in given]
            spoilt_piece = chance.randrange(len(pieces))
            if chance.random() < 0.2:
                pieces[spoilt_piece] = cut(pieces[spoilt_piece], chance)
            batches.append(b"".join(pieces))
        for one in await both(*batches, defaults=tuple(chance.sample(DEFAULTS, 3))):
            if len(one) == 4:
                stored += one[1][0]
                verdicts.update(verdict.reason for verdict in one[2])
    print(f"columns and records agree: {stored} rows stored, verdicts {dict(verdicts)}")
    assert stored > 10_000
    assert len(verdicts) > 10


LONG_NUMBERS = [
    '{"a":0.' + "1" * 15_500 + "e-999}",
    '{"a":1.' + "0" * 14_990 + "e-999}",
    '{"a":' + "1" * 15_100 + "e+999}",
]


@pytest.mark.parametrize(
    "text", [*TEXTS, *LONG_NUMBERS, '{"a":1e-20000}', '{"a":' + "1" * 17_000 + "}", "{" * 9]
)
async def test_every_text_as_payload_and_label(text: str) -> None:
    await both(
        records(
            [
                event(event_data=text),
                event(event_data='{"x": "' + text.replace('"', "") + '"}'),
                event(tags=[text, "b"]),
                event(source_ip=text, trace_id=text),
                sample(labels={text: "v"}),
                sample(labels={"k": text}),
                span(start_time=stamp(NOW), tags={text: text}),
            ]
        )
    )


def _event_twice(**fields: Any) -> bytes:
    """Give an event whose bytes are two messages one behind the other: protobuf merges them."""
    return field(1, event().SerializeToString() + Event(**fields).SerializeToString())


async def test_a_field_that_comes_twice_is_merged_as_protobuf_merges_it() -> None:
    later = stamp(NOW)
    nanos_alone = field(1, number_field(2, 5_000))
    (one,) = await both(
        _event_twice(event_name="second", tags=["t"]),
        # seconds in one part, nanos in the other
        defaults=DEFAULTS[:1],
    )
    assert one[1] == (1, 0, 0, False)
    twice = field(1, event(event_timestamp=later).SerializeToString() + nanos_alone)
    (merged,) = await both(twice)
    ((_, _, _, row),) = merged[0]
    assert later.ToDatetime(UTC).replace(microsecond=5).isoformat() in row


async def test_packed_columns_that_come_twice_are_one() -> None:
    one = field(5, columns(1.0).SerializeToString())
    (result,) = await both(one + one)
    # Two series lists one behind the other, two samples, both of the first series.
    assert result[1] == (2, 0, 0, False)


async def test_unpacked_columns() -> None:
    given = columns(1.0, 2.0)
    series = field(1, given.series[0].SerializeToString())
    unpacked = series
    for micros, value in zip(given.time_unix_micros, given.value, strict=True):
        unpacked += number_field(2, 0)
        unpacked += b"\x19" + struct.pack("<q", micros) + b"\x21" + struct.pack("<d", value)
    (result,) = await both(field(5, unpacked))
    assert result[1] == (2, 0, 0, False)


def _label(key: str, value: str) -> bytes:
    return field(9, field(1, key) + field(2, value))


async def test_a_map_key_that_comes_twice_keeps_its_last_value() -> None:
    twice = field(2, sample().SerializeToString() + _label("k", "first") + _label("k", "last"))
    once = records([sample(labels={"k": "last"})])
    (one,), (other,) = await both(twice), await both(once)
    assert one[:3] == other[:3]
    tag = field(16, field(1, "k") + field(2, "a")) + field(16, field(1, "k") + field(2, "b"))
    (spans,) = await both(field(4, span(start_time=stamp(NOW)).SerializeToString() + tag))
    ((_, _, _, row),) = spans[0]
    assert '{"k": "b"}' in row


async def test_a_map_entry_with_unknown_fields_is_none() -> None:
    """Protobuf puts such an entry among the unknown fields; so is stored what it shows."""
    odd = field(1, "k") + field(2, "v") + field(5, "x")
    for data in (
        field(4, span(start_time=stamp(NOW)).SerializeToString() + field(16, odd)),
        field(2, sample().SerializeToString() + field(9, odd)),
        field(5, columns(1.0).SerializeToString() + field(1, field(1, "m") + field(7, odd))),
    ):
        await both(data, records([event()]))


async def test_an_absurd_time_is_not_saturated() -> None:
    for seconds, reason in ((1 << 60, "time_in_future"), (-(1 << 60), "time_too_old")):
        for made in (
            event("n"),
            sample("n"),
            Span(trace_id="ab" * 16, span_id="cd" * 8, service_name="s"),
        ):
            name = {Event: "event_timestamp", SystemMetric: "metric_timestamp", Span: "start_time"}[
                type(made)
            ]
            getattr(made, name).seconds = seconds
            (one,) = await both(records([made]))
            assert [verdict.reason for verdict in one[2]] == [reason]
    nanos = event()
    nanos.event_timestamp.CopyFrom(stamp(NOW))
    nanos.event_timestamp.nanos = -1
    (one,) = await both(records([nanos]))
    assert [verdict.reason for verdict in one[2]] == ["value_out_of_range"]


async def test_empty_texts_are_absent() -> None:
    (one,) = await both(records([event(user_id="", license_id="", tags=[])]))
    ((_, _, _, row),) = one[0]
    assert row.count("None") == len(EVENTS.given) - 3


async def test_one_invalid_text_costs_one_record_of_one_batch() -> None:
    bad = field(1, field(3, b"\xff") + number_field(2, 1))
    good = records([event() for _ in range(5)])
    first, second = await both(good + bad, good)
    assert first[1] == (5, 1, 0, False)
    assert first[2] == [Verdict("event", 5, "invalid_utf8", "event_name", "text must be UTF-8")]
    assert second[1] == (5, 0, 0, False)


async def test_an_output_only_text_that_is_not_utf8_spoils_its_record_as_well() -> None:
    bad = field(1, event().SerializeToString() + field(30, b"\xff"))
    (one,) = await both(bad)
    assert one[1][1] == 1


async def test_series_of_unlike_types_and_defaults_stay_apart() -> None:
    def series_of(name: str, kind: int, temporality: int = 0, **texts: Any) -> MetricSeries:
        made = MetricSeries(metric_name=name, **texts)
        made.metric_type, made.temporality = kind, temporality  # type: ignore[assignment]
        return made

    series = [
        series_of("a", 2),
        series_of("a", 1),
        series_of("a", 1, 2),
        series_of("a", 2, metric_unit="\0", service_name="b"),
        series_of("", 2),
        series_of("a", 65_538),
        series_of("a", 1, -1),
    ]
    given = MetricColumns(
        series=series,
        series_index=[*range(len(series)), 99],
        time_unix_micros=[int(NOW.timestamp() * 1e6)] * (len(series) + 1),
        value=[1.0] * (len(series) + 1),
    )
    data = TelemetryRecords(metric_columns=given).SerializeToString()
    results = await both(data, data, defaults=DEFAULTS[:2])
    for one in results:
        assert one[1][:2] == (3, 5)
    assert results[0][0].keys() != results[1][0].keys()


async def test_records_that_may_be_too_large() -> None:
    large = event()
    unknown = field(1_000, b"x" * (600 * 1024))
    data = field(1, large.SerializeToString() + unknown) + records([event(), event()])
    (one,) = await both(data)
    assert [verdict.reason for verdict in one[2]] == ["record_too_large"]
    assert one[1][0] == 2


async def test_a_fault_of_the_columns_is_the_records_business(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    async def broken(*_: Any) -> Any:
        raise RuntimeError("a library does what nobody thought of")

    monkeypatch.setattr("fernando_telemetry.ingest.columnar.checking.digest_of_columns", broken)
    await both(records(plain_records()), records([event(), event("")]))


async def test_many_small_records_are_judged_in_turns(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("fernando_telemetry.ingest.group_check.MOST_RECORDS", 7)
    results = await both(*[records(plain_records()) for _ in range(5)], records([event()]))
    assert [one[1][0] for one in results] == [6, 6, 6, 6, 6, 1]


async def test_records_held_at_once_are_bounded_whatever_their_kind(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    held: list[int] = []

    async def judge(_: GroupChecker, batches: list[ParsedBatch], __: Any) -> None:
        held.append(sum(len(one.records.business_metrics) for one in batches))

    monkeypatch.setattr("fernando_telemetry.ingest.group_check.MOST_RECORDS", 10)
    monkeypatch.setattr(GroupChecker, "_judge", judge)
    context = context_for(NOW, DEFAULTS[0], RETENTION)
    group = [GivenBatch(records([kpi()] * 4), context) for _ in range(9)]
    await GroupChecker().check(group)
    assert held == [12, 12, 12, 0]
