"""Reads lists of raw records, page by page, through a server-side cursor.

A page of records may be anything from a kilobyte to half a gigabyte, so rows come in small slices
and the reader stops when its page is full. Rows are handed out with their place in the order.
"""

from __future__ import annotations

from collections.abc import AsyncIterator
from dataclasses import replace
from operator import itemgetter
from typing import Any, Final, Protocol

from fernando_telemetry.domain.paging import Position
from fernando_telemetry.storage.hot_partitions import stretches
from fernando_telemetry.storage.list_statement import Key, Parameters, Selection, Source, statement
from fernando_telemetry.storage.sessions import Connection
from fernando_telemetry.storage.statements import load

sql = load("lists")

# Records have at most 512 KiB, so a slice at most 16 MiB.
SLICE_ROWS: Final = 32


class Row(Protocol):
    """A row whose columns are read by name, as the SQL of its list names them."""

    def __getitem__(self, column: str, /) -> Any: ...


EVENTS: Final = Source(
    sql.events,
    (Key("event_timestamp", "time"), Key("event_id", "uuid")),
    table="telemetry_events",
)
SPANS: Final = Source(
    sql.spans,
    (
        Key("start_time", "time"),
        Key("trace_id", "text"),
        Key("span_id", "text"),
        Key("flush_id", "int8"),
        Key("ordinal", "int4"),
    ),
    table="traces",
)
# A KPI's place is that of its identity, not of its version: one that is corrected while its list
# is paged stays where it was, and comes once.
CURRENT_BUSINESS_METRICS: Final = Source(
    sql.current_business_metrics,
    (
        Key("period_start", "time", "v.period_start"),
        Key("period_end", "time", "v.period_end"),
        Key("identity_hash", "uuid", "v.identity_hash"),
    ),
    prefix="v.",
)
EVERY_BUSINESS_METRIC: Final = Source(
    sql.every_business_metric,
    (Key("period_start", "time", "v.period_start"), Key("metric_id", "uuid", "v.metric_id")),
    prefix="v.",
)


async def listed(
    connection: Connection, source: Source, selection: Selection, *fixed: object
) -> AsyncIterator[tuple[Position, Row]]:
    """Give the rows of a selection in order, each with its keys.

    Args:
        connection: Inside a transaction, which the cursor needs.
        source: What is read.
        selection: Which rows of it.
        fixed: Values of the base's parameters after the time range.
    """
    left = selection.limit
    for stretch in await stretches(connection, source, selection):
        part = replace(selection, time_range=stretch.time_range, limit=left)
        parameters = Parameters(part.time_range.start, part.time_range.end, *fixed)
        async with stretch.planned(connection):
            async for found in in_order(connection, stretch.source, part, parameters):
                yield found
                left -= 1
        if not left:
            return


async def in_order(
    connection: Connection, source: Source, selection: Selection, parameters: Parameters
) -> AsyncIterator[tuple[Position, Row]]:
    """Give the rows of a selection in order, each with its keys.

    Args:
        connection: Inside a transaction, which the cursor needs.
        source: What is read.
        selection: Which rows of it.
        parameters: Holds the values of the base's parameters.
    """
    keys_of = itemgetter(*(key.name for key in source.keys))
    async for rows in slices(connection, statement(source, selection, parameters), parameters):
        for row in rows:
            yield keys_of(row), row


async def has_more_rows(
    connection: Connection, text: str, parameters: Parameters, row_budget: int
) -> bool:
    """Tell whether a statement has more rows than a budget; one row more is read at most."""
    beyond = parameters.add(row_budget, "bigint")
    found = await connection.fetchrow(f"{text} OFFSET {beyond} LIMIT 1", *parameters.values)
    return found is not None


async def slices(
    connection: Connection, text: str, parameters: Parameters
) -> AsyncIterator[list[Row]]:
    """Give a statement's rows in slices, read only when asked for."""
    cursor = await connection.cursor(text, *parameters.values)
    async for rows in fetched(cursor, SLICE_ROWS):
        yield rows


async def fetched(cursor: Any, count: int) -> AsyncIterator[list[Row]]:
    """Give a cursor's rows, some at a time; a short slice is the last, which saves asking again."""
    while rows := await cursor.fetch(count):
        yield list(rows)
        if len(rows) < count:
            return
