"""What fits a terminal, and how values look in it."""

from __future__ import annotations

import json
from datetime import UTC, datetime, timedelta, timezone

import pytest
from google.protobuf.timestamp_pb2 import Timestamp

from fernando.telemetry import v1
from fernando_telemetry.cli.kinds import EDGES, EVENTS, LIST_KINDS, SERVICES
from fernando_telemetry.cli.record_json import json_line, read_json
from fernando_telemetry.cli.tables import (
    GAP,
    Cells,
    ColumnSpec,
    Style,
    columns_of,
    fit,
    on_the_point,
    plain_lines,
    write_number,
    write_times,
)

NOW = datetime(2026, 5, 17, 9, 30, tzinfo=UTC)


def column(name: str, rank: int, least: int, width: int) -> Cells:
    return Cells(ColumnSpec(name, rank, least), ("x" * width,), False)


def stamp(time: datetime) -> Timestamp:
    made = Timestamp()
    made.FromDatetime(time)
    return made


def test_columns_of_the_tables_are_fields_of_the_contract() -> None:
    messages = (
        *(v1.Event(), v1.SystemMetric(), v1.BusinessMetric(), v1.Span(), v1.TraceSummary()),
        *(v1.ServiceEdge(), v1.ServiceNode()),
    )
    for kind, message in zip((*LIST_KINDS.values(), EDGES, SERVICES), messages, strict=True):
        assert {spec.name for spec in kind.columns} <= set(message.DESCRIPTOR.fields_by_name)


@pytest.mark.parametrize("width", [20, 40, 80, 140, 1_000])
def test_a_table_is_never_wider_than_the_terminal(width: int) -> None:
    columns = [
        column("a", 1, 0, 13),
        column("b", 5, 8, 60),
        column("c", 2, 4, 10),
        column("d", 9, 0, 32),
        column("e", 12, 10, 400),
    ]
    fitted = fit(columns, width)
    assert sum(given for _, given in fitted) + GAP * (len(fitted) - 1) <= width
    assert all(spec.spec.least or given == spec.width for spec, given in fitted)
    assert fitted[0][0].spec.name == "a"


def test_short_of_room_the_least_important_column_goes_first() -> None:
    columns = [column("a", 1, 0, 10), column("b", 9, 0, 10), column("c", 2, 0, 10)]
    assert [one.spec.name for one, _ in fit(columns, 22)] == ["a", "c"]
    assert [one.spec.name for one, _ in fit(columns, 34)] == ["a", "b", "c"]


def test_an_unimportant_column_does_not_squeeze_an_important_one() -> None:
    columns = [column("a", 1, 0, 10), column("b", 2, 8, 30), column("c", 9, 0, 10)]
    assert [one.spec.name for one, _ in fit(columns, 40)] == ["a", "b"]


@pytest.mark.parametrize(
    ("trace_id", "shown"), [("ab" * 16, "ab" * 16), ("0" * 16 + "c" * 16, "c" * 16)]
)
def test_traces_keep_their_counts_and_ids_in_80_columns(trace_id: str, shown: str) -> None:
    trace = v1.TraceSummary(trace_id=trace_id, span_count=12, error_count=3, duration_ms=1234.567)
    trace.root_service_name = trace.root_operation_name = "a-service-of-that-name"
    trace.start_time.CopyFrom(stamp(NOW + timedelta(milliseconds=1)))
    kind = LIST_KINDS["traces"]
    fitted = fit(kind.cells([trace], kind.columns, Style(UTC, today=NOW)), 80)
    cells = {one.spec.name: (one.texts[0], width) for one, width in fitted}
    assert cells["trace_id"] == (shown, len(shown))
    assert cells["span_count"][0] == "12"
    assert cells["error_count"][0] == "3"
    assert ("root_service_name" in cells) == (len(shown) == 16)
    whole = kind.cells([trace], kind.columns, Style(UTC))
    assert trace_id in {one.texts[0] for one in whole}


def test_times_of_today_go_without_date_and_others_with() -> None:
    style = Style(UTC, today=NOW)
    today, other = stamp(NOW), stamp(NOW - timedelta(days=1))
    assert write_times([today, None], style) == ["09:30Z", ""]
    assert write_times([today], style, dated=True) == ["2026-05-17 09:30Z"]
    assert write_times([today, other], style) == ["2026-05-17 09:30Z", "2026-05-16 09:30Z"]
    fraction = stamp(NOW.replace(microsecond=123_456))
    assert write_times([fraction, today], style) == ["09:30:00.123Z", "09:30:00.000Z"]


def test_whole_times_keep_their_digits_and_zones_their_offset() -> None:
    fraction = stamp(NOW.replace(microsecond=123_456))
    assert write_times([fraction], Style(UTC)) == ["2026-05-17T09:30:00.123456Z"]
    east = Style(timezone(timedelta(hours=2)))
    assert write_times([fraction], east) == ["2026-05-17T11:30:00.123456+02:00"]


@pytest.mark.parametrize(
    ("value", "short", "whole"),
    [
        (0.0, "0", "0"),
        (16_777_216_000.0, "16777216000", "16777216000"),
        (0.1 + 0.2, "0.3", "0.30000000000000004"),
        (-1.25, "-1.25", "-1.25"),
        (0.00001234, "1.234e-05", "1.234e-05"),
        (1e300, "1e+300", "1e+300"),
    ],
)
def test_numbers(value: float, short: str, whole: str) -> None:
    assert write_number(value, short=True) == short
    assert write_number(value, short=False) == whole


@pytest.mark.parametrize(
    ("value", "shown"),
    [(126.921, "127"), (76.2255, "76.2"), (0.0009847, "0.000985"), (100_348.4, "100000"), (0, "0")],
)
@pytest.mark.parametrize("style", [Style(UTC), Style(UTC, today=NOW)])
def test_an_estimate_has_the_digits_that_say_something(
    value: float, shown: str, style: Style
) -> None:
    edge = v1.ServiceEdge(p50_duration_ms=value)
    median = next(one for one in EDGES.columns if one.name == "p50_duration_ms")
    [column] = columns_of([edge], [median], style)
    assert column.texts == (shown,)


def test_decimal_points_stand_under_each_other() -> None:
    spec = ColumnSpec("value", 1)
    numbers = on_the_point(Cells(spec, ("126.921", "9.9", "0", "", "1e-05"), True))
    assert [text.rjust(numbers.width) for text in numbers.texts] == [
        "  126.921",
        "    9.9  ",
        "    0    ",
        "         ",
        "1e-05    ",
    ]
    words = Cells(spec, ("a.b", "c"), False)
    assert on_the_point(words) is words


def test_texts_cannot_steer_the_terminal() -> None:
    event = v1.Event(event_name="a\x1b[31m\nb\u202e")
    [name] = columns_of([event], [ColumnSpec("event_name", 1)], Style(UTC))
    assert name.texts == (r"a\x1b[31m\nb\u202e",)


def test_aligned_text_counts_cells_and_leaves_out_empty_columns() -> None:
    events = [v1.Event(event_name="日本", user_id="u"), v1.Event(event_name="abc", tags=["x", "y"])]
    columns = columns_of(events, EVENTS.columns, Style(UTC))
    assert list(plain_lines(columns, header=True)) == [
        "event_name  user_id  tags",
        "日本        u",
        "abc                  x y",
    ]


def test_json_keeps_the_digits_of_the_payload_and_reads_back() -> None:
    event = v1.Event(
        event_type=v1.EventType.EVENT_TYPE_USER_ACTION,
        event_name='a"b\u2028',
        event_data='{"n": 0.1000000000000000055511151231257827, "a": [1e3]}',
        tags=["x"],
        duration_ms=0,
    )
    line = json_line(event)
    assert "0.1000000000000000055511151231257827" in line
    assert "\n" not in line
    assert json.loads(line)["event_type"] == "user_action"
    assert json.loads(line)["duration_ms"] == 0
    back = v1.Event()
    read_json(line, back)
    event.event_data = back.event_data = ""
    assert back == event


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("{", "not JSON"),
        ("[]", "not a JSON object"),
        ('{"event_type": "nope"}', "event_type: there is no 'nope'"),
        ('{"foo": 1}', "foo"),
        ('{"event_name": "\\ud800"}', "not of Event"),
        ("[" * 100_000, "not JSON"),
    ],
)
def test_what_is_no_record_is_refused_with_a_sentence(text: str, words: str) -> None:
    with pytest.raises(ValueError, match=words):
        read_json(text, v1.Event())
