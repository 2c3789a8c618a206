"""Decodes and checks one batch: bytes in, rows and verdicts out.

The whole batch is parsed at once. Only when that fails are its records parsed one by one, so
that a text that is not UTF-8 costs its own record and nobody else's. Work is done in slices that
yield to the event loop: a batch of 8 MB would otherwise stall every other call.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass, field
from typing import Any

from google.protobuf.message import DecodeError

from fernando.telemetry.v1 import (
    BusinessMetric,
    Event,
    MetricSeries,
    Span,
    SystemMetric,
    TelemetryRecords,
)
from fernando_telemetry.domain import limits
from fernando_telemetry.domain.verdicts import RecordKind, Rejection, Tally, Verdict
from fernando_telemetry.ingest import wire
from fernando_telemetry.ingest.checks.business_metric import business_metric_row
from fernando_telemetry.ingest.checks.context import CheckContext
from fernando_telemetry.ingest.checks.event import event_row
from fernando_telemetry.ingest.checks.span import span_row
from fernando_telemetry.ingest.checks.system_metric import (
    column_series,
    sample_row,
    system_metric_row,
)
from fernando_telemetry.storage.rows import BUSINESS_METRICS, EVENTS, SAMPLES, SPANS, CheckedRows

SLICE_RECORDS = 200


class Refusal(Exception):
    """The batch is refused as a whole; nothing of it is stored.

    Args:
        reason: Word of BatchRefusalReason.
        detail: A sentence for the sender.
    """

    def __init__(self, reason: str, detail: str) -> None:
        self.reason = reason
        self.detail = detail
        super().__init__(f"{reason}: {detail}")


@dataclass(slots=True)
class CheckedBatch:
    """What became of a batch's bytes: rows to store, counts and verdicts."""

    rows: CheckedRows = field(default_factory=CheckedRows)
    tally: Tally = field(default_factory=Tally)


@dataclass(slots=True)
class _Lists:
    """The batch's lists; an element that did not parse is its Rejection."""

    events: Iterable[Event | Rejection] = ()
    system_metrics: Iterable[SystemMetric | Rejection] = ()
    business_metrics: Iterable[BusinessMetric | Rejection] = ()
    spans: Iterable[Span | Rejection] = ()
    series: Iterable[MetricSeries | Rejection] = ()
    samples: Iterable[tuple[int, int, float]] = ()


async def check_batch(data: bytes, context: CheckContext, tally: Tally) -> CheckedBatch:
    """Decode the bytes of a TelemetryRecords message and check every record.

    Args:
        data: The bytes.
        context: What checks need to know.
        tally: An empty one, to be filled.

    Raises:
        Refusal: undecodable, too_many_records, record_count_mismatch, column_length_mismatch.
    """
    lists = _split(data)
    batch = CheckedBatch(tally=tally)
    # A record can only be too large where the batch is.
    large = len(data) > limits.RECORD_BYTES

    def size(message: Any) -> None:
        if large and message.ByteSize() > limits.RECORD_BYTES:
            raise Rejection("record_too_large", "", f"at most {limits.RECORD_BYTES} bytes")

    def event(message: Event, index: int) -> None:
        size(message)
        row, bad_address = event_row(message, context)
        batch.rows.add(EVENTS, row, "event", index)
        if bad_address:
            detail = "not an IP address without zone; stored as NULL"
            batch.tally.add(Verdict("event", index, "invalid_ip", "source_ip", detail, kept=True))

    def system_metric(message: SystemMetric, index: int) -> None:
        size(message)
        table, row = system_metric_row(message, context)
        batch.rows.add(table, row, "system_metric", index)

    def business_metric(message: BusinessMetric, index: int) -> None:
        size(message)
        row = business_metric_row(message, context)
        batch.rows.add(BUSINESS_METRICS, row, "business_metric", index)

    def span(message: Span, index: int) -> None:
        size(message)
        batch.rows.add(SPANS, span_row(message, context), "span", index)

    series = column_series(lists.series, context)

    def sample(given: tuple[int, int, float], index: int) -> None:
        batch.rows.add(SAMPLES, sample_row(given, series, context), "metric_columns", index)

    await _each("event", lists.events, event, batch.tally)
    await _each("system_metric", lists.system_metrics, system_metric, batch.tally)
    await _each("business_metric", lists.business_metrics, business_metric, batch.tally)
    await _each("span", lists.spans, span, batch.tally)
    await _each("metric_columns", lists.samples, sample, batch.tally)
    return batch


async def _each(
    kind: RecordKind, records: Iterable[Any], check: Callable[[Any, int], None], tally: Tally
) -> None:
    """Check the records of one kind, in slices."""
    for index, record in enumerate(records):
        if index % SLICE_RECORDS == SLICE_RECORDS - 1:
            await asyncio.sleep(0)
        try:
            if isinstance(record, Rejection):
                raise record
            check(record, index)
        except Rejection as bad:
            tally.add(Verdict(kind, index, bad.reason, bad.field_path, bad.detail))
        else:
            tally.accepted += 1


def _check_whole(records: Any, columns: Any) -> None:
    """Check lengths and counts, of TelemetryRecords as of its twin."""
    total = len(records.events) + len(records.system_metrics) + len(records.business_metrics)
    total += len(records.spans) + _check_lengths(columns)
    declared = records.record_count
    if total > limits.BATCH_RECORDS:
        raise Refusal("too_many_records", f"{total} records, at most {limits.BATCH_RECORDS}")
    if declared not in {0, total}:
        raise Refusal(
            "record_count_mismatch",
            f"record_count is {declared} and {total} records are known to this server",
        )


def _check_lengths(columns: Any) -> int:
    lengths = {len(columns.series_index), len(columns.time_unix_micros), len(columns.value)}
    if len(lengths) != 1:
        raise Refusal(
            "column_length_mismatch",
            f"series_index {len(columns.series_index)}, time_unix_micros "
            f"{len(columns.time_unix_micros)}, value {len(columns.value)}",
        )
    return lengths.pop()


def _split(data: bytes) -> _Lists:
    try:
        records = TelemetryRecords.FromString(data)
    except DecodeError:
        return _split_one_by_one(data)
    columns = records.metric_columns
    _check_whole(records, columns)
    return _Lists(
        records.events,
        records.system_metrics,
        records.business_metrics,
        records.spans,
        columns.series,
        zip(columns.series_index, columns.time_unix_micros, columns.value, strict=True),
    )


def _split_one_by_one(data: bytes) -> _Lists:
    try:
        raw = wire.RawRecords.FromString(data)
        columns = wire.RawColumns.FromString(wire.joined(raw.metric_columns))
    except DecodeError:
        raise Refusal("undecodable", "not a TelemetryRecords message") from None
    _check_whole(raw, columns)
    return _Lists(
        list(_parsed(Event, raw.events)),
        list(_parsed(SystemMetric, raw.system_metrics)),
        list(_parsed(BusinessMetric, raw.business_metrics)),
        list(_parsed(Span, raw.spans)),
        list(_parsed(MetricSeries, columns.series, "metric_columns.series[{}].")),
        zip(columns.series_index, columns.time_unix_micros, columns.value, strict=True),
    )


def _parsed(kind: type[Any], records: Iterable[bytes], prefix: str = "") -> Iterator[Any]:
    for place, data in enumerate(records):
        try:
            yield kind.FromString(data)
        except DecodeError:
            path = wire.invalid_utf8_path(kind.__name__, data)
            if path is None:
                raise Refusal("undecodable", f"a {kind.__name__} does not parse") from None
            yield Rejection("invalid_utf8", prefix.format(place) + path, "text must be UTF-8")
