"""Checks of single values, shared by all kinds of records."""

from __future__ import annotations

import math
from collections.abc import Mapping
from datetime import datetime, timedelta
from functools import lru_cache
from ipaddress import IPv4Address, IPv6Address, ip_address

from google.protobuf.timestamp_pb2 import Timestamp

from fernando_telemetry.domain import limits
from fernando_telemetry.domain.calendar import EPOCH
from fernando_telemetry.domain.identifiers import normal_span_id, normal_trace_id
from fernando_telemetry.domain.verdicts import Rejection
from fernando_telemetry.ingest.checks.context import FIRST_SECOND, LAST_SECOND


def text(value: str, path: str, limit: int = limits.INDEXED_TEXT_BYTES) -> str | None:
    """Check a text against its limit in bytes; "" becomes None.

    Raises:
        Rejection: text_too_long, nul_in_text.
    """
    if not value:
        return None
    if len(value) * 4 > limit and (len(value) > limit or len(value.encode()) > limit):
        raise Rejection("text_too_long", path, f"at most {limit} bytes")
    if "\0" in value:
        raise Rejection("nul_in_text", path, "U+0000 cannot be stored")
    return value


def required_text(value: str, path: str) -> str:
    """Check a text that must not be empty.

    Raises:
        Rejection: field_missing, text_too_long, nul_in_text.
    """
    checked = text(value, path)
    if checked is None:
        raise Rejection("field_missing", path, "must not be empty")
    return checked


def time_of(stamp: Timestamp, path: str, oldest: int, newest: int) -> datetime:
    """Check a time against the accepted range (Unix seconds) and give it to the microsecond.

    Raises:
        Rejection: time_too_old, time_in_future, value_out_of_range.
    """
    seconds, nanos = stamp.seconds, stamp.nanos
    if seconds < oldest:
        raise Rejection("time_too_old", path, "older than the retention of its kind and licence")
    if seconds > newest or seconds > LAST_SECOND:
        raise Rejection("time_in_future", path, "too far ahead of the server's clock")
    if not 0 <= nanos < 1_000_000_000:
        raise Rejection("value_out_of_range", f"{path}.nanos", "0 to 999,999,999")
    return EPOCH + timedelta(seconds=seconds, microseconds=nanos // 1000)


def any_time(stamp: Timestamp, path: str) -> datetime:
    """Check a time that only has to be storable (years 1 to 9999).

    Raises:
        Rejection: value_out_of_range.
    """
    if not FIRST_SECOND <= stamp.seconds <= LAST_SECOND or not 0 <= stamp.nanos < 1_000_000_000:
        raise Rejection("value_out_of_range", path, "a time of the years 1 to 9999")
    return EPOCH + timedelta(seconds=stamp.seconds, microseconds=stamp.nanos // 1000)


def finite(value: float, path: str) -> float:
    """Check that a number is neither NaN nor infinite.

    Raises:
        Rejection: value_not_finite.
    """
    if not math.isfinite(value):
        raise Rejection("value_not_finite", path, "a finite number is needed")
    return value


def duration(value: float, path: str = "duration_ms") -> float:
    """Check a duration in milliseconds.

    Raises:
        Rejection: value_not_finite, value_out_of_range.
    """
    if not 0 <= finite(value, path) <= limits.DURATION_MS:
        raise Rejection("value_out_of_range", path, "0 to 1e12 milliseconds")
    return value


def word(number: int, words: tuple[str, ...], path: str) -> str | None:
    """Give the word of an enum's number; 0 (unspecified) gives None.

    Raises:
        Rejection: unknown_enum_value.
    """
    if number == 0:
        return None
    if not 0 < number <= len(words):
        raise Rejection("unknown_enum_value", path, f"{number} is not known to this server")
    return words[number - 1]


def required_word(number: int, words: tuple[str, ...], path: str) -> str:
    """Give the word of an enum that must be set.

    Raises:
        Rejection: field_missing, unknown_enum_value.
    """
    found = word(number, words, path)
    if found is None:
        raise Rejection("field_missing", path, "must be set")
    return found


def string_map(
    entries: Mapping[str, str],
    path: str,
    *,
    key_limit: int = limits.LABEL_KEY_BYTES,
    value_limit: int = limits.LABEL_VALUE_BYTES,
) -> dict[str, str]:
    """Check labels, dimensions, tags or attributes and copy them.

    Raises:
        Rejection: too_many_labels, field_missing (an empty key), text_too_long, nul_in_text.
    """
    if not entries:
        return {}
    if len(entries) > limits.LABELS_PER_RECORD:
        raise Rejection("too_many_labels", path, f"at most {limits.LABELS_PER_RECORD} entries")
    checked = dict(entries)
    for key, value in checked.items():
        if not key:
            raise Rejection("field_missing", path, "a key must not be empty")
        text(key, path, key_limit)
        if value:
            # The key is the sender's; only a short one is repeated in the path.
            text(
                value, f"{path}.{key}" if len(key) <= limits.LABEL_KEY_BYTES else path, value_limit
            )
    return checked


def trace_id(value: str, path: str = "trace_id") -> str | None:
    """Give a trace id as 32 lower-case hex digits; "" becomes None.

    Raises:
        Rejection: invalid_id.
    """
    if not value:
        return None
    found = normal_trace_id(value)
    if found is None:
        raise Rejection("invalid_id", path, "16 or 32 hex digits, not all zero")
    return found


def span_id(value: str, path: str = "span_id") -> str | None:
    """Give a span id as 16 lower-case hex digits; "" becomes None.

    Raises:
        Rejection: invalid_id.
    """
    if not value:
        return None
    found = normal_span_id(value)
    if found is None:
        raise Rejection("invalid_id", path, "16 hex digits, not all zero")
    return found


@lru_cache(maxsize=8192)
def address(value: str) -> IPv4Address | IPv6Address | None:
    """Parse an IP address without zone or prefix length; None where it is not one.

    inet knows no zones ("fe80::1%eth0"), so an address with one is not stored.
    """
    if len(value) > 45 or "%" in value:
        return None
    try:
        return ip_address(value)
    except ValueError:
        return None
