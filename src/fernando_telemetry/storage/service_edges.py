"""Works out which service calls which, by chunks of ten minutes; a duty of the leader.

A span does not say who called it, and its parent may come in another flush, or later. So a chunk
is worked out from raw spans once it is thought complete, and listed; the fold of the spans' deltas
takes it from the list when late spans touch it, and it is read from raw spans until it is worked
out anew.

    take      a row in the list, "being worked out" by this run: committed, so that every later
              fold finds it
    compute   in one snapshot that has no unfolded deltas near: what it does not see, a delta tells
              readers of, or a fold that deletes the row
    finish    in the same transaction, "worked out", where the row is still there and of this run

Nothing is locked while it computes. A run that is broken off leaves a row that readers do not heed
and that the next run takes over.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Sequence
from datetime import datetime, timedelta
from typing import Final
from uuid import uuid4

import asyncpg
import structlog

from fernando_telemetry.domain.calendar import EPOCH
from fernando_telemetry.domain.edge_chunks import (
    CALLERS_AFTER,
    CALLERS_BEFORE,
    CHUNK,
    chunks_touched,
    range_of_callers,
    range_of_chunks,
)
from fernando_telemetry.domain.retention import KindRetention, kept_from
from fernando_telemetry.domain.time_range import TimeRange
from fernando_telemetry.storage.duties import Rests
from fernando_telemetry.storage.list_statement import Parameters
from fernando_telemetry.storage.lists import has_more_rows
from fernando_telemetry.storage.rollup import RollupTerms
from fernando_telemetry.storage.sessions import (
    Connection,
    SessionSettings,
    connect,
    translated,
)
from fernando_telemetry.storage.statements import load

log = structlog.get_logger(__name__)
sql = load("service_edges")
graph_sql = load("service_graph")
fold_sql = load("fold")

EDGES_INTERVAL_SECONDS: Final = 10.0
# Spans are sent when they end, and in batches: a chunk waits so long for what belongs to it.
SETTLED_AFTER: Final = timedelta(minutes=2)
# Side by side in one go, as each has to read the minutes around it.
MOST_CHUNKS: Final = 6
MOST_SPANS: Final = 1_000_000
RUN_SECONDS: Final = 60.0


class _OutrunError(Exception):
    """Spans came that touch the chunks, or another run has taken them."""


class ServiceEdges:
    """Keeps the chunks of calls worked out.

    Args:
        settings: Session of the control database; its statement time-out is that of a few chunks.
        terms: How long roll-ups are kept.
        retention: Gives how long spans are kept: of a chunk that some are gone of, the calls cannot
            be found any more.
    """

    def __init__(
        self,
        settings: SessionSettings,
        terms: RollupTerms,
        retention: Callable[[], KindRetention],
    ) -> None:
        self._settings = settings
        self._terms = terms
        self._retention = retention
        # Late spans may keep touching a chunk.
        self._rests: Rests[datetime] = Rests()

    async def run(self, now: datetime, *, pauses: bool = True) -> None:
        """Work chunks out, newest first, until none is left or a minute has passed.

        Args:
            now: The time.
            pauses: Pause as long as it works, so that it takes half of a core and disk at most.

        Raises:
            DatabaseUnavailable: The database does not answer.
        """
        loop = asyncio.get_running_loop()
        begun = loop.time()
        connection = await connect(self._settings)
        try:
            with translated():
                while chunks := await self._next(connection, now):
                    started = loop.time()
                    await self._work_out(connection, chunks, now)
                    if loop.time() - begun > RUN_SECONDS:
                        return
                    if pauses:
                        await asyncio.sleep(loop.time() - started)
        finally:
            connection.terminate()

    async def _next(self, connection: Connection, now: datetime) -> list[datetime]:
        """Give the newest chunks to be worked out, side by side; [] if there are none."""
        whole = await self._workable(connection, now)
        self._rests.forget_old(now)
        if whole is None:
            return []
        near = range_of_callers(whole)
        computed = await connection.fetch(graph_sql.computed_chunks, whole.start, whole.end)
        unfolded = await connection.fetch(graph_sql.unfolded_minutes, near.start, near.end)
        done = {row["chunk_start"] for row in computed}
        done |= chunks_touched(row["minute"] for row in unfolded)
        done |= self._rests.under_way(now)
        chunk = whole.end - CHUNK
        while chunk in done:
            chunk -= CHUNK
        if chunk < whole.start:
            return []
        found = [chunk]
        while (
            len(found) < MOST_CHUNKS
            and (chunk := chunk - CHUNK) >= whole.start
            and chunk not in done
        ):
            found.insert(0, chunk)
        if len(found) > 1 and await self._are_too_much(connection, found):
            return found[-1:]
        return found

    async def _workable(self, connection: Connection, now: datetime) -> TimeRange | None:
        """Give the whole chunks of which all spans are there and as good as none will come."""
        oldest = await connection.fetchval(sql.oldest_span)
        if oldest is None:
            return None
        days = self._retention().shortest_days
        # A clean-up may begin at the next midnight, before this has ended.
        kept = kept_from(now, days - 1) + CALLERS_BEFORE if days else EPOCH
        begin = max(kept, self._terms.oldest(now)["minute"])
        begin += (-(begin - EPOCH)) % CHUNK
        start = max(begin, oldest - (oldest - EPOCH) % CHUNK)
        end = now - CALLERS_AFTER - SETTLED_AFTER
        end -= (end - EPOCH) % CHUNK
        return TimeRange(start, end) if start < end else None

    async def _are_too_much(self, connection: Connection, chunks: Sequence[datetime]) -> bool:
        if any(chunk in self._rests for chunk in chunks):
            return True
        near = range_of_callers(range_of_chunks(chunks))
        parameters = Parameters(near.start, near.end)
        return await has_more_rows(connection, sql.spans.strip(), parameters, MOST_SPANS)

    async def _work_out(
        self, connection: Connection, chunks: Sequence[datetime], now: datetime
    ) -> None:
        try:
            await self._compute(connection, chunks)
        except (_OutrunError, asyncpg.SerializationError, asyncpg.UniqueViolationError):
            log.debug("service_edges_outrun", chunk=chunks[0].isoformat())
        except asyncpg.QueryCanceledError:
            log.warning("service_edges_timed_out", chunk=chunks[0].isoformat(), chunks=len(chunks))
        finally:
            # Also where it went well: late spans may touch it again in the next seconds.
            for chunk in chunks:
                self._rests.begin(chunk, now)

    async def _compute(self, connection: Connection, chunks: Sequence[datetime]) -> None:
        """Work chunks out that lie side by side.

        Raises:
            _OutrunError: It cannot be said yet what they are.
        """
        whole, version = range_of_chunks(chunks), uuid4()
        near = range_of_callers(whole)
        taken = await connection.fetch(sql.take_chunks, list(chunks), version)
        if len(taken) < len(chunks):
            raise _OutrunError
        async with connection.transaction(isolation="repeatable_read"):
            if await connection.fetchval(sql.is_unfolded, near.start, near.end):
                raise _OutrunError
            await connection.execute(graph_sql.join_by_hash)
            await connection.execute(sql.forget_edges, whole.start, whole.end)
            await connection.execute(sql.fill_edges, whole.start, whole.end, True)
            if await connection.fetchval(sql.are_licenses_apart, near.start, near.end):
                await connection.execute(sql.sum_edges_up, whole.start, whole.end)
            else:
                await connection.execute(sql.fill_edges, whole.start, whole.end, False)
            # Both lock rows of the list, in no order.
            await connection.execute(fold_sql.hold_fold)
            if await connection.fetchval(sql.finish_chunks, version) < len(chunks):
                raise _OutrunError
