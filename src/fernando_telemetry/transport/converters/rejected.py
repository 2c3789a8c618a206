"""Kept rejected records."""

from __future__ import annotations

from fernando.telemetry.v1 import RejectedRecord
from fernando_telemetry.domain.verdicts import Verdict
from fernando_telemetry.queries.pages import Row
from fernando_telemetry.transport.converters.ingest_service import verdict_message
from fernando_telemetry.transport.converters.timestamp import timestamp_of


def rejected_message(row: Row) -> RejectedRecord:
    """Give a row of ListRejectedRecords as a message."""
    verdict = Verdict(
        row["kind"], row["index"], row["reason"], row["field_path"] or "", row["detail"]
    )
    return RejectedRecord(
        rejected_id=str(row["rejected_id"]),
        verdict=verdict_message(verdict),
        producer_id=row["producer_id"] or "",
        sequence=row["sequence"] or 0,
        record=row["record"] or b"",
        rejected_at=timestamp_of(row["rejected_at"]),
        license_id=row["license_id"] or "",
    )
