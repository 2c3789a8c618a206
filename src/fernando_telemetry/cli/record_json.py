"""Records as JSON, the way the CLI writes and reads them.

One object a record, keys as the contract's fields. It is protobuf's JSON with three differences
that suit programs: enums are the lower-case word (`user_action`), 64-bit integers are numbers,
and `event_data` is the object itself, not text. Fields that are not set are left out.
"""

from __future__ import annotations

import json
from typing import Any, Final, TypeAlias

from google.protobuf import json_format
from google.protobuf.descriptor import FieldDescriptor
from google.protobuf.message import Message
from google.protobuf.timestamp_pb2 import Timestamp

# Descriptors are of other classes in upb than in pure Python, and have no common base.
Field: TypeAlias = Any
Enum: TypeAlias = Any

# JSON as text in the contract.
_PAYLOAD: Final = "event_data"


def word_of(enum: Enum, number: int) -> str:
    """Give an enum value as a word; "" for unspecified, the number where it is not known."""
    value = enum.values_by_number.get(number)
    if value is None:
        return str(number)
    word: str = value.name.removeprefix(_prefix(enum)).lower()
    return word if number else ""


def number_of(enum: Enum, word: str) -> int:
    """Give the number of a word.

    Raises:
        KeyError: The enum has no such word.
    """
    number: int = enum.values_by_name[_prefix(enum) + word.upper()].number
    return number


def _prefix(enum: Enum) -> str:
    name: str = enum.values[0].name
    return name.removesuffix("UNSPECIFIED")


def json_line(record: Message) -> str:
    """Give a record as one line of JSON.

    `event_data` goes in as the server wrote it: reading it would round its numbers.
    """
    pairs = (
        (name, value if name == _PAYLOAD else json.dumps(value, ensure_ascii=False))
        for name, value in to_json(record).items()
    )
    return "{" + ", ".join(f'"{name}": {text}' for name, text in pairs) + "}"


def to_json(message: Message) -> dict[str, Any]:
    """Give the fields that are set, in the contract's order; `event_data` as text."""
    return {
        field.name: _json_value(field, getattr(message, field.name))
        for field in message.DESCRIPTOR.fields
        if _is_set(message, field)
    }


def _is_set(message: Message, field: Field) -> bool:
    if field.is_repeated:
        return bool(len(getattr(message, field.name)))
    if field.has_presence:
        return message.HasField(field.name)
    if field.enum_type is not None or field.type == FieldDescriptor.TYPE_STRING:
        return bool(getattr(message, field.name))
    return True  # 0 and false are values


def _json_value(field: Field, value: Any) -> Any:
    if field.message_type is not None and field.message_type.GetOptions().map_entry:
        return dict(sorted(value.items()))
    if field.is_repeated:
        return [_single(field, one) for one in value]
    return _single(field, value)


def _single(field: Field, value: Any) -> Any:
    if isinstance(value, Timestamp):
        return value.ToJsonString()
    if isinstance(value, Message):
        return to_json(value)
    if field.enum_type is not None:
        return word_of(field.enum_type, value)
    return value


def read_json(text: str, record: Message) -> None:
    """Fill a record from what `json_line` writes; protobuf's own JSON is taken, too.

    Raises:
        ValueError: With a sentence; it is no JSON object, or not this record.
    """
    try:
        fields = json.loads(text)
    except (ValueError, RecursionError) as error:
        raise ValueError(f"not JSON: {error}") from None
    if not isinstance(fields, dict):
        raise ValueError("not a JSON object")  # noqa: TRY004  # of a text, like the above
    for name, field in record.DESCRIPTOR.fields_by_name.items():
        given = fields.get(name)
        if field.enum_type is not None and isinstance(given, str):
            fields[name] = _enum_number(field, given)
    if isinstance(fields.get(_PAYLOAD), dict):
        fields[_PAYLOAD] = json.dumps(fields[_PAYLOAD])
    try:
        json_format.ParseDict(fields, record)
    except (json_format.ParseError, ValueError, TypeError, RecursionError) as error:
        words = str(error).partition("\n")[0].rstrip(".")
        raise ValueError(f"not of {record.DESCRIPTOR.name}: {words}") from None


def _enum_number(field: Field, given: str) -> int:
    """Read a word, or the name that protobuf's own JSON has."""
    named = field.enum_type.values_by_name.get(given)
    if named is not None:
        return int(named.number)
    try:
        return number_of(field.enum_type, given)
    except KeyError:
        raise ValueError(f"{field.name}: there is no {given!r}") from None
