"""Judges JSON text as jsonb judges it.

Python's json accepts what PostgreSQL refuses (NaN, lone surrogates, U+0000, numbers beyond
numeric) and one refused value would abort a whole COPY, so the difference is closed here. Rules:
PostgreSQL's documentation, "JSON Types" and "Numeric Types" (131,072 digits before the point,
16,383 behind it).
"""

from __future__ import annotations

import json
import re
from typing import Any, Final

from fernando_telemetry.domain.limits import PAYLOAD_DEPTH

NUMERIC_DIGITS_BEFORE: Final = 131_072
NUMERIC_DIGITS_BEHIND: Final = 16_383
# Only a zero can have a greater one and still be a number; nobody writes that.
EXPONENT_DIGITS: Final = 9

_NUMBER = re.compile(r"-?(\d+)(?:\.(\d+))?(?:[eE]([+-]?\d+))?")
_SURROGATE = re.compile("[\ud800-\udfff]")


class InvalidJson(ValueError):
    """The text is not JSON that jsonb takes; the message says why."""


class TooDeep(InvalidJson):
    """The text nests deeper than allowed."""


def _number(text: str) -> None:
    """Refuse a number that numeric cannot hold; its value is not needed."""
    if len(text) < NUMERIC_DIGITS_BEHIND and "e" not in text and "E" not in text:
        return
    found = _NUMBER.fullmatch(text)
    if found is None:
        raise InvalidJson(f"{text[:40]} is not a number")
    whole, fraction, power = found[1], found[2] or "", found[3] or "0"
    # An exponent may have any number of zeros in front; its digits are counted without them.
    magnitude = power.lstrip("+-").lstrip("0")
    if len(magnitude) > EXPONENT_DIGITS:
        raise InvalidJson("a number is beyond numeric's range")
    exponent = int(magnitude or "0") * (-1 if power.startswith("-") else 1)
    if len(fraction) - exponent > NUMERIC_DIGITS_BEHIND:
        raise InvalidJson("a number has more than 16,383 digits behind the point")
    digits = (whole + fraction).lstrip("0")
    significant_before = len(digits) - len(fraction) + exponent
    if digits and significant_before > NUMERIC_DIGITS_BEFORE:
        raise InvalidJson("a number has more than 131,072 digits before the point")


def _constant(text: str) -> None:
    raise InvalidJson(f"{text} is not JSON")


class _Members(list[tuple[str, Any]]):
    """An object with all its members: a dict would hide what a repeated key had before."""


_DECODER = json.JSONDecoder(
    parse_float=_number,
    parse_int=_number,
    parse_constant=_constant,
    object_pairs_hook=_Members,
)


def _check_strings(value: Any) -> None:
    """Refuse U+0000 and lone surrogates in keys and strings, which only escapes can bring.

    jsonb looks at every string, also at those that a later equal key replaces.
    """
    pending = [value]
    while pending:
        item = pending.pop()
        if isinstance(item, str):
            if "\0" in item:
                raise InvalidJson("\\u0000 cannot be stored")
            if _SURROGATE.search(item):
                raise InvalidJson("a \\u escape is half of a surrogate pair")
        elif isinstance(item, list | tuple):
            pending.extend(item)


def _check_depth(text: str) -> None:
    """Count brackets outside strings; only called where so many brackets make it possible."""
    depth = 0
    in_string = escaped = False
    for character in text:
        if in_string:
            if escaped:
                escaped = False
            elif character == "\\":
                escaped = True
            elif character == '"':
                in_string = False
        elif character == '"':
            in_string = True
        elif character in "{[":
            depth += 1
            if depth > PAYLOAD_DEPTH:
                raise TooDeep(f"nests deeper than {PAYLOAD_DEPTH} levels")
        elif character in "}]":
            depth -= 1


def check_object(text: str) -> None:
    """Accept a text that is one JSON object and that jsonb takes.

    Args:
        text: Up to 256 KiB; the caller has looked at its length.

    Raises:
        TooDeep: It nests deeper than 64 levels, counted from the object itself.
        InvalidJson: It is anything else than such an object.
    """
    if text.count("{") + text.count("[") > PAYLOAD_DEPTH:
        _check_depth(text)
    try:
        value = _DECODER.decode(text)
    except InvalidJson:
        raise
    except json.JSONDecodeError as error:
        raise InvalidJson(f"{error.msg} at character {error.pos}") from None
    except RecursionError:
        raise TooDeep(f"nests deeper than {PAYLOAD_DEPTH} levels") from None
    if not isinstance(value, _Members):
        raise InvalidJson("the top level is not an object")
    if "\\u" in text:
        _check_strings(value)
