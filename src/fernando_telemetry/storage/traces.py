"""Reads one trace: the outline its tree is made of, then the whole spans of a page.

A whole span may have half a megabyte, so only those of the page are read whole.
"""

from __future__ import annotations

from collections.abc import AsyncIterator, Sequence
from typing import Any, Final, cast

from fernando_telemetry.domain.errors import QueryTooExpensive
from fernando_telemetry.domain.time_range import TimeRange
from fernando_telemetry.domain.trace_tree import PlacedSpan, TraceSpan
from fernando_telemetry.storage.columns import moment
from fernando_telemetry.storage.hot_partitions import Plan, plan_by
from fernando_telemetry.storage.list_statement import Parameters
from fernando_telemetry.storage.lists import Row, fetched, slices
from fernando_telemetry.storage.sessions import Connection
from fernando_telemetry.storage.statements import load

sql = load("list_trace")

OUTLINE_SLICE: Final = 2_000


async def plan_by_trace(connection: Connection) -> None:
    """Have the statements of this transaction planned for few spans of many."""
    # In a hot partition the planner takes a trace for dear to find, and reads all spans instead.
    await plan_by(connection, Plan.BY_ONE_KEY)


async def outlined_trace(
    connection: Connection, trace_id: str, time_range: TimeRange, span_limit: int
) -> list[TraceSpan]:
    """Give what the tree is made of, of the spans that start in the range, in no order.

    Args:
        connection: Inside a transaction, which the cursor needs.
        trace_id: 32 lower-case hex digits.
        time_range: Of the spans' starts.
        span_limit: Most spans that it may have.

    Raises:
        QueryTooExpensive: It has more.
    """
    await plan_by_trace(connection)
    arguments = (time_range.start, time_range.end, trace_id)
    spans: list[TraceSpan] = []
    # Names are few and come with every span.
    names: dict[str, str] = {}
    async for rows in _outline(connection, arguments, span_limit + 1):
        for row in rows:
            values = dict(cast("Any", row))
            for column in ("service_name", "operation_name", "host_name"):
                values[column] = names.setdefault(values[column], values[column])
            spans.append(TraceSpan(**values))
    if len(spans) > span_limit:
        raise QueryTooExpensive(
            f"The trace has more than {span_limit:,} spans; a shorter time range shows a part of "
            "it, and ListSpans lists them all."
        )
    return spans


async def _outline(
    connection: Connection, arguments: tuple[Any, ...], most_rows: int
) -> AsyncIterator[Sequence[Row]]:
    """Give the outline's rows in slices; one statement gives the few of most traces."""
    first = min(most_rows, OUTLINE_SLICE)
    rows = await connection.fetch(sql.outline, *arguments, first)
    if len(rows) < OUTLINE_SLICE:
        yield rows
        return
    cursor = await connection.cursor(sql.outline, *arguments, most_rows)
    async for some in fetched(cursor, OUTLINE_SLICE):
        yield some


async def placed_rows(
    connection: Connection, trace_id: str, placed: Sequence[PlacedSpan]
) -> AsyncIterator[tuple[PlacedSpan, Row]]:
    """Give spans of a trace with their whole rows, in the order given.

    Args:
        connection: Inside a transaction with `plan_by_trace`.
        trace_id: 32 lower-case hex digits.
        placed: Of the trace; at least one. Those that are gone are left out.
    """
    starts = [one.span.start for one in placed]
    parameters = Parameters(
        moment(min(starts)),
        moment(max(starts)),
        trace_id,
        [one.span.flush_id for one in placed],
        [one.span.ordinal for one in placed],
    )
    async for rows in slices(connection, sql.placed_spans, parameters):
        for row in rows:
            yield placed[row["place"] - 1], row
