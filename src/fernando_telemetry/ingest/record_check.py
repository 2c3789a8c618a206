"""Checks the records of one batch one by one: rows and verdicts out.

The whole truth about a record: the columnar checks only pass on what this would take as well.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field
from typing import Any, Final

from fernando.telemetry.v1 import BusinessMetric, Event, Span, SystemMetric
from fernando_telemetry.domain import limits
from fernando_telemetry.domain.series import SeriesIdentity
from fernando_telemetry.domain.verdicts import RecordKind, Rejection, Tally, Verdict
from fernando_telemetry.ingest.checks.business_metric import business_metric_row
from fernando_telemetry.ingest.checks.context import CheckContext
from fernando_telemetry.ingest.checks.event import event_row
from fernando_telemetry.ingest.checks.span import span_row
from fernando_telemetry.ingest.checks.system_metric import sample_row, system_metric_row
from fernando_telemetry.storage.columns import ColumnSlice
from fernando_telemetry.storage.rows import BUSINESS_METRICS, EVENTS, SAMPLES, SPANS, CheckedRows

SLICE_RECORDS: Final = 200


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
    """What became of a batch's bytes: rows to store, counts and verdicts.

    Attributes:
        rows: Rows as tuples, from the record checks.
        slices: Rows as columns, from the columnar checks; shared with other batches.
        tally: Counts and verdicts.
        digest: Of its content, for its mark (domain/digests.py); None where none was wanted.
        refused: Why it is refused as a whole; it then has no rows.
    """

    rows: CheckedRows = field(default_factory=CheckedRows)
    slices: list[ColumnSlice] = field(default_factory=list)
    tally: Tally = field(default_factory=Tally)
    digest: bytes | None = None
    refused: Refusal | None = None

    def begin_anew(self, tally: Tally) -> None:
        """Forget rows and counts of checks that were not finished."""
        self.rows, self.slices, self.tally = CheckedRows(), [], tally


class RecordChecker:
    """Checks records of one batch and notes what becomes of them.

    Args:
        batch: Gets rows, counts and verdicts.
        context: The batch's view.
        batch_bytes: Size of the batch.
    """

    def __init__(self, batch: CheckedBatch, context: CheckContext, batch_bytes: int) -> None:
        self._batch = batch
        self._context = context
        # A record can only be too large where the batch is.
        self._large = batch_bytes > limits.RECORD_BYTES

    async def each(
        self, kind: RecordKind, records: Iterable[Any], check: Callable[[Any, int], None]
    ) -> None:
        """Check the records of one kind, in slices that yield to the event loop."""
        for index, record in enumerate(records):
            if index % SLICE_RECORDS == SLICE_RECORDS - 1:
                await asyncio.sleep(0)
            self.judge(kind, index, record, check)

    def judge(
        self, kind: RecordKind, index: int, record: Any, check: Callable[[Any, int], None]
    ) -> None:
        """Check one record; one that did not parse is given as its Rejection."""
        tally = self._batch.tally
        try:
            if isinstance(record, Rejection):
                raise record
            check(record, index)
        except Rejection as bad:
            tally.add(Verdict(kind, index, bad.reason, bad.field_path, bad.detail))
        else:
            tally.accepted += 1

    def _size(self, message: Any) -> None:
        if self._large and message.ByteSize() > limits.RECORD_BYTES:
            raise Rejection("record_too_large", "", f"at most {limits.RECORD_BYTES} bytes")

    def event(self, message: Event, index: int) -> None:
        """Check an event."""
        self._size(message)
        row, bad_address = event_row(message, self._context)
        self._batch.rows.add(EVENTS, row, "event", index)
        if bad_address:
            detail = "not an IP address without zone; stored as NULL"
            self._batch.tally.add(
                Verdict("event", index, "invalid_ip", "source_ip", detail, kept=True)
            )

    def system_metric(self, message: SystemMetric, index: int) -> None:
        """Check a sample or distribution."""
        self._size(message)
        table, row = system_metric_row(message, self._context)
        self._batch.rows.add(table, row, "system_metric", index)

    def business_metric(self, message: BusinessMetric, index: int) -> None:
        """Check a KPI."""
        self._size(message)
        row = business_metric_row(message, self._context)
        self._batch.rows.add(BUSINESS_METRICS, row, "business_metric", index)

    def span(self, message: Span, index: int) -> None:
        """Check a span."""
        self._size(message)
        self._batch.rows.add(SPANS, span_row(message, self._context), "span", index)

    def sample_of(
        self, series: list[SeriesIdentity | Rejection]
    ) -> Callable[[tuple[int, int, float], int], None]:
        """Give the check of the samples of packed columns with these series."""

        def sample(given: tuple[int, int, float], index: int) -> None:
            row = sample_row(given, series, self._context)
            self._batch.rows.add(SAMPLES, row, "metric_columns", index)

        return sample
