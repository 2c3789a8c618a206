"""Arrow columns of batches, as the columnar path has them: ptars over a twin of the contract."""

from __future__ import annotations

import importlib
from functools import cache
from typing import Any

from google.protobuf import descriptor_pb2

from fernando.telemetry.v1 import event_pb2, span_pb2, system_metric_pb2

FieldProto = descriptor_pb2.FieldDescriptorProto
PACKAGE = "fernando_telemetry.content_twin"
LISTS = (("events", 1, "Event"), ("system_metrics", 2, "SystemMetric"), ("spans", 4, "Span"))


def _twin_of(message: Any) -> None:
    message.options.Clear()
    for field in message.field:
        name = field.type_name
        if field.type == FieldProto.TYPE_ENUM:
            field.type = FieldProto.TYPE_INT32
            field.ClearField("type_name")
        elif name == ".google.protobuf.Timestamp":
            field.type_name = f".{PACKAGE}.Stamp"
            field.label = FieldProto.LABEL_REPEATED
        elif name.endswith("Entry"):
            field.type_name = name.replace(".fernando.telemetry.v1.", f".{PACKAGE}.")
        elif field.type == FieldProto.TYPE_MESSAGE:
            field.type, field.label = FieldProto.TYPE_BYTES, FieldProto.LABEL_REPEATED
            field.ClearField("type_name")


@cache
def _decoder() -> Any:
    # Untyped, and not there on every machine.
    ptars: Any = importlib.import_module("ptars")
    library: Any = importlib.import_module("ptars._lib")
    made = descriptor_pb2.FileDescriptorProto(name="twin.proto", package=PACKAGE, syntax="proto3")
    stamp = made.message_type.add(name="Stamp")
    stamp.field.add(name="seconds", number=1, type=FieldProto.TYPE_INT64, label=1)
    stamp.field.add(name="nanos", number=2, type=FieldProto.TYPE_INT32, label=1)
    for module in (event_pb2, system_metric_pb2, span_pb2):
        source = descriptor_pb2.FileDescriptorProto.FromString(module.DESCRIPTOR.serialized_pb)
        for message in source.message_type:
            if message.name in {"Event", "SystemMetric", "Span", "MetricSeries"}:
                _twin_of(message)
                made.message_type.add().CopyFrom(message)
    columns = made.message_type.add(name="Columns")
    _add(columns, "series", 1, "MetricSeries")
    records = made.message_type.add(name="Records")
    for name, number, kind in LISTS:
        _add(records, name, number, kind)
    _add(records, "metric_columns", 5, "Columns")
    registry = library.ProtoRegistry([made.SerializeToString()])
    return registry.create_for_message(f"{PACKAGE}.Records", ptars.PtarsConfig())


def _add(message: Any, name: str, number: int, kind: str) -> None:
    message.field.add(
        name=name,
        number=number,
        type=FieldProto.TYPE_MESSAGE,
        type_name=f".{PACKAGE}.{kind}",
        label=FieldProto.LABEL_REPEATED,
    )


def decoded(batches: list[bytes]) -> Any:
    """Give one row a batch, each with its lists."""
    return _decoder().list_to_record_batch(batches)
