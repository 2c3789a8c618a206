"""Checks the batches of a group together: columns where they can be had, record by record else.

Batches are parsed one by one, which is quick and decides what is decodable. Those that parse are
decoded to columns in one go; suspects of the columnar checks are judged from their messages. A
batch that does not parse, and a group of few records, goes through the record checks alone.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from operator import attrgetter
from typing import Any, Final

import numpy as np
import pyarrow as pa

from fernando.telemetry.v1 import TelemetryRecords
from fernando_telemetry.domain import limits
from fernando_telemetry.domain.digests import bytes_digest
from fernando_telemetry.domain.series import SeriesIdentity
from fernando_telemetry.domain.verdicts import RecordKind, Tally
from fernando_telemetry.ingest import columnar
from fernando_telemetry.ingest.checks.context import CheckContext
from fernando_telemetry.ingest.checks.system_metric import column_series, series_identity
from fernando_telemetry.ingest.columnar import twin
from fernando_telemetry.ingest.columnar.content import RepeatedStamp, digest_of_columns
from fernando_telemetry.ingest.columnar.events import check_events
from fernando_telemetry.ingest.columnar.identities import Identities
from fernando_telemetry.ingest.columnar.owners import Owners
from fernando_telemetry.ingest.columnar.samples import check_points, check_system_metrics
from fernando_telemetry.ingest.columnar.spans import check_spans
from fernando_telemetry.ingest.columnar.texts import Integers, Mask, list_lengths
from fernando_telemetry.ingest.decode import (
    Lists,
    check_lists,
    lists_of,
    lists_of_unparsed,
    parsed,
)
from fernando_telemetry.ingest.record_check import (
    SLICE_RECORDS,
    CheckedBatch,
    RecordChecker,
    Refusal,
)
from fernando_telemetry.storage.columns import ColumnBlock, ColumnSlice
from fernando_telemetry.storage.rows import EVENTS, SAMPLES, SPANS, RawTable

# Setting columns up costs about what the record checks take for so many records.
FEWEST_RECORDS: Final = 200
_LIST_NAMES: Final = ("events", "system_metrics", "spans", "metric_columns")
# Rows whose columns are checked in one go.
PART_ROWS: Final = 8_192
# Of samples more, whose series are then looked up less often.
SAMPLE_PART_ROWS: Final = 32_768


@dataclass(frozen=True, slots=True)
class GivenBatch:
    """A batch to be checked.

    Attributes:
        data: Bytes of its TelemetryRecords.
        context: Its view.
        with_digest: It has a mark, which wants the digest of its content.
    """

    data: bytes
    context: CheckContext
    with_digest: bool = False


@dataclass(slots=True)
class _Parsed:
    given: GivenBatch
    records: TelemetryRecords
    checked: CheckedBatch

    @property
    def count(self) -> int:
        """Records that the columnar checks know."""
        records = self.records
        return (
            len(records.events)
            + len(records.system_metrics)
            + len(records.spans)
            + len(records.metric_columns.value)
        )

    def checker(self) -> RecordChecker:
        """Give the record checks of this batch."""
        return RecordChecker(self.checked, self.given.context, len(self.given.data))


@dataclass(frozen=True, slots=True)
class _Columns:
    """What the columnar checks of one kind found."""

    table: RawTable
    kind: RecordKind
    columns: pa.RecordBatch
    micros: Integers
    suspects: Mask
    identities: Sequence[SeriesIdentity] = ()


class GroupChecker:
    """Checks groups of batches.

    Args:
        use_columns: False: the record checks do all.
        fewest_records: Groups of fewer records are left to the record checks; FEWEST_RECORDS by
            default.
    """

    def __init__(self, *, use_columns: bool = True, fewest_records: int | None = None) -> None:
        self._use_columns = use_columns and columnar.is_available()
        self._fewest_records = FEWEST_RECORDS if fewest_records is None else fewest_records
        self._identities = Identities()

    @property
    def uses_columns(self) -> bool:
        """Whether the columnar checks are in use."""
        return self._use_columns

    async def check(
        self, batches: Sequence[GivenBatch], new_tally: Callable[[], Tally] = Tally
    ) -> list[CheckedBatch]:
        """Check the batches of a group; gives what became of each, in order.

        Args:
            batches: The group.
            new_tally: Makes an empty tally; it may note more than an ack tells.
        """
        results: list[CheckedBatch] = []
        waiting: list[_Parsed] = []
        for given in batches:
            try:
                records = parsed(given.data)
                if records is None:
                    lists = await lists_of_unparsed(given.data)
                    results.append(await _check_plain(given, lists, new_tally()))
                    continue
            except Refusal as refused:
                # Not this very exception: its traceback leads to the batch's bytes.
                refusal = Refusal(refused.reason, refused.detail)
                results.append(CheckedBatch(digest=bytes_digest(given.data), refused=refusal))
                continue
            one = _Parsed(given, records, CheckedBatch(tally=new_tally()))
            results.append(one.checked)
            waiting.append(one)
            await asyncio.sleep(0)
        if self._use_columns and sum(one.count for one in waiting) >= self._fewest_records:
            waiting = await self._check_columns(waiting)
        for one in waiting:
            plain = await _check_plain(one.given, lists_of(one.records), one.checked.tally)
            one.checked.rows, one.checked.digest = plain.rows, plain.digest
        return results

    async def _check_columns(self, batches: list[_Parsed]) -> list[_Parsed]:
        """Check batches as columns; gives those that cannot be had as such."""
        batches, left, decoded = _decoded(batches)
        if decoded is None:
            return left
        await _add_digests(batches, decoded)
        contexts = [one.given.context for one in batches]
        there = {name for name in _LIST_NAMES if list_lengths(decoded.column(name)).any()}
        if "events" in there:
            await self._check_events(batches, contexts, decoded.column("events"))
        if "system_metrics" in there:
            await self._check_metrics(batches, contexts, decoded.column("system_metrics"))
        for one in batches:
            checker = one.checker()
            await checker.each(
                "business_metric", one.records.business_metrics, checker.business_metric
            )
        if "spans" in there:
            await self._check_spans(batches, contexts, decoded.column("spans"))
        if "metric_columns" in there:
            await self._check_points(batches, contexts, decoded.column("metric_columns"))
        return left

    async def _check_events(
        self, batches: list[_Parsed], contexts: list[CheckContext], lists: Any
    ) -> None:
        def judge(one: _Parsed, checker: RecordChecker, index: int) -> None:
            checker.judge("event", index, one.records.events[index], checker.event)

        owners = Owners(contexts, list_lengths(lists))
        large = _large(batches, owners, "events")
        for rows, part in _parts(lists.flatten(), owners):
            columns, micros, suspects = check_events(rows, part.owners)
            suspects |= large[part.start : part.stop]
            found = _Columns(EVENTS, "event", columns, micros, suspects)
            await _share_out(batches, owners, part, found, judge)

    async def _check_metrics(
        self, batches: list[_Parsed], contexts: list[CheckContext], lists: Any
    ) -> None:
        def judge(one: _Parsed, checker: RecordChecker, index: int) -> None:
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

    async def _check_spans(
        self, batches: list[_Parsed], contexts: list[CheckContext], lists: Any
    ) -> None:
        def judge(one: _Parsed, checker: RecordChecker, index: int) -> None:
            checker.judge("span", index, one.records.spans[index], checker.span)

        owners = Owners(contexts, list_lengths(lists))
        large = _large(batches, owners, "spans")
        for rows, part in _parts(lists.flatten(), owners):
            columns, micros, suspects = check_spans(rows, part.owners)
            suspects |= large[part.start : part.stop]
            found = _Columns(SPANS, "span", columns, micros, suspects)
            await _share_out(batches, owners, part, found, judge)

    async def _check_points(
        self, batches: list[_Parsed], contexts: list[CheckContext], lists: Any
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

        def judge(one: _Parsed, checker: RecordChecker, index: int) -> None:
            given = one.records.metric_columns
            if id(one) not in series:
                series[id(one)] = checker.sample_of(column_series(given.series, one.given.context))
            sample = (given.series_index[index], given.time_unix_micros[index], given.value[index])
            checker.judge("metric_columns", index, sample, series[id(one)])

        whole = _Part(0, len(suspects), owners)
        await _share_out(chosen, owners, whole, found, judge)


async def _check_plain(given: GivenBatch, lists: Lists, tally: Tally) -> CheckedBatch:
    checked = await check_lists(lists, given.context, len(given.data), tally)
    if given.with_digest:
        checked.digest = await lists.digest(given.data)
    return checked


async def _add_digests(batches: list[_Parsed], decoded: pa.RecordBatch) -> None:
    for place, one in enumerate(batches):
        await asyncio.sleep(0)
        if not one.given.with_digest:
            continue
        data = one.given.data
        try:
            one.checked.digest = digest_of_columns(data, one.records, decoded.slice(place, 1))
        except RepeatedStamp:
            one.checked.digest = await lists_of(one.records).digest(data)


def _decoded(
    batches: list[_Parsed],
) -> tuple[list[_Parsed], list[_Parsed], pa.RecordBatch | None]:
    """Decode to columns; gives batches decoded, batches left, and the columns."""
    left: list[_Parsed] = []
    for attempt in ("all", "each"):
        try:
            found = twin.decode([one.given.data for one in batches])
        except twin.NotColumns:
            if attempt == "each" or len(batches) == 1:
                return [], [*left, *batches], None
            left += [one for one in batches if not _is_decodable(one)]
            batches = [one for one in batches if _is_decodable(one)]
            if not batches:
                return [], left, None
        else:
            unequal = _unequal(batches, found)
            if not unequal:
                return batches, left, found
            left += [one for one in batches if id(one) in unequal]
            batches = [one for one in batches if id(one) not in unequal]
            if not batches:
                return [], left, None
    return [], [*left, *batches], None


def _is_decodable(one: _Parsed) -> bool:
    try:
        twin.decode([one.given.data])
    except twin.NotColumns:
        return False
    return True


def _unequal(batches: list[_Parsed], found: pa.RecordBatch) -> set[int]:
    """Find batches whose columns do not have the lengths of their messages.

    A list of columns that comes twice is one of them: protobuf merges the two. So is a map with a
    key that comes twice, or with an entry that has unknown fields, which protobuf leaves out.
    """
    bad: set[int] = set()
    for name, map_name in (("events", ""), ("system_metrics", "labels"), ("spans", "tags")):
        lists = found.column(name)
        lengths = list_lengths(lists).tolist()
        for one, length in zip(batches, lengths, strict=True):
            if length != len(getattr(one.records, name)):
                bad.add(id(one))
        if map_name and any(lengths):
            messages = [getattr(one.records, name) for one in batches]
            bad |= _odd_maps(batches, messages, lengths, lists.flatten().field(map_name), map_name)
    lengths = list_lengths(found.column("metric_columns")).tolist()
    if not any(lengths):
        return bad | {id(one) for one in batches if len(one.records.metric_columns.value)}
    flat = found.column("metric_columns").flatten()
    counts = zip(*(list_lengths(flat.field(name)).tolist() for name in _COLUMN_NAMES), strict=True)
    for one, length in zip(batches, lengths, strict=True):
        columns = one.records.metric_columns
        given = [next(counts) for _ in range(length)]
        if length > 1 or (
            length == 1 and given[0] != tuple(len(getattr(columns, name)) for name in _COLUMN_NAMES)
        ):
            bad.add(id(one))
    if not bad and len(flat):
        series = flat.field("series")
        chosen = [one for one, length in zip(batches, lengths, strict=True) if length]
        bad |= _odd_maps(
            chosen,
            [one.records.metric_columns.series for one in chosen],
            list_lengths(series).tolist(),
            series.flatten().field("labels"),
            "labels",
        )
    return bad


def _odd_maps(
    batches: list[_Parsed], messages: list[Any], lengths: list[int], maps: Any, name: str
) -> set[int]:
    """Find batches whose messages have fewer map entries than their columns."""
    entries = np.concatenate(([0], np.cumsum(list_lengths(maps))))
    stops = np.cumsum(lengths)
    get = attrgetter(name)
    bad: set[int] = set()
    for one, records, length, stop in zip(batches, messages, lengths, stops, strict=True):
        if length and entries[stop] - entries[stop - length] != sum(map(len, map(get, records))):
            bad.add(id(one))
    return bad


_COLUMN_NAMES: Final = ("series", "series_index", "time_unix_micros", "value")


def _large(batches: list[_Parsed], owners: Owners, name: str) -> Mask:
    """Find records whose bytes may be too many; only a batch that large can have one."""
    large = np.zeros(int(owners.starts[-1]), bool)
    for place, one in enumerate(batches):
        if len(one.given.data) > limits.RECORD_BYTES and owners.lengths[place]:
            start = int(owners.starts[place])
            sizes = twin.record_sizes(one.given.data, name)
            large[start : start + len(sizes)] = sizes > limits.RECORD_BYTES
    return large


@dataclass(frozen=True, slots=True)
class _Part:
    """Rows `start` to `stop` of all, and their owners."""

    start: int
    stop: int
    owners: Owners


def _parts(rows: Any, owners: Owners, most: int | None = None) -> Iterator[tuple[Any, _Part]]:
    """Cut rows into parts: the checks of each hold the event loop."""
    most = most or PART_ROWS
    for start in range(0, len(rows), most):
        stop = min(start + most, len(rows))
        yield rows.slice(start, stop - start), _Part(start, stop, owners.part(start, stop))


async def _share_out(
    batches: list[_Parsed],
    owners: Owners,
    part: _Part,
    found: _Columns,
    judge: Callable[[_Parsed, RecordChecker, int], None],
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
