"""Puts the statements of exports together: by time, by flush, and a count of what is there."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Final

from fernando_telemetry.domain.calendar import MICROSECOND
from fernando_telemetry.domain.cursor import Cursor
from fernando_telemetry.domain.export_place import Last
from fernando_telemetry.domain.filters import Filter
from fernando_telemetry.domain.flush_ids import flush_id_of
from fernando_telemetry.domain.paging import KeyType
from fernando_telemetry.domain.time_range import TimeRange
from fernando_telemetry.storage.committed import CommittedFlush
from fernando_telemetry.storage.export_kinds import Exported
from fernando_telemetry.storage.flush_partitions import FlushPartitions
from fernando_telemetry.storage.list_statement import (
    Key,
    Parameters,
    Source,
    compiled,
    filtered,
    order,
    place,
)
from fernando_telemetry.storage.rows import RawTable

_UNION: Final = "\nUNION ALL\n"


def range_statement(
    exported: Exported,
    conditions: Filter,
    part: TimeRange,
    time_range: TimeRange,
    cursor: Cursor,
    last: Last | None,
) -> tuple[str, Parameters]:
    """Put together what reads records by time.

    Args:
        exported: The kind.
        conditions: The filter.
        part: The part of it to read, on the column that partitions the tables.
        time_range: On the time of the records.
        cursor: Only what it has consumed.
        last: Only what comes behind; None: all of the part.
    """
    parameters = Parameters(part.start, part.end)
    of_time = []
    if exported.time_column != exported.range_keys[0][0]:
        of_time = [
            f"{exported.time_column} >= {parameters.add(time_range.start, 'timestamptz')}",
            f"{exported.time_column} < {parameters.add(time_range.end, 'timestamptz')}",
        ]
    branches = []
    for source in exported.sources:
        listed = source.in_order(exported.range_keys, inclusive=exported.has_equals)
        flush_id = listed.expression("flush_id")
        branches.append(
            filtered(
                listed.base,
                [
                    *of_time,
                    *_consumed(flush_id, cursor, parameters),
                    *compiled(conditions, listed, parameters),
                    *_behind(listed, last, parameters),
                ],
            )
        )
    return _ordered(branches, exported.range_keys), parameters


def flush_statement(
    exported: Exported,
    conditions: Filter,
    partitions: FlushPartitions,
    flushes: Sequence[CommittedFlush],
    last: Last | None,
) -> tuple[str, Parameters] | None:
    """Put together what reads the records of some flushes; None where there is nothing to read.

    Args:
        exported: The kind.
        conditions: The filter.
        partitions: Those of its tables.
        flushes: The flushes.
        last: Only what comes behind; None: all.
    """
    parameters = Parameters()
    leading, branches = _of_flushes(exported, conditions, partitions, flushes, last, parameters)
    return (leading + _ordered(branches, exported.flush_keys), parameters) if branches else None


def count_statement(
    exported: Exported, partitions: FlushPartitions, flushes: Sequence[CommittedFlush]
) -> tuple[str, Parameters] | None:
    """Put together what counts the records of some flushes by flush; None: nothing to read.

    Its rows are (flush_id, count), of flushes that have records still.
    """
    parameters = Parameters()
    leading, branches = _of_flushes(exported, (), partitions, flushes, None, parameters)
    if not branches:
        return None
    records = _UNION.join(branches)
    counted = f"SELECT flush_id, count(*) FROM ({records}) AS records GROUP BY flush_id"  # noqa: S608
    return leading + counted, parameters


def _of_flushes(
    exported: Exported,
    conditions: Filter,
    partitions: FlushPartitions,
    flushes: Sequence[CommittedFlush],
    last: Last | None,
    parameters: Parameters,
) -> tuple[str, list[str]]:
    """Give what leads to them, and what reads them from each table that has any."""
    spans = {
        source.table.name: span
        for source in exported.sources
        if (span := _span(source.table, flushes)) is not None
    }
    having = [source for source in exported.sources if source.table.name in spans]
    leading = partitions.leading([source.table for source in having], flushes, parameters)
    if leading is None:
        return "", []
    flush_ids = parameters.add([flush.flush_id for flush in flushes], "bigint[]")
    branches = []
    for source in having:
        listed = source.in_order(exported.flush_keys, inclusive=exported.has_equals)
        branches.append(
            filtered(
                _bounded(listed.base, spans[source.table.name], parameters),
                [
                    f"{listed.expression('flush_id')} = ANY ({flush_ids})",
                    *compiled(conditions, listed, parameters),
                    *_behind(listed, last, parameters),
                ],
            )
        )
    return leading, branches


def _span(table: RawTable, flushes: Iterable[CommittedFlush]) -> TimeRange | None:
    """Give where rows of flushes lie in a table; None: they have none."""
    extents = [flush.extents[table.name] for flush in flushes]
    start = min((one.min_time for one in extents if one.min_time is not None), default=None)
    last = max((one.max_time for one in extents if one.max_time is not None), default=None)
    return None if start is None or last is None else TimeRange(start, last + MICROSECOND)


def _bounded(base: str, span: TimeRange, parameters: Parameters) -> str:
    """Give a base whose time range has parameters of its own: that of each table is another."""
    start = parameters.add(span.start, "timestamptz")
    end = parameters.add(span.end, "timestamptz")
    return base.replace("$1", start).replace("< $2", f"< {end}")


def _consumed(flush_id: str, cursor: Cursor, parameters: Parameters) -> list[str]:
    """Leave out what a cursor has not consumed: new lanes, and what is new of lanes it is in."""
    top = parameters.add(flush_id_of(cursor.known_lane + 1, 0), "bigint")
    conditions = [f"{flush_id} < {top}"]
    for lane, number in cursor.positions.items():
        behind = parameters.add(flush_id_of(lane, number), "bigint")
        next_lane = parameters.add(flush_id_of(lane + 1, 0), "bigint")
        conditions.append(f"({flush_id} <= {behind} OR {flush_id} >= {next_lane})")
    return conditions


def _behind(source: Source, last: Last | None, parameters: Parameters) -> list[str]:
    return [] if last is None else place(source, last.keys, False, parameters)


def _ordered(branches: list[str], keys: Iterable[tuple[str, KeyType]]) -> str:
    """Join the branches, in one order."""
    ordered = order([Key(name, kind) for name, kind in keys], descending=False)
    return "\n".join([_UNION.join(branches), ordered])
