"""The rows of one table in one flush: of many batches, as tuples and as columns."""

from __future__ import annotations

import secrets
from collections.abc import Iterator, Sequence
from datetime import datetime
from typing import Any, Final

import numpy as np

from fernando_telemetry.domain.calendar import EPOCH
from fernando_telemetry.domain.identifiers import uuid7_run
from fernando_telemetry.domain.rollup_cover import HOUR
from fernando_telemetry.domain.series import SeriesIdentity
from fernando_telemetry.storage import copy_binary
from fernando_telemetry.storage.columns import ColumnSlice, moment
from fernando_telemetry.storage.marks import FlushBatch
from fernando_telemetry.storage.row_groups import HOUR_MICROS
from fernando_telemetry.storage.rows import DISTRIBUTIONS, SAMPLES, SPANS, RawTable, Row

# A run of ids starts low enough that its counter cannot overflow within a flush.
ID_COUNTER_BITS: Final = 61


class RowsOfTable:
    """What a flush stores in one table.

    Args:
        table: The table.
        batches: The flush's fresh batches.
    """

    def __init__(self, table: RawTable, batches: Sequence[FlushBatch]) -> None:
        self._table = table
        self._batches = [batch for batch in batches if batch.rows.rows[table.name]]
        self._slices: list[tuple[ColumnSlice, int]] = [
            (part, batch.shard)
            for batch in batches
            for part in batch.slices
            if part.block.table is table and len(part)
        ]

    def extent(self) -> tuple[int, datetime | None, datetime | None]:
        """Give the number of rows, and the first and last of the times that partition them."""
        place = self._table.time_index
        times = [row[place] for batch in self._batches for row in batch.rows.rows[self._table.name]]
        count = len(times)
        for part, _ in self._slices:
            count += len(part)
            times += [moment(part.micros.min()), moment(part.micros.max())]
        return count, min(times, default=None), max(times, default=None)

    def hours(self) -> list[datetime]:
        """Give the hours of UTC that its rows lie in, in order."""
        place = self._table.time_index
        times = [row[place] for batch in self._batches for row in batch.rows.rows[self._table.name]]
        hours = {(time - EPOCH) // HOUR for time in times}
        for part, _ in self._slices:
            first, last = (
                int(micros) // HOUR_MICROS for micros in (part.micros.min(), part.micros.max())
            )
            if first == last:
                hours.add(first)
            else:
                hours.update(np.unique(part.micros // HOUR_MICROS).tolist())
        return [EPOCH + hour * HOUR for hour in sorted(hours)]

    def moments(self) -> list[datetime]:
        """Give times that lie in every partition a row lies in."""
        place = self._table.time_index
        times = [row[place] for batch in self._batches for row in batch.rows.rows[self._table.name]]
        for part, _ in self._slices:
            times += part.every_moment()
        return times

    def sources(
        self, series: dict[SeriesIdentity, int], flush_id: int, ingested_at: datetime
    ) -> Iterator[list[Row] | Iterator[bytes]]:
        """Give what COPY takes: rows as a list, columns as pieces of binary data.

        Args:
            series: Ids of all series.
            flush_id: The flush.
            ingested_at: Its time.
        """
        counter = secrets.randbits(ID_COUNTER_BITS)
        rows = self._finished(series, flush_id, ingested_at, counter)
        if rows:
            yield rows
        if not self._slices:
            return
        if self._table is SAMPLES:
            yield copy_binary.encode_samples(self._slices, series, flush_id)
        else:
            added = copy_binary.Added(flush_id, ingested_at, len(rows), counter)
            yield copy_binary.encode_rows(self._table, self._slices, added)

    def _finished(
        self,
        series: dict[SeriesIdentity, int],
        flush_id: int,
        ingested_at: datetime,
        counter: int,
    ) -> list[Row]:
        """Give the tuples with the columns that the flush adds."""
        table = self._table
        rows: list[Row] = []
        if table.id_column:
            ids = uuid7_run(int(ingested_at.timestamp() * 1000), counter)
            for batch in self._batches:
                added: tuple[Any, ...] = (ingested_at, batch.shard, flush_id)
                rows += [(next(ids), *row, *added) for row in batch.rows.rows[table.name]]
        elif table is SAMPLES:
            for batch in self._batches:
                shard = batch.shard
                rows += [
                    (series[identity], time, value, shard, flush_id)
                    for identity, time, value in batch.rows.rows[table.name]
                ]
            # One series' samples lie side by side: BRIN over (series_id, time) then finds them.
            rows.sort(key=lambda row: (row[0], row[1]))
        elif table is DISTRIBUTIONS:
            for batch in self._batches:
                for identity, *rest in batch.rows.rows[table.name]:
                    rows.append((series[identity], *rest, len(rows), batch.shard, flush_id))
        else:
            assert table is SPANS
            for batch in self._batches:
                for row in batch.rows.rows[table.name]:
                    rows.append((*row, ingested_at, len(rows), batch.shard, flush_id))
        return rows
