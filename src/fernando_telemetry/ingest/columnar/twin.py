"""The twin of TelemetryRecords that ptars decodes.

It is wire-identical to the contract and declares some fields otherwise, so that the columns hide
nothing that the record checks would see:

- a Timestamp is a repeated message of two plain numbers: ptars would saturate absurd times and
  lose nanoseconds out of range, and a message that comes twice (which protobuf merges) shows;
- messages that only the record checks read (distributions, span events and links, KPIs) stay
  bytes;
- enums are int32: an unknown number is a number;
- output-only fields stay, since a text in them that is not UTF-8 spoils the message as well.
"""

from __future__ import annotations

from collections.abc import Sequence
from functools import cache
from typing import Any, Final

import numpy as np
import pyarrow as pa
from google.protobuf import descriptor_pb2

from fernando.telemetry.v1 import event_pb2, span_pb2, system_metric_pb2

FieldProto = descriptor_pb2.FieldDescriptorProto

_CONTRACT: Final = ".fernando.telemetry.v1."
_PACKAGE: Final = "fernando_telemetry.columnar"
_STAMP: Final = f".{_PACKAGE}.Stamp"
_OPTIONAL, _REPEATED = FieldProto.LABEL_OPTIONAL, FieldProto.LABEL_REPEATED
_LISTS: Final = (
    ("events", 1, "Event"),
    ("system_metrics", 2, "SystemMetric"),
    ("spans", 4, "Span"),
)
_COLUMNS: Final = (
    ("series_index", 2, FieldProto.TYPE_UINT32),
    ("time_unix_micros", 3, FieldProto.TYPE_SFIXED64),
    ("value", 4, FieldProto.TYPE_DOUBLE),
)


class NotColumns(Exception):
    """The bytes cannot be had as columns; the record checks must look at them."""


def _as_bytes(field: Any) -> None:
    field.type = FieldProto.TYPE_BYTES
    field.label = _REPEATED
    field.ClearField("type_name")


def _twin_of(message: descriptor_pb2.DescriptorProto) -> None:
    """Change the fields of a copied record."""
    message.options.Clear()
    maps = {f"{message.name}.{nested.name}" for nested in message.nested_type}
    for field in message.field:
        name = field.type_name
        if field.type == FieldProto.TYPE_ENUM:
            field.type = FieldProto.TYPE_INT32
            field.ClearField("type_name")
        elif name == ".google.protobuf.Timestamp":
            field.type_name = _STAMP
            field.label = _REPEATED
        elif name.removeprefix(_CONTRACT) in maps:
            field.type_name = name.replace(_CONTRACT, f".{_PACKAGE}.")
        elif field.type == FieldProto.TYPE_MESSAGE:
            _as_bytes(field)


def _file() -> descriptor_pb2.FileDescriptorProto:
    made = descriptor_pb2.FileDescriptorProto(
        name="fernando_telemetry/columnar.proto", package=_PACKAGE, syntax="proto3"
    )
    stamp = made.message_type.add(name="Stamp")
    stamp.field.add(name="seconds", number=1, type=FieldProto.TYPE_INT64, label=_OPTIONAL)
    stamp.field.add(name="nanos", number=2, type=FieldProto.TYPE_INT32, label=_OPTIONAL)
    wanted = {name for _, _, name in _LISTS} | {"MetricSeries"}
    for module in (event_pb2, system_metric_pb2, span_pb2):
        source = descriptor_pb2.FileDescriptorProto.FromString(module.DESCRIPTOR.serialized_pb)
        for message in source.message_type:
            if message.name in wanted:
                _twin_of(message)
                made.message_type.add().CopyFrom(message)
    columns = made.message_type.add(name="Columns")
    _add_messages(columns, "series", 1, "MetricSeries")
    for name, number, kind in _COLUMNS:
        columns.field.add(name=name, number=number, type=kind, label=_REPEATED)
    records = made.message_type.add(name="Records")
    for name, number, message_name in _LISTS:
        _add_messages(records, name, number, message_name)
    _add_messages(records, "metric_columns", 5, "Columns")
    sizes = made.message_type.add(name="Sizes")
    for name, number, _ in _LISTS:
        sizes.field.add(name=name, number=number, type=FieldProto.TYPE_BYTES, label=_REPEATED)
    return made


def _add_messages(message: Any, name: str, number: int, kind: str) -> None:
    message.field.add(
        name=name,
        number=number,
        type=FieldProto.TYPE_MESSAGE,
        type_name=f".{_PACKAGE}.{kind}",
        label=_REPEATED,
    )


@cache
def _decoder(message: str) -> Any:
    from ptars import PtarsConfig
    from ptars._lib import ProtoRegistry

    registry = ProtoRegistry([_file().SerializeToString()])
    return registry.create_for_message(f"{_PACKAGE}.{message}", PtarsConfig())


def decode(batches: Sequence[bytes]) -> pa.RecordBatch:
    """Decode the bytes of TelemetryRecords messages.

    Returns:
        One row a message: `events`, `system_metrics`, `spans` and `metric_columns`, each a list.

    Raises:
        NotColumns: ptars refuses one of them.
    """
    return _decode("Records", batches)


def record_sizes(data: bytes, name: str) -> Any:
    """Give the bytes on the wire of each record of one list of a batch.

    Raises:
        NotColumns: ptars refuses it.
    """
    values = _decode("Sizes", [data]).column(name).flatten()
    return np.diff(np.frombuffer(values.buffers()[1], np.int32)[: len(values) + 1])


def _decode(message: str, batches: Sequence[bytes]) -> pa.RecordBatch:
    try:
        return _decoder(message).list_to_record_batch(list(batches))
    except (ValueError, TypeError, OverflowError, pa.ArrowInvalid) as error:
        raise NotColumns(str(error)) from None
    except BaseException as error:
        # A panic of Rust comes as a BaseException of its own.
        if type(error).__name__ == "PanicException":
            raise NotColumns(str(error)) from None
        raise
