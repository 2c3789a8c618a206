"""Checked rows as Arrow columns: blocks of many batches, and each batch's slice of them."""

from __future__ import annotations

from collections.abc import Callable, Container, Iterator, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from ipaddress import ip_address
from typing import Any, Final

import numpy as np
import pyarrow as pa

from fernando_telemetry.domain.calendar import EPOCH
from fernando_telemetry.domain.series import SeriesIdentity
from fernando_telemetry.domain.verdicts import RecordKind
from fernando_telemetry.storage.rows import EVENTS, SAMPLES, RawTable, Row

MICROS_PER_SECOND: Final = 1_000_000
INET_HEAD_BYTES: Final = 4

Integers = np.ndarray[Any, np.dtype[np.int64]]


def moment(micros: int) -> datetime:
    """Give Unix microseconds as a time."""
    return EPOCH + timedelta(microseconds=int(micros))


@dataclass(frozen=True)
class ColumnBlock:
    """Checked rows of one table, of all batches of a group, in their order.

    Attributes:
        table: Where they go.
        kind: List of the batch they come from.
        columns: In the order of `table.given`. In samples, series_id is a place in `identities`.
        micros: Unix microseconds of the column that partitions the table.
        indexes: Place of each row's record in its batch's list.
        identities: The series of samples; empty in other tables.
    """

    table: RawTable
    kind: RecordKind
    columns: pa.RecordBatch
    micros: Integers
    indexes: Integers
    identities: Sequence[SeriesIdentity] = ()

    def __len__(self) -> int:
        return len(self.micros)


@dataclass(frozen=True, slots=True)
class ColumnSlice:
    """Rows `start` to `stop` of a block: those of one batch."""

    block: ColumnBlock
    start: int
    stop: int

    def __len__(self) -> int:
        return self.stop - self.start

    @property
    def micros(self) -> Integers:
        """Unix microseconds of the rows."""
        return self.block.micros[self.start : self.stop]

    def identities(self) -> set[SeriesIdentity]:
        """Give the series of the rows."""
        if not self.block.identities:
            return set()
        places = self.block.columns.column(0).to_numpy()[self.start : self.stop]
        return {self.block.identities[place] for place in np.unique(places)}

    def samples_of(self, series: Container[SeriesIdentity]) -> Iterator[tuple[int, SeriesIdentity]]:
        """Give the rows, as places in the block, whose series is one of these."""
        identities = self.block.identities
        wanted = np.array([identity in series for identity in identities], bool)
        if not wanted.any():
            return
        places = self.block.columns.column(0).to_numpy()[self.start : self.stop]
        for row in np.flatnonzero(wanted[places]).tolist():
            yield self.start + row, identities[places[row]]

    def every_moment(self) -> list[datetime]:
        """Give one time for each second that has a row: no partition is shorter."""
        seconds = np.unique(self.micros // MICROS_PER_SECOND)
        return [moment(second * MICROS_PER_SECOND) for second in seconds.tolist()]

    def rows(self) -> list[Row]:
        """Give the rows as tuples, in the form that the record checks give."""
        part = self.block.columns.slice(self.start, len(self))
        columns = [column.to_pylist() for column in part.columns]
        convert = _PLAIN.get(self.block.table.name)
        if convert is not None:
            convert(self.block, columns)
        return list(zip(*columns, strict=True))


def _plain_events(_: ColumnBlock, columns: list[list[Any]]) -> None:
    place = EVENTS.given.index("source_ip")
    columns[place] = [value and ip_address(value[INET_HEAD_BYTES:]) for value in columns[place]]


def _plain_samples(block: ColumnBlock, columns: list[list[Any]]) -> None:
    columns[0] = [block.identities[place] for place in columns[0]]


_PLAIN: Final[dict[str, Callable[[ColumnBlock, list[list[Any]]], None]]] = {
    EVENTS.name: _plain_events,
    SAMPLES.name: _plain_samples,
}
