"""Twins of the contract's messages that keep parts as raw bytes.

A twin is wire-identical to its message and declares some fields as `bytes`:

- RawStreamRequest splits hello, batch number and the exact bytes of `records` without looking
  into them, so memory holds bytes until a flush wants them.
- RawRecords and RawColumns split a batch into the bytes of its records, so that one that does
  not parse can be told from its neighbours.
- The lenient twins of the records (every string a bytes field) tell invalid UTF-8, which costs
  one record, from broken structure, which refuses the batch.

Where a number or text comes twice, the last one wins, of the arms of a oneof too. A message that
comes twice is the two merged, which on the wire is their bytes one behind the other: such fields
are repeated here, and `joined` gives the message's bytes.
"""

from __future__ import annotations

import struct
from collections.abc import Iterator, Sequence
from typing import Any, Final

from google.protobuf import descriptor_pb2, descriptor_pool, message_factory, timestamp_pb2
from google.protobuf.message import DecodeError, Message

from fernando.telemetry.v1 import business_metric_pb2, event_pb2, span_pb2, system_metric_pb2
from fernando_telemetry.domain.vocabulary import RECORD_KINDS

FieldProto = descriptor_pb2.FieldDescriptorProto

_PACKAGE: Final = "fernando.telemetry.v1"
_TWIN_PACKAGE: Final = "fernando_telemetry.wire"

# (name, number, type, repeated) of the fields that a splitting twin declares.
_BYTES, _UINT64, _UINT32 = FieldProto.TYPE_BYTES, FieldProto.TYPE_UINT64, FieldProto.TYPE_UINT32
_SPLITTERS: Final[dict[str, tuple[tuple[str, int, Any, bool], ...]]] = {
    "RawBatch": (("sequence", 1, _UINT64, False), ("records", 2, _BYTES, True)),
    "RawUnaryRequest": (
        ("request_id", 1, _BYTES, False),
        ("defaults", 2, _BYTES, True),
        ("records", 3, _BYTES, True),
    ),
    "RawRecords": (
        ("events", 1, _BYTES, True),
        ("system_metrics", 2, _BYTES, True),
        ("business_metrics", 3, _BYTES, True),
        ("spans", 4, _BYTES, True),
        ("metric_columns", 5, _BYTES, True),
        ("record_count", 15, _UINT32, False),
    ),
    "RawColumns": (
        ("series", 1, _BYTES, True),
        ("series_index", 2, _UINT32, True),
        ("time_unix_micros", 3, FieldProto.TYPE_SFIXED64, True),
        ("value", 4, FieldProto.TYPE_DOUBLE, True),
    ),
}


def _splitting_file() -> descriptor_pb2.FileDescriptorProto:
    made = descriptor_pb2.FileDescriptorProto(
        name="fernando_telemetry/wire/split.proto", package=_TWIN_PACKAGE, syntax="proto3"
    )
    for name, fields in _SPLITTERS.items():
        message = made.message_type.add(name=name)
        for field, number, kind, repeated in fields:
            message.field.add(
                name=field,
                number=number,
                type=kind,
                label=FieldProto.LABEL_REPEATED if repeated else FieldProto.LABEL_OPTIONAL,
            )
    request = made.message_type.add(name="RawStreamRequest")
    request.oneof_decl.add(name="message")
    request.field.add(name="hello", number=1, type=_BYTES, label=1, oneof_index=0)
    request.field.add(
        name="batch",
        number=2,
        type=FieldProto.TYPE_MESSAGE,
        type_name=f".{_TWIN_PACKAGE}.RawBatch",
        label=1,
        oneof_index=0,
    )
    return made


def _lenient(message: descriptor_pb2.DescriptorProto) -> None:
    """Turn strings into bytes; a map becomes the repeated entries that it is on the wire."""
    for field in message.field:
        if field.type == FieldProto.TYPE_STRING:
            field.type = FieldProto.TYPE_BYTES
        if field.type_name:
            field.type_name = field.type_name.replace(f".{_PACKAGE}.", f".{_TWIN_PACKAGE}.")
    message.options.Clear()
    for nested in message.nested_type:
        _lenient(nested)


def _pool() -> descriptor_pool.DescriptorPool:
    pool = descriptor_pool.DescriptorPool()
    pool.AddSerializedFile(timestamp_pb2.DESCRIPTOR.serialized_pb)
    pool.Add(_splitting_file())
    for module in (event_pb2, system_metric_pb2, business_metric_pb2, span_pb2):
        made = descriptor_pb2.FileDescriptorProto.FromString(module.DESCRIPTOR.serialized_pb)
        made.package = _TWIN_PACKAGE
        made.name = made.name.replace("fernando/telemetry/v1", "fernando_telemetry/wire")
        for message in made.message_type:
            _lenient(message)
        pool.Add(made)
    return pool


_POOL: Final = _pool()


def _twin(name: str) -> type[Any]:
    return message_factory.GetMessageClass(_POOL.FindMessageTypeByName(f"{_TWIN_PACKAGE}.{name}"))


RawStreamRequest: Final = _twin("RawStreamRequest")
RawUnaryRequest: Final = _twin("RawUnaryRequest")
RawRecords: Final = _twin("RawRecords")
RawColumns: Final = _twin("RawColumns")

_LENIENT: Final = {
    name: _twin(name)
    for name in ("Event", "SystemMetric", "BusinessMetric", "Span", "MetricSeries")
}


def lenient(name: str) -> type[Any]:
    """Give the twin of a record's message whose texts are bytes."""
    return _LENIENT[name]


def framed(number: int, content: bytes) -> bytes:
    """Give a length-delimited field of a message."""
    return _varint(number << 3 | 2) + _varint(len(content)) + content


def column_sample(series_index: int, time_unix_micros: int, value: float) -> bytes:
    """Give the packed columns of one sample, without its series."""
    return (
        framed(2, _varint(series_index))
        + framed(3, struct.pack("<q", time_unix_micros))
        + framed(4, struct.pack("<d", value))
    )


def one_record(kind: str, record: bytes) -> bytes:
    """Give the bytes of a TelemetryRecords that holds one record, or one set of columns.

    Args:
        kind: Word of RecordKind; its number is that of the list.
        record: Bytes of the kind's message.
    """
    return framed(RECORD_KINDS.index(kind) + 1, record)


def _varint(number: int) -> bytes:
    encoded = bytearray()
    while number > 0x7F:
        encoded.append(number & 0x7F | 0x80)
        number >>= 7
    encoded.append(number)
    return bytes(encoded)


def joined(parts: Sequence[bytes]) -> bytes:
    """Give the bytes of a message from its parts; one part, the rule, is not copied again."""
    return parts[0] if len(parts) == 1 else b"".join(parts)


def _bad_text(message: Message, path: str) -> Iterator[str]:
    for field, value in message.ListFields():
        here = f"{path}.{field.name}" if path else field.name
        items = value if field.is_repeated else [value]
        for item in items:
            if isinstance(item, bytes):
                try:
                    item.decode()
                except UnicodeDecodeError:
                    yield here
            elif isinstance(item, Message):
                yield from _bad_text(item, here)


def invalid_utf8_path(name: str, data: bytes) -> str | None:
    """Find the field whose text is not UTF-8 in a record that did not parse.

    Args:
        name: The record's message, such as `Event`.
        data: Its bytes.

    Returns:
        The field's path, or None where the structure itself is broken.
    """
    try:
        lenient = _LENIENT[name].FromString(data)
    except DecodeError:
        return None
    return next(_bad_text(lenient, ""), None)
