"""Checks the columns of a group, shares rows out, and has suspects judged from their messages."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any, Final, Literal

import numpy as np
import pyarrow as pa

from fernando_telemetry.domain import limits
from fernando_telemetry.domain.series import SeriesIdentity
from fernando_telemetry.domain.verdicts import RecordKind
from fernando_telemetry.ingest.checks.context import CheckContext
from fernando_telemetry.ingest.checks.system_metric import column_series, series_identity
from fernando_telemetry.ingest.columnar import twin
from fernando_telemetry.ingest.columnar.content import RepeatedStamp, digest_of_columns
from fernando_telemetry.ingest.columnar.decoding import ParsedBatch, decoded
from fernando_telemetry.ingest.columnar.events import check_events
from fernando_telemetry.ingest.columnar.identities import Identities
from fernando_telemetry.ingest.columnar.owners import Owners
from fernando_telemetry.ingest.columnar.samples import check_points, check_system_metrics
from fernando_telemetry.ingest.columnar.spans import check_spans
from fernando_telemetry.ingest.columnar.texts import Integers, Mask, list_lengths
from fernando_telemetry.ingest.decode import lists_of
from fernando_telemetry.ingest.record_check import SLICE_RECORDS, RecordChecker
from fernando_telemetry.storage.columns import ColumnBlock, ColumnSlice
from fernando_telemetry.storage.rows import EVENTS, SAMPLES, SPANS, RawTable

_LIST_NAMES: Final = ("events", "system_metrics", "spans", "metric_columns")
# What a record may grow by when protobuf encodes it anew, as the record checks measure it: map
# entries that came without their value.
ENCODING_SLACK_BYTES: Final = 1_024
# Rows whose columns are checked in one go.
PART_ROWS: Final = 4_096
# Of samples more, whose series are then looked up less often.
SAMPLE_PART_ROWS: Final = 32_768


@dataclass(frozen=True, slots=True)
class _Columns:
    """What the columnar checks of one kind found."""

    table: RawTable
    kind: RecordKind
    columns: pa.RecordBatch
    micros: Integers
    suspects: Mask
    identities: Sequence[SeriesIdentity] = ()


@dataclass(frozen=True, slots=True)
class _Texts:
    """A kind of records whose table has texts: its list, and how its columns are checked."""

    name: str
    kind: Literal["event", "span"]
    table: RawTable
    check: Callable[[Any, Owners], tuple[pa.RecordBatch, Integers, Mask]]


_EVENTS: Final = _Texts("events", "event", EVENTS, check_events)
_SPANS: Final = _Texts("spans", "span", SPANS, check_spans)


class ColumnarChecker:
    """Checks groups of batches as columns; keeps the series it has met."""

    def __init__(self) -> None:
        self._identities = Identities()

    async def check(self, batches: list[ParsedBatch]) -> list[ParsedBatch]:
        """Check batches as columns; gives those that cannot be had as such."""
        batches, left, columns = decoded(batches)
        if columns is None:
            return left
        await _add_digests(batches, columns)
        contexts = [one.given.context for one in batches]
        there = {name for name in _LIST_NAMES if list_lengths(columns.column(name)).any()}
        if "events" in there:
            await self._check_texts(batches, contexts, _EVENTS, columns.column("events"))
        if "system_metrics" in there:
            await self._check_metrics(batches, contexts, columns.column("system_metrics"))
        for one in batches:
            checker = one.checker()
            await checker.each(
                "business_metric", one.records.business_metrics, checker.business_metric
            )
        if "spans" in there:
            await self._check_texts(batches, contexts, _SPANS, columns.column("spans"))
        if "metric_columns" in there:
            await self._check_points(batches, contexts, columns.column("metric_columns"))
        return left

    async def _check_texts(
        self, batches: list[ParsedBatch], contexts: list[CheckContext], of: _Texts, lists: Any
    ) -> None:
        """Check the records of a table with texts: events or spans."""

        def judge(one: ParsedBatch, checker: RecordChecker, index: int) -> None:
            message = getattr(one.records, of.name)[index]
            checker.judge(of.kind, index, message, getattr(checker, of.kind))

        owners = Owners(contexts, list_lengths(lists))
        large = _large(batches, owners, of.name)
        for rows, part in _parts(lists.flatten(), owners):
            columns, micros, suspects = of.check(rows, part.owners)
            suspects |= large[part.start : part.stop]
            found = _Columns(of.table, of.kind, columns, micros, suspects)
            await _share_out(batches, owners, part, found, judge)

    async def _check_metrics(
        self, batches: list[ParsedBatch], contexts: list[CheckContext], lists: Any
    ) -> None:
        def judge(one: ParsedBatch, checker: RecordChecker, index: int) -> None:
            checker.judge(
                "system_metric", index, one.records.system_metrics[index], checker.system_metric
            )

        owners = Owners(contexts, list_lengths(lists))
        large = _large(batches, owners, "system_metrics")
        for rows, part in _parts(lists.flatten(), owners, SAMPLE_PART_ROWS):
            start = part.start

            def look(row: int, start: int = start) -> SeriesIdentity:
                batch = int(owners.batches[start + row])
                index = start + row - int(owners.starts[batch])
                return series_identity(
                    batches[batch].records.system_metrics[index], contexts[batch]
                )

            columns, micros, suspects, identities = check_system_metrics(
                rows, part.owners, self._identities, look
            )
            suspects |= large[part.start : part.stop]
            found = _Columns(SAMPLES, "system_metric", columns, micros, suspects, identities)
            await _share_out(batches, owners, part, found, judge)

    async def _check_points(
        self, batches: list[ParsedBatch], contexts: list[CheckContext], lists: Any
    ) -> None:
        # Batches with none have no row in the flat column.
        places = np.flatnonzero(list_lengths(lists))
        chosen = [batches[place] for place in places]
        chosen_contexts = [contexts[place] for place in places]
        flat = lists.flatten()
        owners = Owners(chosen_contexts, list_lengths(flat.field("value")))
        starts = np.cumsum(list_lengths(flat.field("series"))).tolist()

        def look(row: int) -> SeriesIdentity:
            batch = int(np.searchsorted(starts, row, side="right"))
            before = starts[batch - 1] if batch else 0
            message = chosen[batch].records.metric_columns.series[row - before]
            return series_identity(message, chosen_contexts[batch])

        columns, micros, suspects, identities = check_points(flat, owners, self._identities, look)
        found = _Columns(SAMPLES, "metric_columns", columns, micros, suspects, identities)
        series: dict[int, Any] = {}

        def judge(one: ParsedBatch, checker: RecordChecker, index: int) -> None:
            given = one.records.metric_columns
            if id(one) not in series:
                series[id(one)] = checker.sample_of(column_series(given.series, one.given.context))
            sample = (given.series_index[index], given.time_unix_micros[index], given.value[index])
            checker.judge("metric_columns", index, sample, series[id(one)])

        whole = _Part(0, len(suspects), owners)
        await _share_out(chosen, owners, whole, found, judge)


async def _add_digests(batches: list[ParsedBatch], columns: pa.RecordBatch) -> None:
    for place, one in enumerate(batches):
        await asyncio.sleep(0)
        if not one.given.with_digest:
            continue
        data = one.given.data
        try:
            one.checked.digest = await digest_of_columns(data, one.records, columns.slice(place, 1))
        except RepeatedStamp:
            one.checked.digest = await lists_of(one.records).digest(data)


def _large(batches: list[ParsedBatch], owners: Owners, name: str) -> Mask:
    """Find records whose bytes may be too many; only a batch that large can have one."""
    large = np.zeros(int(owners.starts[-1]), bool)
    for place, one in enumerate(batches):
        if len(one.given.data) > limits.RECORD_BYTES and owners.lengths[place]:
            start = int(owners.starts[place])
            sizes = twin.record_sizes(one.given.data, name)
            large[start : start + len(sizes)] = sizes > limits.RECORD_BYTES - ENCODING_SLACK_BYTES
    return large


@dataclass(frozen=True, slots=True)
class _Part:
    """Rows `start` to `stop` of all, and their owners."""

    start: int
    stop: int
    owners: Owners


def _parts(rows: Any, owners: Owners, most: int = PART_ROWS) -> Iterator[tuple[Any, _Part]]:
    """Cut rows into parts: the checks of each hold the event loop."""
    for start in range(0, len(rows), most):
        stop = min(start + most, len(rows))
        yield rows.slice(start, stop - start), _Part(start, stop, owners.part(start, stop))


async def _share_out(
    batches: list[ParsedBatch],
    owners: Owners,
    part: _Part,
    found: _Columns,
    judge: Callable[[ParsedBatch, RecordChecker, int], None],
) -> None:
    """Give each batch its slice of a part, and have its suspects judged by the record checks."""
    await asyncio.sleep(0)
    suspects, columns, micros = found.suspects, found.columns, found.micros
    lengths = part.owners.lengths
    of_rows = part.owners.batches
    indexes = np.arange(part.start, part.stop) - owners.starts[of_rows]
    if suspects.any():
        good = np.flatnonzero(~suspects)
        columns = columns.take(pa.array(good))
        micros = micros[good]
        lengths = np.bincount(of_rows[good], minlength=len(batches))
        block_indexes = indexes[good]
    else:
        block_indexes = indexes
    block = ColumnBlock(found.table, found.kind, columns, micros, block_indexes, found.identities)
    start = 0
    for one, length in zip(batches, lengths.tolist(), strict=True):
        if length:
            one.checked.slices.append(ColumnSlice(block, start, start + length))
            one.checked.tally.accepted += length
        start += length
    for done, row in enumerate(np.flatnonzero(suspects).tolist()):
        one = batches[int(of_rows[row])]
        judge(one, one.checker(), int(indexes[row]))
        if done % SLICE_RECORDS == SLICE_RECORDS - 1:
            await asyncio.sleep(0)
