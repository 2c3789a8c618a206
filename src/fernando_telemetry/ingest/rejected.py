"""Keeps rejected records: cuts their bytes out of the batch and makes rows of them.

Off by default, for they hold personal data. What is kept is bounded: above the bound further
records are not kept, which is counted and said once; ingest never waits or fails for it.
"""

from __future__ import annotations

import asyncio
import json
import secrets
from collections.abc import Iterator, Sequence
from dataclasses import asdict
from functools import partial
from typing import Any, Final

import structlog

from fernando_telemetry.domain import limits
from fernando_telemetry.domain.errors import DatabaseUnavailable
from fernando_telemetry.domain.identifiers import uuid7_run
from fernando_telemetry.domain.verdicts import RecordKind, Rejection, Tally, Verdict
from fernando_telemetry.ingest import wire
from fernando_telemetry.ingest.checks import values
from fernando_telemetry.ingest.checks.context import CheckContext, RecordDefaults
from fernando_telemetry.ingest.counters import IngestCounters
from fernando_telemetry.ingest.record_check import SLICE_RECORDS
from fernando_telemetry.storage.marks import BatchKey, FlushBatch
from fernando_telemetry.storage.rejected_records import (
    ROW_BYTES,
    Origin,
    RejectedRecords,
    RejectedRow,
    ReplayKey,
)

log = structlog.get_logger(__name__)

MEASURE_INTERVAL_SECONDS: Final = 60.0
# Samples repeat the bytes of their series, so that one batch could become many gigabytes.
BATCH_ROOM_BYTES: Final = limits.BATCH_RECORDS * ROW_BYTES + 4 * limits.BATCH_BYTES

_MESSAGES: Final[dict[RecordKind, tuple[str, str]]] = {
    "event": ("events", "Event"),
    "system_metric": ("system_metrics", "SystemMetric"),
    "business_metric": ("business_metrics", "BusinessMetric"),
    "span": ("spans", "Span"),
}


class RejectedKeeper:
    """Keeps the rejected records of checked batches.

    Args:
        records: Where they are kept.
        counters: Count what was not kept.
        is_on: Whether any are kept.
        most_bytes: Bound of what all servers of a database keep; each looks once a minute how
            much there is, so several may pass it by what they take in a minute.
    """

    def __init__(
        self,
        records: RejectedRecords,
        counters: IngestCounters,
        *,
        is_on: bool,
        most_bytes: int,
    ) -> None:
        self._records = records
        self._counters = counters
        self._is_on = is_on
        self._most_bytes = most_bytes
        self._kept_bytes = 0
        self._said = False

    def tally(self) -> Tally:
        """Give an empty tally that notes what is needed here."""
        return Tally(rejections=[] if self._is_on else None)

    async def attach(self, batch: FlushBatch, data: bytes, context: CheckContext) -> None:
        """Give a checked batch the rows of its rejected records.

        Args:
            batch: With its tally. A replayed record is kept already.
            data: Bytes of its TelemetryRecords, held while the batch is: PostgreSQL may yet
                refuse a record.
            context: What it was checked with.
        """
        rejections, batch.tally.rejections = batch.tally.rejections, None
        if rejections is None or isinstance(batch.key, ReplayKey):
            return
        # Holds the bytes, so it must not hold the batch: a cycle would outlive both.
        batch.keep = partial(self._rows, data, origin_of(batch, context), context.defaults)
        batch.rejected = await batch.keep(rejections) if rejections else []

    async def _rows(
        self, data: bytes, origin: Origin, defaults: RecordDefaults, verdicts: Sequence[Verdict]
    ) -> list[RejectedRow]:
        rows: list[RejectedRow] = []
        room = BATCH_ROOM_BYTES
        for row in rejected_rows(data, verdicts, origin, defaults):
            size = row.counted_bytes
            if size > room or self._kept_bytes + size > self._most_bytes:
                self._leave_out(len(verdicts) - len(rows))
                break
            self._kept_bytes += size
            room -= size
            rows.append(row)
            if len(rows) % SLICE_RECORDS == 0:
                await asyncio.sleep(0)
        return rows

    def _leave_out(self, count: int) -> None:
        self._counters.rejected_not_kept += count
        if self._said:
            return
        self._said = True
        log.warning(
            "rejected_records_not_kept", kept_bytes=self._kept_bytes, most_bytes=self._most_bytes
        )
        self._counters.note_problem(
            f"rejected records take {self._kept_bytes} of {self._most_bytes} bytes;"
            " further ones are not kept"
        )

    async def measure(self) -> None:
        """Learn how much is kept, by all servers.

        Raises:
            DatabaseUnavailable: The database does not answer.
        """
        if self._is_on:
            self._kept_bytes = await self._records.kept_bytes()
            # Only real room is worth a second warning later.
            self._said = self._said and self._kept_bytes > self._most_bytes * 0.9

    async def run(self) -> None:
        """Measure until cancelled, each minute: other servers add, and the leader cleans."""
        while True:
            await asyncio.sleep(MEASURE_INTERVAL_SECONDS)
            try:
                await self.measure()
            except DatabaseUnavailable as error:
                log.warning("rejected_records_not_measured", cause=str(error))


def origin_of(batch: FlushBatch, context: CheckContext) -> Origin:
    """Give what all rejected records of a batch share."""
    key = batch.key if isinstance(batch.key, BatchKey) else None
    defaults = {name: value for name, value in asdict(context.defaults).items() if value}
    return Origin(
        batch.shard,
        context.received_at,
        key.producer.producer_id if key else "",
        key.sequence if key else 0,
        json.dumps(defaults, ensure_ascii=False),
    )


def rejected_rows(
    data: bytes, verdicts: Sequence[Verdict], origin: Origin, defaults: RecordDefaults
) -> Iterator[RejectedRow]:
    """Make the rows of a batch's rejected records, one by one.

    Args:
        data: Bytes of a TelemetryRecords that was decoded, in whole or record by record.
        verdicts: Of its rejected records, in any order.
        origin: What the rows share.
        defaults: Of the stream or request.
    """
    raw = wire.RawRecords.FromString(data)
    columns = _Columns(wire.RawColumns.FromString(wire.joined(raw.metric_columns)), defaults)
    ids = uuid7_run(int(origin.rejected_at.timestamp() * 1000), secrets.randbits(73))
    for verdict in verdicts:
        if verdict.kind == "metric_columns":
            license_id, parts = columns.sample(verdict.index)
        else:
            records, message = _MESSAGES[verdict.kind]
            record: bytes = getattr(raw, records)[verdict.index]
            license_id, parts = license_of(message, record, defaults), (record,)
        yield RejectedRow(origin, verdict, next(ids), license_id, parts)


class _Columns:
    """Samples of packed columns as messages of one sample each."""

    def __init__(self, columns: Any, defaults: RecordDefaults) -> None:
        self._columns = columns
        self._defaults = defaults
        # Licence and framed bytes by place: samples share them.
        self._series: dict[int, tuple[str, bytes]] = {}

    def sample(self, index: int) -> tuple[str, tuple[bytes, ...]]:
        """Give licence and bytes of the MetricColumns of one sample with its series."""
        columns = self._columns
        place = columns.series_index[index]
        tail = wire.column_sample(
            place if place >= len(columns.series) else 0,
            columns.time_unix_micros[index],
            columns.value[index],
        )
        if place >= len(columns.series):
            return self._defaults.license_id, (tail,)
        if place not in self._series:
            series = columns.series[place]
            license_id = license_of("MetricSeries", series, self._defaults)
            self._series[place] = license_id, wire.framed(1, series)
        license_id, head = self._series[place]
        return license_id, (head, tail)


def license_of(message: str, record: bytes, defaults: RecordDefaults) -> str:
    """Give a record's licence, its own or the default; one that is not allowed is none."""
    given = wire.lenient(message).FromString(record).license_id
    try:
        return values.text(given.decode(), "license_id") or defaults.license_id
    except (UnicodeDecodeError, Rejection):
        return defaults.license_id
