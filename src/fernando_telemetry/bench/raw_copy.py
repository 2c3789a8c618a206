"""The baseline: the very rows the service stored, as raw `COPY … FROM STDIN BINARY`.

The rows are read back from the table in COPY's binary format before the clock starts, all columns
with the ids the server made, so the baseline pays for nothing but PostgreSQL. It writes them to
the same table over one session, one transaction per payload, synchronous_commit = on.
"""

from __future__ import annotations

import itertools
import time
from collections.abc import AsyncIterator, Sequence
from dataclasses import dataclass
from typing import Any, Final

from fernando_telemetry.bench.failure import BenchFailed
from fernando_telemetry.bench.server import Connection
from fernando_telemetry.bench.tables import TABLES, columns_of, select_slice
from fernando_telemetry.storage.statements import load

sql = load("bench")

# Rows of one transaction.
TRANSACTION_ROWS: Final = {"events": 16_384, "samples": 65_536, "points": 65_536, "spans": 16_384}
PAYLOADS: Final = 12
_CHUNK_BYTES: Final = 256 * 1024


@dataclass(frozen=True, slots=True)
class Payload:
    """A whole binary COPY stream."""

    content: bytes
    rows: int


@dataclass(frozen=True, slots=True)
class CopySlice:
    """What a slice of COPY came to; seconds to the end of its last commit."""

    rows: int
    seconds: float

    @property
    def rate(self) -> float:
        """Rows a second."""
        return self.rows / self.seconds


class RawCopy:
    """Writes payloads round and round into a table.

    Args:
        connection: Its session, used by nobody else meanwhile.
        table: Where the rows go.
        columns: All columns, in the payloads' order.
        payloads: What is written, one a transaction.
    """

    def __init__(
        self,
        connection: Connection,
        table: str,
        columns: Sequence[str],
        payloads: Sequence[Payload],
    ) -> None:
        self._connection = connection
        self._table = table
        self._columns = list(columns)
        self._payloads = itertools.cycle(payloads)
        self.rows = 0

    @classmethod
    async def of_stored(cls, connection: Connection, kind: str) -> RawCopy:
        """Read rows of a kind back, to write them again.

        Raises:
            BenchFailed: None are stored.
        """
        table = TABLES[kind]
        columns = await columns_of(connection, table)
        payloads = await read_payloads(connection, table, columns, TRANSACTION_ROWS[kind])
        return cls(connection, table, columns, payloads)

    async def run(self, seconds: float) -> CopySlice:
        """Copy for some seconds."""
        begun = time.monotonic()
        rows = 0
        while (took := time.monotonic() - begun) < seconds or not rows:
            rows += await self.copy(next(self._payloads))
        return CopySlice(rows, took)

    async def copy(self, payload: Payload) -> int:
        """Write one payload in one transaction; gives its rows."""
        status = await self._connection.copy_to_table(
            self._table, columns=self._columns, format="binary", source=_chunks(payload.content)
        )
        rows = int(status.split()[1])
        self.rows += rows
        return rows


async def read_payloads(
    connection: Connection,
    table: str,
    columns: Sequence[str],
    transaction_rows: int,
    payloads: int = PAYLOADS,
) -> list[Payload]:
    """Read rows back, in the order they lie in.

    Raises:
        BenchFailed: The table is empty.
    """
    await connection.execute(sql.scan_from_the_start)
    found: list[Payload] = []
    for number in range(payloads):
        query = select_slice(table, columns, number * transaction_rows, transaction_rows)
        content = bytearray()
        status = await connection.copy_from_query(
            query, output=_appending(content), format="binary"
        )
        rows = int(status.split()[1])
        if rows == transaction_rows or (rows and not found):
            found.append(Payload(bytes(content), rows))
        if rows < transaction_rows:
            break
    if not found:
        raise BenchFailed(f"No row of {table} is there to be copied.")
    return found


def _appending(content: bytearray) -> Any:
    async def append(part: bytes) -> None:
        content.extend(part)

    return append


async def _chunks(content: bytes) -> AsyncIterator[bytes]:
    for begin in range(0, len(content), _CHUNK_BYTES):
        yield content[begin : begin + _CHUNK_BYTES]
