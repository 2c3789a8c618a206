"""Kept rejected records: written beside the mark of their batch, replayed, cleaned.

They go in with the flush that answers their batch, so a repeat does not keep them twice, and a
record that a replay stores leaves in the flush that stores it. How many are kept is decided
where they are made (ingest/rejected.py).
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from contextlib import aclosing
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Any, Final, cast
from uuid import UUID

import structlog

from fernando_telemetry.domain.limits import RECORD_BYTES
from fernando_telemetry.domain.paging import Position
from fernando_telemetry.domain.verdicts import Verdict
from fernando_telemetry.storage.list_statement import Key, Selection, Source
from fernando_telemetry.storage.lists import Row, listed
from fernando_telemetry.storage.sessions import Connection, ControlPool
from fernando_telemetry.storage.statements import load

log = structlog.get_logger(__name__)
sql = load("rejected_records")

# What a kept record takes besides its bytes: the other columns, row and index headers.
ROW_BYTES: Final = 400
CLEAN_INTERVAL_SECONDS: Final = 60.0
CLEAN_ROWS: Final = 1_000

REJECTED_RECORDS: Final = Source(
    sql.rejected_records, (Key("rejected_at", "time"), Key("rejected_id", "uuid"))
)
_COLUMNS: Final = (
    "shard",
    "rejected_id",
    "rejected_at",
    "kind",
    "index",
    "reason",
    "field_path",
    "detail",
    "producer_id",
    "sequence",
    "license_id",
    "defaults",
    "record",
)


@dataclass(frozen=True, slots=True)
class Origin:
    """Where rejected records of one batch come from.

    Attributes:
        shard: The batch's.
        rejected_at: When it was received: what a record without a time of its own gets.
        producer_id: "" for a unary call.
        sequence: 0 for a unary call.
        defaults: RecordDefaults that are set, as JSON.
    """

    shard: int
    rejected_at: datetime
    producer_id: str
    sequence: int
    defaults: str


@dataclass(frozen=True, slots=True)
class RejectedRow:
    """A rejected record to be kept.

    Attributes:
        origin: What it shares with all records of its batch.
        verdict: What was wrong.
        rejected_id: A UUIDv7.
        license_id: Its licence, "" for none.
        record: Its wire bytes, in parts: samples of one series share the series' bytes.
    """

    origin: Origin
    verdict: Verdict
    rejected_id: UUID
    license_id: str
    record: tuple[bytes, ...]

    @property
    def counted_bytes(self) -> int:
        """What it counts against the bound."""
        return ROW_BYTES + sum(map(len, self.record))

    def columns(self) -> tuple[Any, ...]:
        """Give its columns, in the order of COPY."""
        origin, verdict = self.origin, self.verdict
        return (
            origin.shard,
            self.rejected_id,
            origin.rejected_at,
            verdict.kind,
            verdict.index,
            verdict.reason,
            storable(verdict.field_path) or None,
            storable(verdict.detail),
            origin.producer_id or None,
            origin.sequence or None,
            self.license_id or None,
            origin.defaults,
            b"".join(self.record),
        )


@dataclass(frozen=True, slots=True)
class ReplayKey:
    """A kept record on its way into a flush again."""

    shard: int
    rejected_id: UUID


def storable(text: str) -> str:
    """Replace what PostgreSQL cannot hold in a text: a path may repeat a sender's key."""
    return text.replace("\0", "\ufffd")


async def keep_rejected(connection: Connection, rows: Sequence[RejectedRow]) -> None:
    """Write rejected records inside a flush's transaction."""
    if not rows:
        return
    await connection.copy_records_to_table(
        "rejected_records", records=(row.columns() for row in rows), columns=_COLUMNS
    )


async def settle_replays(
    connection: Connection, replays: Mapping[ReplayKey, Verdict | None]
) -> set[ReplayKey]:
    """Take replayed records away, or note their new verdict, inside a flush's transaction.

    Args:
        connection: Of the flush.
        replays: The records; a verdict where one is rejected again.

    Returns:
        Those that were there. Another replay stored the rest, or they were cleaned away.
    """
    held = await connection.fetch(sql.hold_replayed, *_key_columns(replays))
    there = {ReplayKey(row["shard"], UUID(int=row["rejected_id"].int)) for row in held}
    stored = [key for key in there if replays[key] is None]
    if stored:
        await connection.execute(sql.delete_replayed, *_key_columns(stored))
    again = {key: verdict for key in there if (verdict := replays[key]) is not None}
    if again:
        await connection.execute(
            sql.judge_again,
            *_key_columns(again),
            [verdict.reason for verdict in again.values()],
            [storable(verdict.field_path) or None for verdict in again.values()],
            [storable(verdict.detail) for verdict in again.values()],
        )
    return there


def _key_columns(keys: Iterable[ReplayKey]) -> tuple[list[int], list[UUID]]:
    listed_keys = list(keys)
    return [key.shard for key in listed_keys], [key.rejected_id for key in listed_keys]


class RejectedRecords:
    """The kept records outside flushes.

    Args:
        control: Sessions that see every committed record.
        days: How long records are kept.
    """

    def __init__(self, control: ControlPool, days: int) -> None:
        self._control = control
        self._days = days

    async def kept_bytes(self) -> int:
        """Give what all kept records count against the bound; reads the table once through.

        Raises:
            DatabaseUnavailable: The database does not answer.
        """
        async with self._control.transaction() as connection:
            counted: int = await connection.fetchval(sql.kept_bytes, ROW_BYTES)
            return counted

    async def run(self, now: datetime) -> None:
        """Clean, as a duty of the leader; kept records age also where keeping is off.

        Raises:
            DatabaseUnavailable: The database does not answer.
        """
        cleaned = await self.clean(now)
        if cleaned:
            log.info("rejected_records_cleaned", records=cleaned)

    async def clean(self, now: datetime) -> int:
        """Delete what is older than its days, in steps of 1,000 with a transaction each.

        Returns:
            Records deleted; 0 also where another server is cleaning.

        Raises:
            DatabaseUnavailable: The database does not answer; what was deleted stays so.
        """
        before = now - timedelta(days=self._days)
        total, step = 0, CLEAN_ROWS
        while step == CLEAN_ROWS:
            step = 0
            async with self._control.transaction() as connection:
                if await connection.fetchval(sql.try_clean):
                    step = await connection.fetchval(sql.clean, before, CLEAN_ROWS)
            total += step
        return total

    async def read(
        self, selection: Selection, most_bytes: int
    ) -> tuple[list[Row], Position | None]:
        """Read some records of a selection.

        Args:
            selection: Which; at most its limit.
            most_bytes: Enough when the records read exceed it.

        Returns:
            The records, and the place of the last one; None where the selection is exhausted.

        Raises:
            DatabaseUnavailable: The database does not answer.
        """
        rows: list[Row] = []
        size = 0
        async with self._control.transaction() as connection:
            found = listed(connection, REJECTED_RECORDS, selection, RECORD_BYTES)
            async with aclosing(cast("Any", found)) as places:
                async for place, row in places:
                    rows.append(row)
                    size += len(row["record"] or b"")
                    if size > most_bytes or len(rows) == selection.limit:
                        return rows, place
        return rows, None
