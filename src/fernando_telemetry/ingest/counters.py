"""Counts what the write path does: the source of the server's own ingest metrics."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import Any


@dataclass(slots=True)
class IngestCounters:
    """Totals since the start, and the latest commit latencies.

    Attributes:
        accepted: Records stored.
        rejected: Records rejected by a verdict.
        repeated: Batches and requests acknowledged as duplicates.
        repeated_records: Records in them.
        refused: Batches refused as a whole.
        open_streams: Streams open now.
        database_refusals: Records PostgreSQL refused although the checks had passed them.
        rejected_not_kept: Rejected records that were not kept because the bound was reached.
        overflowed: Samples kept in a coarser series, as their metric had reached its limit.
        refused_for_room: Calls, streams and batches refused by the disk budget.
        disk_free_bytes: Free space at the latest look; None: not known.
        last_problem: Latest trouble that operators should know of, a sentence with its time; ""
            for none.
        commit_seconds: From arrival to commit, of the latest 2,000 batches.
        clock: Dates the trouble.
    """

    accepted: int = 0
    rejected: int = 0
    repeated: int = 0
    repeated_records: int = 0
    refused: int = 0
    database_refusals: int = 0
    rejected_not_kept: int = 0
    overflowed: int = 0
    open_streams: int = 0
    refused_for_room: int = 0
    disk_free_bytes: int | None = None
    last_problem: str = ""
    commit_seconds: deque[float] = field(default_factory=lambda: deque(maxlen=2000))
    clock: Callable[[], datetime] = lambda: datetime.now(UTC)

    def count(self, outcome: Any, seconds: float) -> None:
        """Count a batch's final answer."""
        self.commit_seconds.append(seconds)
        match outcome.status:
            case "committed":
                self.accepted += outcome.tally.accepted
                self.rejected += outcome.tally.rejected
            case "duplicate":
                self.repeated += 1
                self.repeated_records += outcome.tally.accepted + outcome.tally.rejected
            case _:
                self.refused += 1

    def note_problem(self, sentence: str) -> None:
        """Keep a sentence for operators and put its time in front; the last one shows."""
        self.last_problem = f"{self.clock().isoformat()}: {sentence}"

    def refused_by_database(self) -> None:
        """Count a record that PostgreSQL refused although the checks had passed it."""
        self.database_refusals += 1
