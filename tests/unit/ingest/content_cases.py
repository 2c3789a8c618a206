"""Batches for the tests of content signatures: made at random, and changed at random."""

from __future__ import annotations

import asyncio
import random
import struct
from typing import Any

from google.protobuf.message import Message

from fernando.telemetry.v1 import TelemetryRecords
from fernando_telemetry.ingest.content_digest import ContentHash
from fernando_telemetry.ingest.content_messages import add_messages

TEXTS = ["", "a", "b", "ab", "ä", "€uro", "x" * 300, "y" * 1_025, "\0", "a\0", "naïve", "日本"]
NUMBERS = [0, 1, 2, 7, 2**31 - 1]
DOUBLES = [0.0, -0.0, 1.5, -1.5, 1e300, 5e-324]
# record_count is no content.
SKIPPED = "record_count"
RAGGED = {"series_index", "time_unix_micros", "value"}


def signature(records: Any) -> bytes:
    """Give a batch's signature by the path of messages, with the counts in front."""
    content = ContentHash()
    columns = records.metric_columns
    counts = asyncio.run(
        add_messages(
            content,
            records.events,
            records.system_metrics,
            records.business_metrics,
            records.spans,
            columns,
            columns.series,
        )
    )
    return struct.pack("<5I", *counts) + content.signature()


def made(chance: random.Random) -> TelemetryRecords:
    """Make a batch with a few records of random kinds."""
    records = TelemetryRecords()
    fill(records, chance)
    length = len(records.metric_columns.value)
    for name, value in (("series_index", 0), ("time_unix_micros", 5)):
        column = getattr(records.metric_columns, name)
        del column[:]
        column.extend([value] * length)
    return records


def value_of(field: Any, chance: random.Random) -> Any:
    """Give a random value for a field that is no message."""
    if field.cpp_type == field.CPPTYPE_STRING:
        return chance.choice(TEXTS)
    if field.cpp_type == field.CPPTYPE_DOUBLE:
        return chance.choice(DOUBLES)
    if field.cpp_type == field.CPPTYPE_BOOL:
        return chance.random() < 0.5
    return chance.choice(NUMBERS)


def fill(message: Message, chance: random.Random) -> None:
    """Set random fields, at any depth."""
    for field in message.DESCRIPTOR.fields:
        if field.name == SKIPPED or chance.random() < 0.4:
            continue
        target = getattr(message, field.name)
        if field.message_type is not None and field.message_type.GetOptions().map_entry:
            for key in chance.sample(TEXTS, chance.randint(1, 4)):
                target[key] = chance.choice(TEXTS)
        elif field.message_type is not None and field.is_repeated:
            for _ in range(chance.randint(1, 3)):
                fill(target.add(), chance)
        elif field.message_type is not None:
            target.SetInParent()
            fill(target, chance)
        elif field.is_repeated:
            target.extend(value_of(field, chance) for _ in range(chance.randint(1, 4)))
        else:
            setattr(message, field.name, value_of(field, chance))


def change(message: Message, chance: random.Random) -> bool:
    """Change one thing at random; False: this message had nothing to change there."""
    fields = [field for field in message.DESCRIPTOR.fields if field.name != SKIPPED]
    field = chance.choice(fields)
    target = getattr(message, field.name)
    if field.message_type is not None and field.message_type.GetOptions().map_entry:
        return _change_map(target, chance)
    if field.is_repeated:
        return _change_list(field, target, chance)
    if field.message_type is not None:
        if message.HasField(field.name) and chance.random() < 0.3:
            # That the columns are there says nothing where they are empty.
            told = field.name != "metric_columns" or target.ByteSize() > 0
            message.ClearField(field.name)
            return told
        return message.HasField(field.name) and change(target, chance)
    if field.has_presence and message.HasField(field.name) and chance.random() < 0.5:
        message.ClearField(field.name)
        return True
    value = value_of(field, chance)
    # By their bits: 0.0 and -0.0 are two values.
    same = repr(value) == repr(target)
    if same and not (field.has_presence and not message.HasField(field.name)):
        return False
    setattr(message, field.name, value)
    return True


def _change_map(target: Any, chance: random.Random) -> bool:
    key, value = chance.choice(TEXTS), chance.choice(TEXTS)
    if key in target and chance.random() < 0.4:
        del target[key]
        return True
    if key in target and target[key] == value:
        return False
    target[key] = value
    return True


def _change_list(field: Any, target: Any, chance: random.Random) -> bool:
    way = chance.choice(["swap", "drop", "change", "add"])
    if field.name in RAGGED and way in {"drop", "add"}:
        # Columns of different lengths are refused and have no signature.
        return False
    if way == "add" and field.message_type is None:
        target.append(value_of(field, chance))
        return True
    if way == "add":
        target.add()
        return True
    if not target:
        return False
    one, other = chance.randrange(len(target)), chance.randrange(len(target))
    if way == "drop":
        del target[one]
        return True
    if way == "change" and field.message_type is not None:
        return change(target[one], chance)
    if way == "change":
        value = value_of(field, chance)
        if repr(value) == repr(target[one]):
            return False
        target[one] = value
        return True
    # Two change places, also moving what lies between.
    items = list(target)
    items[one], items[other] = items[other], items[one]
    if [_bytes(item) for item in items] == [_bytes(item) for item in target]:
        return False
    copies = [
        type(item).FromString(item.SerializeToString()) if isinstance(item, Message) else item
        for item in items
    ]
    del target[:]
    target.extend(copies)
    return True


def _bytes(item: Any) -> Any:
    if isinstance(item, Message):
        return item.SerializeToString(deterministic=True)
    return repr(item)
