"""Decodes the bytes of one batch into its lists, and has every record checked.

The whole batch is parsed at once. Only when that fails are its records parsed one by one, so
that a text that is not UTF-8 costs its own record and nobody else's. Work is done in slices that
yield to the event loop: a batch of 8 MB would otherwise stall every other call.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Iterable, Iterator
from dataclasses import dataclass
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
from fernando_telemetry.domain.digests import content_digest
from fernando_telemetry.domain.verdicts import Rejection
from fernando_telemetry.ingest import wire
from fernando_telemetry.ingest.checks.context import CheckContext
from fernando_telemetry.ingest.checks.system_metric import column_series
from fernando_telemetry.ingest.content_digest import VERSION, ContentHash
from fernando_telemetry.ingest.content_messages import add_messages
from fernando_telemetry.ingest.record_check import (
    SLICE_RECORDS,
    CheckedBatch,
    RecordChecker,
    Refusal,
)


@dataclass(slots=True)
class Lists:
    """The batch's lists; an element that did not parse is its Rejection."""

    events: Iterable[Event | Rejection] = ()
    system_metrics: Iterable[SystemMetric | Rejection] = ()
    business_metrics: Iterable[BusinessMetric | Rejection] = ()
    spans: Iterable[Span | Rejection] = ()
    series: Iterable[MetricSeries | Rejection] = ()
    columns: Any = None

    def samples(self) -> Iterator[tuple[int, int, float]]:
        """Give (place in `series`, Unix microseconds, value) of the columns' samples."""
        columns = self.columns
        return zip(columns.series_index, columns.time_unix_micros, columns.value, strict=True)

    async def digest(self, data: bytes) -> bytes:
        """Give the digest of the content, of which `data` are the bytes."""
        content = ContentHash()
        counts = await add_messages(
            content,
            self.events,
            self.system_metrics,
            self.business_metrics,
            self.spans,
            self.columns,
            self.series,
        )
        return content_digest(data, VERSION, counts, content.signature())


async def check_lists(
    lists: Lists, context: CheckContext, batch_bytes: int, batch: CheckedBatch
) -> None:
    """Check every record of a batch, one by one, and note in `batch` what becomes of them."""
    checker = RecordChecker(batch, context, batch_bytes)
    await checker.each("event", lists.events, checker.event)
    await checker.each("system_metric", lists.system_metrics, checker.system_metric)
    await checker.each("business_metric", lists.business_metrics, checker.business_metric)
    await checker.each("span", lists.spans, checker.span)
    series = column_series(lists.series, context)
    await checker.each("metric_columns", lists.samples(), checker.sample_of(series))


def parsed(data: bytes) -> TelemetryRecords | None:
    """Parse a batch as a whole and check its counts; None where it does not parse.

    Raises:
        Refusal: too_many_records, record_count_mismatch, column_length_mismatch.
    """
    try:
        records = TelemetryRecords.FromString(data)
    except DecodeError:
        return None
    _check_whole(records, records.metric_columns)
    return records


def lists_of(records: TelemetryRecords) -> Lists:
    """Give the lists of a parsed batch."""
    columns = records.metric_columns
    return Lists(
        records.events,
        records.system_metrics,
        records.business_metrics,
        records.spans,
        columns.series,
        columns,
    )


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


async def lists_of_unparsed(data: bytes) -> Lists:
    """Parse the records of a batch one by one; one whose text is not UTF-8 is its Rejection.

    Raises:
        Refusal: undecodable, too_many_records, record_count_mismatch, column_length_mismatch.
    """
    try:
        raw = wire.RawRecords.FromString(data)
        columns = wire.RawColumns.FromString(wire.joined(raw.metric_columns))
    except DecodeError:
        raise Refusal("undecodable", "not a TelemetryRecords message") from None
    _check_whole(raw, columns)
    return Lists(
        [one async for one in _each_parsed(Event, raw.events)],
        [one async for one in _each_parsed(SystemMetric, raw.system_metrics)],
        [one async for one in _each_parsed(BusinessMetric, raw.business_metrics)],
        [one async for one in _each_parsed(Span, raw.spans)],
        [
            one
            async for one in _each_parsed(
                MetricSeries, columns.series, "metric_columns.series[{}]."
            )
        ],
        columns,
    )


async def _each_parsed(
    kind: type[Any], records: Iterable[bytes], prefix: str = ""
) -> AsyncIterator[Any]:
    for place, data in enumerate(records):
        if place % SLICE_RECORDS == SLICE_RECORDS - 1:
            await asyncio.sleep(0)
        try:
            yield kind.FromString(data)
        except DecodeError:
            path = wire.invalid_utf8_path(kind.__name__, data)
            if path is None:
                raise Refusal("undecodable", f"a {kind.__name__} does not parse") from None
            yield Rejection("invalid_utf8", prefix.format(place) + path, "text must be UTF-8")
