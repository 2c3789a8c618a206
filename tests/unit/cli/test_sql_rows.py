"""What rows of any statement look like."""

from __future__ import annotations

import json
import math
from datetime import datetime, timedelta, timezone
from decimal import Decimal
from typing import Any

import pytest

from fernando_telemetry.cli.sql_rows import columns_of_result, has_room, json_line, lines_by_row
from fernando_telemetry.cli.tables import plain_lines
from fernando_telemetry.storage.ad_hoc import AdHocResult, JsonText

EAST = timezone(timedelta(hours=2))


def one(value: Any, kind: str = "text") -> AdHocResult:
    return AdHocResult(("c",), (kind,), [(value,)])


@pytest.mark.parametrize(
    ("value", "cell", "in_json"),
    [
        (None, "", None),
        (True, "true", True),
        (12, "12", 12),
        (0.1, "0.1", 0.1),
        (1e20, "1e+20", 1e20),
        (math.nan, "nan", "NaN"),
        (Decimal("1.50"), "1.50", "1.50"),
        (datetime(2026, 5, 17, 11, 30, 0, 250_000, EAST), *["2026-05-17T09:30:00.250000Z"] * 2),
        (datetime(2026, 5, 17, 9, 30), *["2026-05-17T09:30:00"] * 2),  # noqa: DTZ001
        (timedelta(days=1, seconds=1.5), *["1 day 00:00:01.5"] * 2),
        (timedelta(hours=-2), *["-02:00:00"] * 2),
        (b"\x00\xff", *["\\x00ff"] * 2),
        (["a", None], '["a", null]', ["a", None]),
        ({"f1": 1, "f2": b"a"}, r'{"f1": 1, "f2": "\\x61"}', {"f1": 1, "f2": r"\x61"}),
        (JsonText('{"a":\n[1]}'), '{"a": [1]}', {"a": [1]}),
        ([JsonText('{"a": 1}')], '[{"a": 1}]', [{"a": 1}]),
        ("\x1b[2J", r"\x1b[2J", "\x1b[2J"),
    ],
)
def test_values(value: Any, cell: str, in_json: Any) -> None:
    result = one(value)
    assert columns_of_result(result)[0].texts == (cell,)
    line = json_line(result, result.rows[0])
    assert "\n" not in line
    assert json.loads(line) == {"c": in_json}


def test_json_keeps_its_digits() -> None:
    text = '{"a": 0.10000000000000000001}'
    assert json_line(one(JsonText(text)), (JsonText(text),)) == f'{{"c": {text}}}'


def test_numbers_stand_right_and_empty_columns_stay() -> None:
    result = AdHocResult(("name", "n", "none"), ("text", "int8", "text"), [("a", 5, None)] * 2)
    columns = columns_of_result(result)
    assert [column.to_the_right for column in columns] == [False, True, False]
    assert list(plain_lines(columns, header=True)) == ["name  n  none", "a     5", "a     5"]


def test_without_room_for_a_table_there_is_a_line_a_column() -> None:
    result = AdHocResult(("id", "text"), ("int8", "text"), [(1, "x" * 70), (20, None)])
    columns = columns_of_result(result)
    assert has_room(columns, 74)
    assert not has_room(columns, 73)
    assert list(lines_by_row(columns)) == ["id:   1", f"text: {'x' * 70}", "", "id:   20", "text:"]


def test_columns_of_one_name_are_all_in_a_line_of_json() -> None:
    names = ("a", "a", "a_2", "a", "b")
    result = AdHocResult(names, ("int4",) * 5, [(1, 2, 3, 4, 5)])
    assert json.loads(json_line(result, result.rows[0])) == {
        "a": 1,
        "a_2": 3,
        "a_3": 2,
        "a_4": 4,
        "b": 5,
    }
