"""A flush's fresh rows as columns, read and numbered once for all roll-ups that ask for them."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import pyarrow as pa

from fernando_telemetry.domain.calendar import EPOCH, MICROSECOND
from fernando_telemetry.storage.columns import Integers
from fernando_telemetry.storage.copy_binary import merged
from fernando_telemetry.storage.marks import FlushBatch
from fernando_telemetry.storage.row_groups import RowGroups, Words, group_rows
from fernando_telemetry.storage.rows import RawTable


class FreshRows:
    """The rows of a flush's fresh batches.

    Args:
        batches: The fresh batches: repeats and fenced ones must not count.
    """

    def __init__(self, batches: Sequence[FlushBatch]) -> None:
        self.batches = batches
        self._tables: dict[str, TableRows] = {}

    def of(self, table: RawTable) -> TableRows:
        """Give those of a table with texts: events or spans."""
        if table.name not in self._tables:
            self._tables[table.name] = TableRows(self.batches, table)
        return self._tables[table.name]


class TableRows:
    """Rows of one table: those that came as columns, then those that came as tuples.

    Args:
        batches: The fresh batches.
        table: The table.

    Attributes:
        micros: The rows' times, in Unix microseconds.
    """

    def __init__(self, batches: Sequence[FlushBatch], table: RawTable) -> None:
        self._table = table
        slices = [
            (part, batch.shard)
            for batch in batches
            for part in batch.slices
            if part.block.table is table and len(part)
        ]
        self._parts = [part for part, _, _ in merged(slices)]
        self._tuples = [row for batch in batches for row in batch.rows.rows[table.name]]
        micros = [part.micros for part in self._parts]
        times = [row[table.time_index] for row in self._tuples]
        micros.append(np.array([(time - EPOCH) // MICROSECOND for time in times], np.int64))
        self.micros: Integers = np.concatenate(micros)
        self._columns: dict[str, pa.Array] = {}
        self._words: dict[str, Words] = {}

    def __len__(self) -> int:
        """Give how many there are."""
        return len(self.micros)

    def column(self, name: str) -> pa.Array:
        """Give a column that a client may have set, of text or numbers."""
        if name not in self._columns:
            place = self._table.given.index(name)
            kind = pa.float64() if name == "duration_ms" else pa.string()
            parts = [
                part.block.columns.column(place).slice(part.start, len(part)).cast(kind)
                for part in self._parts
            ]
            if self._tuples:
                parts.append(pa.array([row[place] for row in self._tuples], kind))
            self._columns[name] = pa.concat_arrays(parts)
        return self._columns[name]

    def words(self, name: str) -> Words:
        """Give a column of text as numbers."""
        if name not in self._words:
            self._words[name] = Words.of(self.column(name))
        return self._words[name]

    def groups(self, unit_micros: int, keys: Sequence[str]) -> RowGroups:
        """Group the rows, at least one, by a unit of time and by columns of text."""
        return group_rows([self.words(name) for name in keys], self.micros, unit_micros)
