"""Finds traces: by a span that matches, in the order of their earliest spans.

A trace's place is known only when all its spans of the range are, so a search groups them in
PostgreSQL: what it may read is bounded by a count of rows before it begins, and by its time-out.
"""

from __future__ import annotations

from collections.abc import AsyncIterator, Sequence
from datetime import timedelta
from typing import Final

from fernando_telemetry.domain.errors import QueryTooExpensive
from fernando_telemetry.domain.paging import KeyType, Position
from fernando_telemetry.domain.time_range import TimeRange
from fernando_telemetry.domain.trace_summary import TraceSummary
from fernando_telemetry.storage.list_statement import (
    Key,
    Parameters,
    Selection,
    Source,
    compiled,
    filtered,
    order,
    place,
)
from fernando_telemetry.storage.lists import SPANS, has_more_rows
from fernando_telemetry.storage.sessions import Connection
from fernando_telemetry.storage.statements import load

sql = load("trace_search")

_TRACES: Final = Source(
    sql.trace_starts, (Key("start_time", "time", "min(start_time)"), Key("trace_id", "text"))
)
TRACE_KEY_TYPES: Final[tuple[KeyType, ...]] = _TRACES.key_types

# Summaries come in slices of so many traces: a page that is full of bytes reads no more of them.
SLICE_TRACES: Final = 100
_MILLISECOND: Final = timedelta(milliseconds=1)


async def searched_traces(
    connection: Connection, selection: Selection, row_budget: int
) -> AsyncIterator[tuple[Position, TraceSummary]]:
    """Give the traces of a selection in order, each with its place.

    Args:
        connection: Inside a repeatable-read transaction: what is found and what is summed up fit.
        selection: Its filter is on spans; its place and limit are of traces.
        row_budget: Most spans that may match.

    Raises:
        QueryTooExpensive: More match.
    """
    await _check_budget(connection, selection, row_budget)
    text, parameters = _statement(selection)
    found = await connection.fetch(text, *parameters.values)
    for first in range(0, len(found), SLICE_TRACES):
        rows = found[first : first + SLICE_TRACES]
        ids = [row["trace_id"] for row in rows]
        summaries = {
            summary.trace_id: summary
            for summary in await _summarized(connection, ids, selection.time_range)
        }
        for row in rows:
            yield (row["start_time"], row["trace_id"]), summaries[row["trace_id"]]


async def _summarized(
    connection: Connection, trace_ids: Sequence[str], time_range: TimeRange
) -> list[TraceSummary]:
    """Sum up the spans of some traces that start in the range; no item where there are none."""
    rows = await connection.fetch(sql.summaries, time_range.start, time_range.end, list(trace_ids))
    return [
        TraceSummary(
            trace_id=row["trace_id"],
            root_service_name=row["root_service_name"],
            root_operation_name=row["root_operation_name"],
            start_time=row["start_time"],
            duration_ms=(row["end_time"] - row["start_time"]) / _MILLISECOND,
            span_count=row["span_count"],
            error_count=row["error_count"],
            orphan_count=row["orphan_count"],
            spans_by_service=dict(zip(row["service_names"], row["span_counts"], strict=True)),
        )
        for row in rows
    ]


async def _check_budget(connection: Connection, selection: Selection, row_budget: int) -> None:
    parameters = Parameters(selection.time_range.start, selection.time_range.end)
    matching = _matching(selection, parameters)
    if await has_more_rows(connection, matching, parameters, row_budget):
        raise QueryTooExpensive(
            f"More than {row_budget:,} spans match; a shorter time range or a filter finds less."
        )


def _statement(selection: Selection) -> tuple[str, Parameters]:
    parameters = Parameters(selection.time_range.start, selection.time_range.end)
    text = _TRACES.base.rstrip()
    if selection.conditions:
        text += f" AND trace_id IN ({_matching(selection, parameters)})"
    text += "\nGROUP BY trace_id"
    if selection.after is not None:
        conditions = place(_TRACES, selection.after, selection.descending, parameters)
        text += f" HAVING {' AND '.join(conditions)}"
    limit = parameters.add(selection.limit, "bigint")
    ordering = order(_TRACES.keys, descending=selection.descending)
    return f"{text}\n{ordering} LIMIT {limit}", parameters


def _matching(selection: Selection, parameters: Parameters) -> str:
    return filtered(sql.matching_spans, compiled(selection.conditions, SPANS, parameters))
