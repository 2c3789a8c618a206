"""Deletes, or counts, the rows of some licences in a partition, a stretch of blocks at a time.

By blocks, not by rows found: a step costs the same whether it finds many rows or none, whatever
indexes the partition has, and the next one does not meet the dead rows of the last.
"""

# ruff: noqa: S608 - names and numbers of our own; values are parameters
from __future__ import annotations

from collections.abc import AsyncIterator
from dataclasses import dataclass
from datetime import datetime
from typing import Final

from fernando_telemetry.domain.retention import Term
from fernando_telemetry.storage.dropping import RawPartition
from fernando_telemetry.storage.rows import DISTRIBUTIONS, SAMPLES, RawTable
from fernando_telemetry.storage.sessions import Connection

BLOCK_BYTES: Final = 8_192
# 1 MiB: at most some 20,000 of the narrowest rows.
BLOCKS_A_STEP: Final = 128


@dataclass(frozen=True, slots=True)
class OldRows:
    """The rows of a partition that a term is over for.

    Attributes:
        table: The partition's.
        partition: Where they are.
        term: Whose they are.
        before: They are older.
    """

    table: RawTable
    partition: RawPartition
    term: Term
    before: datetime

    async def are_there(self, connection: Connection) -> bool:
        """Tell whether there is one; by an index where the partition has a fitting one."""
        statement = f"SELECT EXISTS (SELECT FROM {self._of} WHERE {self._match})"
        found: bool = await connection.fetchval(statement, self.before, [*self.term.license_ids])
        return found

    async def steps(self, connection: Connection, *, delete: bool) -> AsyncIterator[dict[str, int]]:
        """Go over the partition; each step is a transaction of its own.

        Args:
            connection: Outside of a transaction.
            delete: False: they are counted only.

        Yields:
            How many rows of which licence a step found; "" where the term is general.
        """
        blocks = -(-self.partition.heap_bytes // BLOCK_BYTES)
        for first in range(0, blocks, BLOCKS_A_STEP):
            rows = await connection.fetch(
                self._step(first, first + BLOCKS_A_STEP, delete=delete),
                self.before,
                [*self.term.license_ids],
            )
            yield {row["license_id"]: row["found"] for row in rows}

    def _step(self, first: int, stop: int, *, delete: bool) -> str:
        where = (
            f"WHERE r.ctid >= '({first},0)'::tid AND r.ctid < '({stop},0)'::tid AND {self._match}"
        )
        found = (
            f"DELETE FROM {self._of} {where} RETURNING {self._license} AS license_id"
            if delete
            else f"SELECT {self._license} AS license_id FROM {self._of} {where}"
        )
        return f"WITH gone AS ({found}) SELECT license_id, count(*) AS found FROM gone GROUP BY 1"

    @property
    def _of(self) -> str:
        return f"{self.partition.name} AS r"

    @property
    def _match(self) -> str:
        """The condition: $1 is the moment, $2 the licences."""
        time = f"r.{self.table.given[self.table.time_index]} < $1::timestamptz"
        if self.table in (SAMPLES, DISTRIBUTIONS):
            # Where a series is gone its samples are nobody's: those of all without a term.
            own = (
                "EXISTS (SELECT FROM metric_series AS s WHERE s.series_id = r.series_id"
                " AND s.license_id = ANY ($2::text[]))"
            )
            return f"{time} AND {'NOT ' if self.term.is_general else ''}{own}"
        if self.term.is_general:
            return f"{time} AND (r.license_id IS NULL OR r.license_id <> ALL ($2::text[]))"
        return f"{time} AND r.license_id = ANY ($2::text[])"

    @property
    def _license(self) -> str:
        if self.term.is_general:
            return "''::text"
        if self.table in (SAMPLES, DISTRIBUTIONS):
            return "(SELECT s.license_id FROM metric_series AS s WHERE s.series_id = r.series_id)"
        return "r.license_id"
