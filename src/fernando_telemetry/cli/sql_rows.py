"""Rows of any statement for people and programs: values as the contract writes them.

columns_of_result   the cells, for a table or for aligned text
lines_by_row        a line a column, where a table has no room
json_line           a row as a JSON object
"""

from __future__ import annotations

import json
import math
from collections.abc import Iterator, Mapping, Sequence
from datetime import UTC, datetime, timedelta
from decimal import Decimal
from typing import Any, Final

from rich.cells import cell_len

from fernando_telemetry.cli.tables import GAP, Cells, ColumnSpec, Style, printable, write_number
from fernando_telemetry.storage.ad_hoc import AdHocResult, JsonText

_NUMERIC: Final = frozenset({"int2", "int4", "int8", "oid", "float4", "float8", "numeric"})
# Outside of texts JSON has white space only, and inside of them these are escapes.
_LINE_BREAKS: Final = str.maketrans("\n\r\t", "   ")
_STYLE: Final = Style(UTC)


def columns_of_result(result: AdHocResult) -> list[Cells]:
    """Write all cells, those of empty columns too: somebody asked for them."""
    return [
        Cells(
            ColumnSpec(printable(name, _STYLE), 1),
            tuple(_cell(row[index]) for row in result.rows),
            kind in _NUMERIC,
        )
        for index, (name, kind) in enumerate(zip(result.columns, result.types, strict=True))
    ]


def has_room(columns: Sequence[Cells], width: int) -> bool:
    """Whether a table shows all of it."""
    return sum(one.width for one in columns) + GAP * (len(columns) - 1) <= width


def lines_by_row(columns: Sequence[Cells]) -> Iterator[str]:
    """Give a line for each column of each row, with an empty line between rows."""
    widest = max(cell_len(one.spec.name) for one in columns)
    for index, row in enumerate(zip(*(one.texts for one in columns), strict=True)):
        if index:
            yield ""
        for column, text in zip(columns, row, strict=True):
            blank = " " * (widest - cell_len(column.spec.name))
            yield f"{column.spec.name}: {blank}{text}".rstrip()


def json_line(result: AdHocResult, row: Sequence[Any]) -> str:
    """Give a row as an object; JSON columns are objects in it, with the digits they have.

    Of columns with one name the second is called `name_2`, and so on.
    """
    return _object(zip(_different(result.columns), row, strict=True))


def _different(names: Sequence[str]) -> list[str]:
    taken = set(names)
    keys: list[str] = []
    for name in names:
        key, number = name, 1
        while key in keys or (number > 1 and key in taken):
            number += 1
            key = f"{name}_{number}"
        keys.append(key)
    return keys


def _cell(value: Any) -> str:
    match value:
        case None:
            return ""
        case float():
            return write_number(value, short=False)
        case JsonText() | bool() | list() | tuple() | dict():
            return printable(_json(value), _STYLE)
        case _:
            return printable(_text(value), _STYLE)


def _json(value: Any) -> str:
    match value:
        case JsonText():
            return value.translate(_LINE_BREAKS)
        case None | bool() | int() | str():
            return json.dumps(value, ensure_ascii=False)
        case float() if math.isfinite(value):
            return json.dumps(value)
        case Mapping():
            return _object(value.items())
        case list() | tuple():
            return f"[{', '.join(map(_json, value))}]"
        case _:
            return json.dumps(_text(value), ensure_ascii=False)


def _object(items: Any) -> str:
    parts = (f"{json.dumps(key, ensure_ascii=False)}: {_json(value)}" for key, value in items)
    return f"{{{', '.join(parts)}}}"


def _text(value: Any) -> str:
    match value:
        case datetime(tzinfo=None):
            return value.isoformat()
        case datetime():
            return value.astimezone(UTC).isoformat().replace("+00:00", "Z")
        case timedelta():
            return _interval(value)
        case Decimal():
            return f"{value:f}"
        case bytes():
            return rf"\x{value.hex()}"
        case float():
            return {"nan": "NaN", "inf": "Infinity", "-inf": "-Infinity"}.get(
                repr(value), repr(value)
            )
        case _:
            return str(value)


def _interval(value: timedelta) -> str:
    """Write a duration as PostgreSQL does, its days apart."""
    sign = "-" if value < timedelta() else ""
    seconds, micros = divmod(abs(value) // timedelta(microseconds=1), 1_000_000)
    minutes, second = divmod(seconds, 60)
    hours, minute = divmod(minutes, 60)
    days, hour = divmod(hours, 24)
    day = f"{sign}{days} day{'' if days == 1 else 's'} " if days else ""
    fraction = f".{micros:06}".rstrip("0") if micros else ""
    return f"{day}{sign}{hour:02}:{minute:02}:{second:02}{fraction}"
