"""Reads the literals of a filter as values of the column they are compared with."""

from __future__ import annotations

import ipaddress
import json
import math
import re
from dataclasses import dataclass
from datetime import UTC, datetime
from decimal import Decimal
from typing import assert_never
from uuid import UUID

from fernando_telemetry.domain.filter_columns import EMPTY_MEANS_NULL, Column, ColumnType
from fernando_telemetry.domain.identifiers import normal_span_id, normal_trace_id


@dataclass(frozen=True, slots=True)
class JsonValue:
    """A literal that is compared with a part of a JSON object.

    Args:
        text: The text it stands for.
        json: What it equals, as JSON: the text, and of a bare `3`, `true` or `null` that, too.
        number: The number it is ordered by; None: it is ordered as a text.
    """

    text: str
    json: tuple[str, ...]
    number: Decimal | None = None


Value = str | float | int | Decimal | datetime | UUID | JsonValue

_NUMBER = re.compile(r"[+-]?([0-9]+\.?[0-9]*|\.[0-9]+)([eE][+-]?[0-9]{1,4})?")
_DECIMAL = re.compile(r"[+-]?[0-9]{1,20}(\.[0-9]{1,18})?")
_INTEGER = re.compile(r"[+-]?[0-9]{1,10}")
_TIMESTAMP = re.compile(
    r"([0-9]{4}-[0-9]{2}-[0-9]{2})[Tt ]([0-9]{2}:[0-9]{2}:[0-9]{2})"
    r"(?:\.([0-9]{1,9}))?([Zz]|[+-][0-9]{2}:[0-9]{2})"
)
_UUID = re.compile(r"[0-9a-fA-F]{8}(-[0-9a-fA-F]{4}){3}-[0-9a-fA-F]{12}")
_HEX_32 = re.compile(r"[0-9a-fA-F]{32}")

# Of PostgreSQL's numeric, which JSON numbers are as well.
_MOST_DECIMALS = 16383

_SMALLEST_INTEGER, _GREATEST_INTEGER = -(2**31), 2**31 - 1


def read_timestamp(text: str) -> datetime | None:
    """Read an RFC 3339 time; digits below the microsecond are cut off, as in storage."""
    found = _TIMESTAMP.fullmatch(text)
    if found is None:
        return None
    date, time, fraction, offset = found.groups()
    micros = (fraction or "").ljust(6, "0")[:6]
    try:
        parsed = datetime.fromisoformat(f"{date}T{time}.{micros}{offset.upper()}")
        return parsed.astimezone(UTC)
    except (ValueError, OverflowError):
        return None


def read_value(column: Column, text: str) -> Value | None:
    """Read a literal's text as a value of the column; None for "", where that means NULL.

    Raises:
        ValueError: It is no such value; the message says what would be, as part of a sentence.
    """
    if not text and column.type in EMPTY_MEANS_NULL:
        return None
    value = _read(column, text)
    if value is None:
        wanted = (
            f"one of {', '.join(column.words)}"
            if column.type is ColumnType.ENUM
            else column.type.value
        )
        raise ValueError(f"{column.name} is compared with {wanted}")
    return value


def read_json_value(text: str, *, is_quoted: bool) -> JsonValue:
    """Read a literal that is compared with a part of a JSON object.

    Args:
        text: What it says.
        is_quoted: It is a text and nothing else.

    Raises:
        ValueError: A number that PostgreSQL does not hold; the message is part of a sentence.
    """
    as_text = json.dumps(text)
    if is_quoted:
        return JsonValue(text, (as_text,))
    if text in ("true", "false", "null"):
        return JsonValue(text, (as_text, text))
    if _read_number(text) is not None:
        number = Decimal(text)
        exponent = number.as_tuple().exponent
        if isinstance(exponent, int) and -exponent > _MOST_DECIMALS:
            raise ValueError(f"a number has at most {_MOST_DECIMALS} digits after the point")
        return JsonValue(text, (as_text, f"{number:f}"), number)
    return JsonValue(text, (as_text,))


def _read(column: Column, text: str) -> Value | None:
    match column.type:
        case ColumnType.TEXT | ColumnType.TEXT_LIST | ColumnType.TEXT_MAP | ColumnType.JSON:
            return text
        case ColumnType.ENUM:
            return text if text in column.words else None
        case ColumnType.NUMBER:
            return _read_number(text)
        case ColumnType.DECIMAL:
            return Decimal(text) if _DECIMAL.fullmatch(text) else None
        case ColumnType.INTEGER:
            return _read_integer(text)
        case ColumnType.TIMESTAMP:
            return read_timestamp(text)
        case ColumnType.UUID:
            return UUID(text) if _UUID.fullmatch(text) else None
        case ColumnType.INET:
            return _read_address(text)
        case ColumnType.TRACE_ID:
            return normal_trace_id(text)
        case ColumnType.SPAN_ID:
            return normal_span_id(text)
        case ColumnType.SERIES_ID:
            return UUID(hex=text) if _HEX_32.fullmatch(text) else None
        case _:
            assert_never(column.type)


def _read_number(text: str) -> float | None:
    if not _NUMBER.fullmatch(text):
        return None
    number = float(text)
    return number if math.isfinite(number) else None


def _read_integer(text: str) -> int | None:
    if not _INTEGER.fullmatch(text):
        return None
    number = int(text)
    return number if _SMALLEST_INTEGER <= number <= _GREATEST_INTEGER else None


def _read_address(text: str) -> str | None:
    if "%" in text:
        return None
    try:
        return str(ipaddress.ip_address(text))
    except ValueError:
        return None
