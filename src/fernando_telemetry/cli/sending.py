"""What `send` does: build records, hand them over, and say what became of each."""

from __future__ import annotations

import asyncio
import contextlib
import io
import random
import secrets
import sys
import uuid
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from datetime import UTC, datetime
from functools import partial
from pathlib import Path
from typing import Any, Final, TextIO

import grpc
import typer
from google.protobuf.message import Message
from grpc import aio

from fernando.telemetry import v1
from fernando.telemetry.client import Backoff, RpcFailed, decode_error
from fernando_telemetry.cli.connection import CALL_TIMEOUT_SECONDS, call, complain, find_address
from fernando_telemetry.cli.flags import SPAN, Flag, RecordType
from fernando_telemetry.cli.record_json import number_of, read_json, word_of
from fernando_telemetry.cli.times import parse_time

TRIES: Final = 5
BATCH_RECORDS: Final = 1_000
BATCH_BYTES: Final = 1024 * 1024


@dataclass
class Batch:
    """Records of one call.

    Attributes:
        records: The records.
        lines: The line each came from, from 1; empty where they came from flags.
        size_bytes: Of all records, as they travel.
    """

    records: list[Message] = field(default_factory=list)
    lines: list[int] = field(default_factory=list)
    size_bytes: int = 0

    def place(self, index: int) -> str:
        """Name a record for a person; "" where there is only one."""
        return f"line {self.lines[index]} " if index < len(self.lines) else ""


def send(
    kind: RecordType,
    fields: Mapping[str, Any],
    *,
    json_lines: str | None,
    target: str | None,
    data_dir: Path | None,
) -> int:
    """Send one record made of fields, or those of a file.

    Returns:
        The exit code: 1 where a record was rejected.
    """
    address = find_address(target, data_dir)
    if json_lines is not None:
        return _send_lines(kind, json_lines, address)
    record = build_record(kind, fields, datetime.now(UTC))
    if kind is SPAN:
        complete_span(record)
    result = call(address, partial(ingest, kind, [record]))
    _print_outcome(kind, Batch([record]), result)
    if kind is SPAN and result.accepted_count:
        assert isinstance(record, v1.Span)
        print(f"trace_id {record.trace_id}, span_id {record.span_id}")
    return 1 if result.rejected_count else 0


def build_record(kind: RecordType, fields: Mapping[str, Any], now: datetime) -> Message:
    """Make the message of what was given by flags.

    Args:
        kind: The kind of record.
        fields: What was typed, by field; numbers as numbers, lists where a flag is repeatable.
        now: What `now` and `-5m` refer to.

    Raises:
        typer.BadParameter: A text cannot be read as its field; what can is left to the server.
    """
    record: Message = getattr(v1, kind.message)()
    for flag in kind.flags:
        if flag.field in fields:
            try:
                _set(record, flag, fields[flag.field], now)
            except (ValueError, TypeError) as error:
                words = "it is not valid UTF-8" if isinstance(error, UnicodeError) else str(error)
                raise typer.BadParameter(words, param_hint=flag.option) from None
    return record


def _set(record: Message, flag: Flag, value: Any, now: datetime) -> None:
    match flag.kind:
        case "word":
            descriptor = record.DESCRIPTOR.fields_by_name[flag.field].enum_type
            assert descriptor is not None
            if value not in flag.words:
                raise ValueError(f"{value!r} is none of {', '.join(flag.words)}")
            setattr(record, flag.field, number_of(descriptor, value))
        case "time":
            moment = parse_time(value, now)
            if moment.assumed_utc:
                complain(f"note: {flag.option} {value} has no offset and is taken as UTC.")
            getattr(record, flag.field).FromDatetime(moment.time)
        case "texts":
            getattr(record, flag.field).extend(value)
        case "pairs":
            for pair in value:
                key, equals, text = pair.partition("=")
                if not equals:
                    raise ValueError(f"{pair!r} is not KEY=VALUE")
                getattr(record, flag.field)[key] = text
        case "json":
            part = getattr(record, flag.field)
            part.SetInParent()
            read_json(value, part)
        case "jsons":
            for text in value:
                read_json(text, getattr(record, flag.field).add())
        case _:
            setattr(record, flag.field, value)


def complete_span(record: Message) -> None:
    """Give a span the random ids it was not given."""
    assert isinstance(record, v1.Span)
    record.trace_id = record.trace_id or secrets.token_hex(16)
    record.span_id = record.span_id or secrets.token_hex(8)


async def ingest(
    kind: RecordType, records: list[Message], channel: aio.Channel
) -> v1.BatchCommitted:
    """Store records by one request, trying again under the same request_id while it may pass.

    Raises:
        aio.AioRpcError: It was refused, or the trouble did not pass.
    """
    stub = v1.IngestServiceStub(channel)
    batch = v1.TelemetryRecords(record_count=len(records))
    getattr(batch, kind.records_field).extend(records)
    request = v1.IngestTelemetryRequest(request_id=str(uuid.uuid4()), records=batch)
    failures, jitter = 0, random.Random()  # noqa: S311  # no secret
    while True:
        try:
            response = await stub.IngestTelemetry(request, timeout=CALL_TIMEOUT_SECONDS)
        except aio.AioRpcError as error:
            failures += 1
            failed = decode_error(error)
            if failures == TRIES or not _may_pass(failed):
                raise
            pause = Backoff().pause_seconds(failures, failed.retry_after_seconds, jitter)
            await asyncio.sleep(pause)
        else:
            return response.result


def _may_pass(failed: RpcFailed) -> bool:
    if failed.code is grpc.StatusCode.RESOURCE_EXHAUSTED:
        # Without RetryInfo the message is too large, which no waiting changes.
        return failed.retry_after_seconds is not None
    return failed.code is grpc.StatusCode.UNAVAILABLE


def _print_outcome(kind: RecordType, batch: Batch, result: v1.BatchCommitted) -> None:
    if result.accepted_count:
        print(f"Stored {_counted(kind, result.accepted_count)}, commit {result.commit_token}.")
    reasons = v1.RecordVerdict.DESCRIPTOR.fields_by_name["reason"].enum_type
    assert reasons is not None
    for verdict in result.verdicts:
        what = "stored with a change" if verdict.kept else "rejected"
        where = f"{verdict.field_path}: " if verdict.field_path else ""
        complain(
            f"{batch.place(verdict.index)}{what}: {where}{verdict.detail.rstrip('.')} "
            f"({word_of(reasons, verdict.reason)})."
        )
    if result.verdicts_truncated:
        complain(f"{result.rejected_count} records were rejected; only the first are shown.")


def _counted(kind: RecordType, count: int) -> str:
    return f"{count} {kind.noun}{'' if count == 1 else 's'}"


def _send_lines(kind: RecordType, name: str, address: str) -> int:
    stored = rejected = 0
    with contextlib.ExitStack() as opened:
        # Bytes that are no UTF-8 cost their line, not the file.
        if name == "-":
            lines: TextIO = io.TextIOWrapper(
                sys.stdin.buffer, encoding="utf-8", errors="surrogateescape"
            )
        else:
            try:
                lines = opened.enter_context(
                    Path(name).open(encoding="utf-8", errors="surrogateescape")
                )
            except OSError as error:
                raise typer.BadParameter(f"{name}: {error.strerror}", param_hint="--json") from None
        try:
            for batch, unreadable in _batches(kind, lines):
                rejected += unreadable
                if batch.records:
                    result = call(address, partial(ingest, kind, batch.records))
                    stored += result.accepted_count
                    rejected += result.rejected_count
                    _print_outcome(kind, batch, result)
        except typer.Exit:
            complain(f"Stored before that: {_counted(kind, stored)}.")
            raise
    print(f"Stored {_counted(kind, stored)} in all, rejected {rejected}.")
    return 1 if rejected else 0


def _batches(kind: RecordType, lines: TextIO) -> Iterator[tuple[Batch, int]]:
    """Give batches with the number of lines between them that were no records."""
    batch, unreadable = Batch(), 0
    for number, line in enumerate(lines, 1):
        if not line.strip():
            continue
        record: Message = getattr(v1, kind.message)()
        try:
            read_json(line, record)
        except ValueError as error:
            complain(f"line {number} rejected: {error}.")
            unreadable += 1
            continue
        size = record.ByteSize()
        if batch.records and (
            len(batch.records) == BATCH_RECORDS or batch.size_bytes + size > BATCH_BYTES
        ):
            yield batch, unreadable
            batch, unreadable = Batch(), 0
        batch.records.append(record)
        batch.lines.append(number)
        batch.size_bytes += size
    yield batch, unreadable
