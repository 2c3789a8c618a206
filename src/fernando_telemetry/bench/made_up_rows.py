"""Made-up rows in a table of the schema: what the benchmarks of index sets fill partitions with."""

from __future__ import annotations

import io
import os
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from pathlib import Path

from fernando_telemetry.storage.sessions import Connection
from fernando_telemetry.storage.statements import load

sql = load("bench_rows")

DAY = datetime(2026, 1, 5, tzinfo=UTC)
# Rows come up to two seconds late.
START = DAY + timedelta(hours=1)


@dataclass(frozen=True, slots=True)
class MadeUpRows:
    """The rows of one kind, all in one day.

    Attributes:
        name: The statement of bench_rows.sql that makes them.
        table: Where they go.
        chunk: Rows of one flush.
        rows: How many there are.
    """

    name: str
    table: str
    chunk: int
    rows: int

    @property
    def partition(self) -> str:
        """The partition of their day."""
        return f"{self.table}_p{DAY:%Y%m%d}"

    @property
    def statement(self) -> str:
        """SELECT that makes a range of them."""
        text: str = getattr(sql, self.name)
        return text.rstrip().rstrip(";")

    def parameters(self, first: int, count: int) -> tuple[int, int, datetime, float]:
        """Give the statement's parameters for `count` rows from the one numbered `first`."""
        whole = -(-self.rows // self.chunk) * self.chunk
        return first, first + count - 1, START, 80_000 / whole

    async def binary(self, connection: Connection, first: int) -> io.BytesIO:
        """Give one chunk as COPY … BINARY takes it."""
        data = io.BytesIO()
        await connection.copy_from_query(
            self.statement, *self.parameters(first, self.chunk), output=data, format="binary"
        )
        data.seek(0)
        return data


def cpu_seconds(pid: int) -> float:
    """Give the CPU time a local process has used."""
    fields = Path(f"/proc/{pid}/stat").read_text().rsplit(")", 1)[1].split()
    return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")
