"""Finds traces: by a span that matches, in the order of their earliest spans.

A trace's place is known only when its earliest span of the range is. The newest traces are found
soon all the same: going back in time over the spans that match, every trace that starts behind
the place reached has been met. Where that takes too many spans, and for the oldest traces, a
search groups all spans in PostgreSQL: what it may read is bounded by a count of rows before it
begins, and by its time-out.
"""

from __future__ import annotations

from collections.abc import AsyncGenerator, AsyncIterator, Sequence
from contextlib import aclosing
from dataclasses import replace
from datetime import timedelta
from typing import Final

from fernando_telemetry.domain.errors import QueryTooExpensive
from fernando_telemetry.domain.paging import KeyType, Position
from fernando_telemetry.domain.time_range import TimeRange
from fernando_telemetry.domain.trace_summary import TraceSummary
from fernando_telemetry.storage.hot_partitions import Plan, plan_by
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
from fernando_telemetry.storage.lists import SPANS, has_more_rows, listed
from fernando_telemetry.storage.sessions import Connection
from fernando_telemetry.storage.statements import load

sql = load("trace_search")

_TRACES: Final = Source(
    sql.trace_starts, (Key("start_time", "time", "min(start_time)"), Key("trace_id", "text"))
)
_SPAN_PLACES: Final = replace(SPANS, base=sql.span_places)
TRACE_KEY_TYPES: Final[tuple[KeyType, ...]] = _TRACES.key_types

# Summaries come in slices of so many traces: a page that is full of bytes reads no more of them.
SLICE_TRACES: Final = 100
# Steps back over matching spans: for each trace wanted so many at first, then ever more.
SPANS_A_TRACE: Final = 4
STEP_GROWTH: Final = 4
MOST_SPANS_WALKED: Final = 20_000
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
    found: list[Position] = []
    async with aclosing(_in_order(connection, selection, row_budget)) as places:
        async for position in places:
            found.append(position)
            if len(found) == SLICE_TRACES:
                async for one in _with_summaries(connection, selection.time_range, found):
                    yield one
                found = []
    async for one in _with_summaries(connection, selection.time_range, found):
        yield one


async def _with_summaries(
    connection: Connection, time_range: TimeRange, places: Sequence[Position]
) -> AsyncIterator[tuple[Position, TraceSummary]]:
    await plan_by(connection, Plan.BY_ONE_KEY)
    ids = [trace_id for _, trace_id in places]
    summaries = {one.trace_id: one for one in await _summarized(connection, ids, time_range)}
    for position in places:
        yield position, summaries[position[1]]


async def _in_order(
    connection: Connection, selection: Selection, row_budget: int
) -> AsyncGenerator[Position, None]:
    """Give the places of traces, (start of the earliest span, trace_id), in order."""
    if selection.descending:
        walk = _NewestTraces(connection, selection)
        async for position in walk.places():
            yield position
        if walk.is_complete:
            return
        selection = walk.rest()
    await plan_by(connection, Plan.PLANNERS)
    await _check_budget(connection, selection, row_budget)
    text, parameters = _statement(selection)
    for row in await connection.fetch(text, *parameters.values):
        yield row["start_time"], row["trace_id"]


class _NewestTraces:
    """Goes back in time over the spans that match, and gives the traces it has passed.

    Args:
        connection: Inside a repeatable-read transaction.
        selection: Of the search, newest first.
    """

    def __init__(self, connection: Connection, selection: Selection) -> None:
        self._connection = connection
        self._selection = selection
        self._left = selection.limit
        self._last = selection.after
        self._met: set[str] = set()
        self.is_complete = False

    def rest(self) -> Selection:
        """Give the selection of the traces that are left."""
        return replace(self._selection, after=self._last, limit=self._left)

    async def places(self) -> AsyncIterator[Position]:
        """Give places until the page is full, all is read, or it has taken too many spans."""
        waiting: list[Position] = []
        after: Position | None = None
        step, read = SPANS_A_TRACE * self._selection.limit, 0
        while read < MOST_SPANS_WALKED:
            spans = replace(self._selection, after=after, limit=step)
            rows = [row async for row in listed(self._connection, _SPAN_PLACES, spans)]
            waiting += await self._starts({row["trace_id"] for _, row in rows} - self._met)
            waiting.sort(reverse=True)
            ended = len(rows) < step
            # A trace that starts here might be met by its other spans of this very moment.
            while waiting and (ended or waiting[0][0] > rows[-1][0][0]):
                position = waiting.pop(0)
                if self._last is not None and position >= self._last:
                    continue  # of a page before
                self._last = position
                yield position
                self._left -= 1
                if not self._left:
                    self.is_complete = True
                    return
            if ended:
                self.is_complete = True
                return
            after, read, step = rows[-1][0], read + len(rows), step * STEP_GROWTH

    async def _starts(self, trace_ids: set[str]) -> list[Position]:
        """Give the places of traces that are met for the first time."""
        self._met |= trace_ids
        await plan_by(self._connection, Plan.BY_ONE_KEY)
        whole = self._selection.time_range
        rows = await self._connection.fetch(
            sql.earliest_starts, whole.start, whole.end, list(trace_ids)
        )
        return [(row["start_time"], row["trace_id"]) for row in rows]


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
