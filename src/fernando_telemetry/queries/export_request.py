"""What an export is asked for, within which bounds, and what it tells in the end."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime

from fernando_telemetry.domain.time_range import TimeRange


@dataclass(frozen=True, slots=True)
class ExportRequest:
    """What is to be exported, as the caller gave it.

    Args:
        kind: Word of the kind of records.
        filter: Conditions on columns; "" takes every record.
        as_json: JSON lines, else an Arrow IPC stream.
        time_range: Records of it; None: those behind `after_token`.
        after_token: The next_token of a chunk or manifest; "": all that is stored.
        min_commit_token: The commit_token of an ack that the export has to show; "": none.
    """

    kind: str
    filter: str
    as_json: bool
    time_range: TimeRange | None
    after_token: str
    min_commit_token: str


@dataclass(frozen=True, slots=True)
class Manifest:
    """What was given.

    Args:
        row_count: Records in all chunks.
        sha256: Of all data, as hex.
        next_token: What came later goes on behind it.
        schema_version: Of the columns.
        min_time: Earliest time of a record; None: there is none.
        max_time: Latest time of a record.
        expired_row_count: Records since the token that the export began behind that are gone.
        expired_before: What is older is gone; None: nothing is known to be.
    """

    row_count: int
    sha256: str
    next_token: str
    schema_version: int
    min_time: datetime | None
    max_time: datetime | None
    expired_row_count: int
    expired_before: datetime | None


@dataclass(frozen=True, slots=True)
class ExportOptions:
    """Bounds of exports.

    Args:
        at_once: How many may run.
        patience_seconds: How long rows are waited for, each time.
        stall_seconds: How long a caller may take nothing.
        commit_wait_seconds: How long a replica is waited for that is behind.
    """

    at_once: int
    patience_seconds: float
    stall_seconds: float
    commit_wait_seconds: float
