"""Draws the graph of services: from chunks that are worked out, and from raw spans between them.

A parent may have been stored by any flush, so a chunk counts only where all spans that decide its
calls are in it (storage/service_edges.py); what is left of the range is read from raw spans, in
the same snapshot. What is read raw is bounded by a count of rows before, what is given by a count
of services and edges.
"""

from __future__ import annotations

import asyncio
import math
from collections.abc import Sequence
from datetime import datetime
from typing import Any, Final

import numpy as np

from fernando_telemetry.domain.edge_chunks import (
    EARLIEST,
    LATEST,
    chunks_touched,
    gaps_between,
    range_of_callers,
    range_of_chunks,
)
from fernando_telemetry.domain.errors import QueryTooExpensive
from fernando_telemetry.domain.log_histogram import ZERO_BUCKET, middle_of
from fernando_telemetry.domain.service_graph import ServiceEdge, ServiceGraph, ServiceNode
from fernando_telemetry.domain.time_range import TimeRange
from fernando_telemetry.storage.list_statement import Parameters
from fernando_telemetry.storage.lists import has_more_rows
from fernando_telemetry.storage.sent_arrays import Numbers, unnested
from fernando_telemetry.storage.sessions import Connection
from fernando_telemetry.storage.statements import load

sql = load("service_graph")

Row = Any
# What a service's own spans have in place of a client.
NO_CLIENT: Final = ""
# More than a bucket's number has values.
BUCKETS: Final = 1 << 16
# A day: what is held at once, whatever the range.
CHUNKS_A_STEP: Final = 144


async def service_graph(
    connection: Connection,
    time_range: TimeRange,
    license_id: str,
    *,
    uses_chunks: bool,
    row_budget: int,
    most_parts: int,
) -> ServiceGraph:
    """Count services and the calls between them, of the spans that start in a range.

    Args:
        connection: Inside a repeatable-read transaction: what is counted and what is read fit.
        time_range: Of the called spans' starts.
        license_id: Only its spans; "": all.
        uses_chunks: False: read raw spans alone.
        row_budget: Most raw spans that may be read.
        most_parts: Most services and edges that it may have.

    Raises:
        QueryTooExpensive: There are more of either.
    """
    # Callers are looked for around it, which the calendar must have; nothing is stored at its ends.
    start, end = max(time_range.start, EARLIEST), min(time_range.end, LATEST)
    if start >= end:
        return ServiceGraph((), ())
    time_range = TimeRange(start, end)
    chunks = await usable_chunks(connection, time_range) if uses_chunks else []
    gaps = gaps_between(time_range, chunks)
    await _check_budget(connection, gaps, license_id, row_budget)
    parts = _Parts(most_parts)
    for first in range(0, len(chunks), CHUNKS_A_STEP):
        step = chunks[first : first + CHUNKS_A_STEP]
        rows = await connection.fetch(sql.rolled, step, license_id, most_parts + 1)
        # Takes a while where there are many edges; other calls go on meanwhile.
        await asyncio.to_thread(parts.add, rows)
    await connection.fetch(sql.join_by_hash)
    for gap in gaps:
        rows = await connection.fetch(sql.raw, gap.start, gap.end, license_id, most_parts + 1)
        parts.add(rows)
    return parts.graph()


async def usable_chunks(connection: Connection, time_range: TimeRange) -> list[datetime]:
    """List the chunks of a range whose calls are those of the raw spans, in order.

    They are listed as worked out, and no span is stored that touches them and is not folded: the
    fold takes a chunk from the list in the statement that deletes the delta.
    """
    found = await connection.fetch(sql.computed_chunks, time_range.start, time_range.end)
    chunks: list[datetime] = [row["chunk_start"] for row in found]
    if not chunks:
        return []
    near = range_of_callers(range_of_chunks(chunks))
    unfolded = await connection.fetch(sql.unfolded_minutes, near.start, near.end)
    touched = chunks_touched(row["minute"] for row in unfolded)
    return [chunk for chunk in chunks if chunk not in touched]


async def _check_budget(
    connection: Connection, gaps: Sequence[TimeRange], license_id: str, row_budget: int
) -> None:
    read = [range_of_callers(gap) for gap in gaps]
    parameters = Parameters([one.start for one in read], [one.end for one in read], license_id)
    if await has_more_rows(connection, sql.spans_read.strip(), parameters, row_budget):
        raise QueryTooExpensive(
            f"More than {row_budget:,} spans would be read, those of the minutes around the time "
            "range included; a shorter one, or a licence, has fewer."
        )


class _Parts:
    """Services and edges, as they are put together.

    Args:
        most: How many there may be.
    """

    def __init__(self, most: int) -> None:
        self._most = most
        # By client and server: its number, and calls and errors by that.
        self._numbers: dict[tuple[str, str], int] = {}
        self._calls: list[int] = []
        self._errors: list[int] = []
        # Of all histograms: a number with a bucket, in order, and how many lie in it.
        self._places = np.empty(0, np.int64)
        self._amounts = np.empty(0, np.int64)

    def add(self, rows: Sequence[Row]) -> None:
        """Add what was read.

        Raises:
            QueryTooExpensive: It has become too much.
        """
        numbers = np.array([self._counted(row) for row in rows], np.int64)
        if len(self._numbers) > self._most:
            raise QueryTooExpensive(
                f"The graph has more than {self._most:,} services and edges; a shorter time range, "
                "or a licence, has fewer."
            )
        sizes, buckets, counts = (
            [row[name] for row in rows] for name in ("sizes", "buckets", "counts")
        )
        of_pairs = np.repeat(numbers, [len(one) // 4 for one in sizes])
        pairs, values, amounts = unnested(b"".join(sizes), b"".join(buckets), b"".join(counts))
        if not len(pairs):
            return
        places = of_pairs[pairs] * BUCKETS + values - ZERO_BUCKET
        places = np.concatenate([self._places, places])
        # Many runs that are in order: what a stable sort makes use of.
        order = np.argsort(places, kind="stable")
        places = places[order]
        first = np.flatnonzero(np.diff(places, prepend=-1))
        self._places = places[first]
        self._amounts = np.add.reduceat(np.concatenate([self._amounts, amounts])[order], first)

    def _counted(self, row: Row) -> int:
        key = (row["client_service_name"], row["server_service_name"])
        number = self._numbers.setdefault(key, len(self._numbers))
        if number == len(self._calls):
            self._calls.append(0)
            self._errors.append(0)
        self._calls[number] += row["call_count"]
        self._errors[number] += row["error_count"]
        return number

    def graph(self) -> ServiceGraph:
        """Give the graph, services by name and edges by both names."""
        through = np.cumsum(self._amounts)
        ordered = [
            (client, server, self._figures(number, through))
            for (client, server), number in sorted(self._numbers.items())
        ]
        return ServiceGraph(
            [ServiceNode(server, *one) for client, server, one in ordered if not client],
            [ServiceEdge(client, server, *one) for client, server, one in ordered if client],
        )

    def _figures(self, number: int, through: Numbers) -> tuple[int, int, float, float]:
        """Give calls, errors, median and 95th percentile; those are 0.0 where there are none."""
        first, stop = np.searchsorted(self._places, (number * BUCKETS, (number + 1) * BUCKETS))
        counts = (self._calls[number], self._errors[number])
        if first == stop:
            return *counts, 0.0, 0.0
        before = int(through[first] - self._amounts[first])
        total = int(through[stop - 1]) - before
        ranks = [before + math.ceil(share * total) for share in (0.5, 0.95)]
        buckets = self._places[np.searchsorted(through, ranks)] % BUCKETS + ZERO_BUCKET
        return *counts, middle_of(int(buckets[0])), middle_of(int(buckets[1]))
