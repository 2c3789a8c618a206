"""A writer: flushes groups, over as many lanes as their failures take.

What may pass is retried with back-off on a new lane. A row that PostgreSQL refuses although the
checks had passed it is found by halving and gets a verdict; the others are stored.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable, Sequence
from datetime import UTC, datetime, timedelta
from functools import partial

import asyncpg
import structlog

from fernando_telemetry.domain.errors import DatabaseUnavailable
from fernando_telemetry.domain.series import SeriesIdentity
from fernando_telemetry.domain.verdicts import RecordKind, Verdict
from fernando_telemetry.storage.flush import (
    Lane,
    OutcomeUnknown,
    PartitionMissing,
    RowsRefused,
    blames_row,
    outcome_of,
)
from fernando_telemetry.storage.flush_rows import RowsOfTable
from fernando_telemetry.storage.marks import FlushBatch, PutOff, Result
from fernando_telemetry.storage.overflow import note_overflow, take_overflow_back
from fernando_telemetry.storage.partitions import DELTA_TABLES, Partitions
from fernando_telemetry.storage.rollup import Rollup
from fernando_telemetry.storage.rollups import ROLLUPS
from fernando_telemetry.storage.rows import RAW_TABLES, CheckedRows
from fernando_telemetry.storage.series import SeriesDictionary
from fernando_telemetry.storage.sessions import SessionSettings

log = structlog.get_logger(__name__)

# A session that has answered just now is not asked for a sign of life again.
RECENTLY_SECONDS = 0.1
FIRST_DELAY_SECONDS = 0.05
LONGEST_DELAY_SECONDS = 1.0
# Attempts for which a group may miss a partition, some three seconds.
MOST_MISSING = 6
_HOUR = timedelta(hours=1)


class FlushRefused(DatabaseUnavailable):
    """PostgreSQL refuses a flush although it takes each of its rows: trying again is no use."""


class _Pause:
    """Pauses that double, from one attempt to the next."""

    def __init__(self) -> None:
        self._seconds = FIRST_DELAY_SECONDS

    async def wait(self) -> None:
        """Wait, and make the next wait longer."""
        await asyncio.sleep(self._seconds)
        self._seconds = min(self._seconds * 2, LONGEST_DELAY_SECONDS)


class Writer:
    """Runs one flush at a time.

    Args:
        settings: Session of the data database.
        partitions: Makes what late rows need.
        series: Gives series ids.
        rollups: Those that are kept.
        turns: Shared by writers of which not all shall COPY at once; None: it waits for none.
    """

    def __init__(
        self,
        settings: SessionSettings,
        partitions: Partitions,
        series: SeriesDictionary,
        rollups: Sequence[Rollup] = ROLLUPS,
        turns: asyncio.Semaphore | None = None,
    ) -> None:
        self._settings = settings
        self._partitions = partitions
        self._series = series
        self._rollups = rollups
        self._turns = turns
        self._lane: Lane | None = None
        self._answered_at = 0.0

    async def close(self) -> None:
        """End the session."""
        if self._lane is not None:
            lane, self._lane = self._lane, None
            await lane.close()

    async def reach(self, *, is_wanted: Callable[[], bool]) -> None:
        """Wait until the database answers on this writer's session.

        Args:
            is_wanted: Tells whether anybody still waits for what is to be flushed.

        Raises:
            DatabaseUnavailable: Nobody waits any more.
        """
        pause = _Pause()
        while True:
            try:
                await self._ping()
            except DatabaseUnavailable as error:
                log.warning("database_not_reached", cause=repr(error.__cause__ or error))
                await pause.wait()
                if not is_wanted():
                    raise
            else:
                return

    async def _ping(self) -> None:
        try:
            lane = self._lane
            if lane is None:
                await self._opened()
            elif time.monotonic() - self._answered_at > RECENTLY_SECONDS:
                await lane.ping(self._settings.connect_timeout_seconds)
            else:
                return
            self._answered_at = time.monotonic()
        except BaseException:
            self._drop_lane()
            raise

    async def flush(
        self,
        batches: Sequence[FlushBatch],
        *,
        is_wanted: Callable[[int], bool],
        on_refused: Callable[[], None],
    ) -> list[Result | None]:
        """Commit a group, retrying what may pass while somebody waits for it.

        Rows that PostgreSQL refuses are taken out of their batch, whose tally gets the verdict.

        Args:
            batches: The group.
            is_wanted: Tells by place whether anybody still waits for a batch; one that is given
                up leaves the group before the next attempt.
            on_refused: Called for each record that PostgreSQL refuses.

        Returns:
            A result by place, None for a batch that left.

        Raises:
            DatabaseUnavailable: Nobody waits any more, and nothing was committed, or it could
                not be learned whether it was: a repeat will tell.
        """
        pause = _Pause()
        places = list(range(len(batches)))
        # The attempt whose COMMIT nothing is known of, and its places. It is cleared up before
        # the next attempt, however long that takes: a batch without a mark would be stored
        # twice, and one with a mark would be told a duplicate of itself.
        unknown: OutcomeUnknown | None = None
        tried: list[int] = []
        # A refusal whose rows are to be found. Where the session is lost meanwhile the next
        # attempt tells whether some are left.
        refused: RowsRefused | None = None
        missing = 0
        while True:
            group = [batches[place] for place in places]
            try:
                if unknown is not None and await outcome_of(self._settings, unknown):
                    return _by_place(tried, unknown.results, len(batches))
                unknown = None
                if refused is not None:
                    cause, refused = refused, None
                    await self._isolate(group, cause, on_refused)
                return _by_place(places, await self._attempt(group), len(batches))
            except OutcomeUnknown as lost:
                unknown, tried = lost, places
                self._drop_lane()
            except RowsRefused as error:
                # Without the traceback, whose frames hold the group.
                refused = error.with_traceback(None)
            except PartitionMissing:
                self._partitions.forget()
                missing += 1
                if missing >= MOST_MISSING:
                    # A partition that is being dropped takes its time. Those of the group that
                    # need another must not wait for it.
                    return await self._one_by_one(batches, places, is_wanted, on_refused)
                await pause.wait()
            except FlushRefused:
                raise
            except DatabaseUnavailable as error:
                self._drop_lane()
                log.warning("flush_retried", cause=repr(error.__cause__ or error))
                await pause.wait()
                places = [place for place in places if is_wanted(place)]
                if not places:
                    raise

    async def _one_by_one(
        self,
        batches: Sequence[FlushBatch],
        places: list[int],
        is_wanted: Callable[[int], bool],
        on_refused: Callable[[], None],
    ) -> list[Result | None]:
        """Commit batches apart; one that still misses its partition is put off."""
        results: list[Result | None] = [None] * len(batches)
        for place in places:
            if not is_wanted(place):
                continue
            if len(places) == 1:
                results[place] = PutOff()
                continue
            try:
                (results[place],) = await self.flush(
                    [batches[place]],
                    is_wanted=partial(_of_place, is_wanted, place),
                    on_refused=on_refused,
                )
            except DatabaseUnavailable:
                # The others have their answers, which must not be lost.
                results[place] = PutOff()
        return results

    async def _opened(self) -> Lane:
        """Give the lane, a new one where the last was dropped."""
        if self._lane is None:
            self._lane = await Lane.open(self._settings, self._rollups, self._turns)
        return self._lane

    def _drop_lane(self) -> None:
        if self._lane is not None:
            self._lane.terminate()
            self._lane = None

    async def _attempt(self, batches: Sequence[FlushBatch]) -> list[Result]:
        series = await self._prepare(batches)
        lane = await self._opened()
        try:
            results = await lane.flush(batches, series)
        except (OutcomeUnknown, RowsRefused, PartitionMissing):
            raise
        except BaseException:
            # Whatever else ended it, a cancellation included: the session may be in any state.
            self._drop_lane()
            raise
        self._answered_at = time.monotonic()
        return results

    async def _prepare(self, batches: Sequence[FlushBatch]) -> dict[SeriesIdentity, int]:
        """Make the partitions and series that the rows need.

        Raises:
            DatabaseUnavailable: They could not be made now.
        """
        try:
            return await self._partitions_and_series(batches)
        except asyncpg.PostgresError as error:
            # A table that is missing, say: as where the flush itself is refused, it may be mended.
            if blames_row(error):
                raise
            raise DatabaseUnavailable("The database refuses the flush.", 2.0) from error

    async def _partitions_and_series(
        self, batches: Sequence[FlushBatch]
    ) -> dict[SeriesIdentity, int]:
        now = datetime.now(UTC)
        # Deltas go by the database's clock, which may differ from this one.
        needed: dict[str, Sequence[datetime]] = {
            "flushes": [now],
            **{table.name: [now - _HOUR, now, now + _HOUR] for table in DELTA_TABLES},
        }
        for table in RAW_TABLES:
            times = RowsOfTable(table, batches)
            _, first, last = times.extent()
            if first and last and not self._partitions.is_within_one(table.name, first, last):
                needed[table.name] = times.moments()
        await self._partitions.ensure(needed)
        identities = {identity for batch in batches for identity in batch.series()}
        resolved = await self._series.resolve(identities, now.date()) if identities else {}
        note_overflow(batches, resolved)
        return {identity: series.series_id for identity, series in resolved.items()}

    async def _isolate(
        self,
        batches: Sequence[FlushBatch],
        refused: RowsRefused,
        on_refused: Callable[[], None],
    ) -> None:
        """Take the rows that PostgreSQL refuses out of their batches.

        Each half is tried in a transaction that is rolled back, so nothing is stored here.

        Raises:
            DatabaseUnavailable: The session was lost; what was found so far is taken out.
            PartitionMissing: A row's partition is gone.
            FlushRefused: No single row is to blame.
        """
        found = 0
        # Rows that columns spoilt and tuples do not are stored by the next attempt.
        had_columns = any(batch.slices for batch in batches)
        try:
            for batch in batches:
                batch.make_plain()
                # Overflow is noted anew by every attempt: it must not take the place of these.
                take_overflow_back(batch)
                verdicts: list[Verdict] = []
                for kind, index in await self._refused_rows(batch):
                    detail = "PostgreSQL refused the row; the server's log has its reason"
                    verdicts.append(Verdict(kind, index, "refused_by_database", "", detail))
                    batch.tally.refuse(verdicts[-1])
                    on_refused()
                    found += 1
                if verdicts and batch.keep is not None:
                    batch.rejected += await batch.keep(verdicts)
        finally:
            log.error("rows_refused_by_database", rows=found, reason=str(refused))
        if not found and not had_columns and not _drop_rejected(batches):
            raise FlushRefused("The database refuses the flush.", 2.0) from refused

    async def _refused_rows(self, batch: FlushBatch) -> list[tuple[RecordKind, int]]:
        # All are found before one is taken out: a session lost in between must not leave rows
        # that are gone and have no verdict.
        bad = {
            table.name: await self._bad_rows(
                batch, table.name, list(range(len(batch.rows.rows[table.name])))
            )
            for table in RAW_TABLES
        }
        places: list[tuple[RecordKind, int]] = []
        for table in RAW_TABLES:
            places += [batch.rows.places[table.name][place] for place in bad[table.name]]
            gone = set(bad[table.name])
            for columns in (batch.rows.rows, batch.rows.places):
                columns[table.name][:] = [
                    item for place, item in enumerate(columns[table.name]) if place not in gone
                ]
        return places

    async def _bad_rows(self, batch: FlushBatch, table: str, places: list[int]) -> list[int]:
        if not places:
            return []
        part = CheckedRows()
        part.rows[table] = [batch.rows.rows[table][place] for place in places]
        trial = FlushBatch(None, batch.shard, part)
        series = await self._prepare([trial])
        lane = await self._opened()
        try:
            if await lane.would_take(trial, series):
                return []
        except PartitionMissing:
            raise
        except BaseException:
            self._drop_lane()
            raise
        if len(places) == 1:
            return places
        middle = len(places) // 2
        return await self._bad_rows(batch, table, places[:middle]) + await self._bad_rows(
            batch, table, places[middle:]
        )


def _drop_rejected(batches: Sequence[FlushBatch]) -> bool:
    """Give up keeping rejected records: that must never be what holds up a flush."""
    dropped = sum(len(batch.rejected) for batch in batches)
    for batch in batches:
        batch.rejected.clear()
    if dropped:
        log.error("rejected_records_lost", records=dropped)
    return dropped > 0


def _of_place(is_wanted: Callable[[int], bool], place: int, _: int) -> bool:
    return is_wanted(place)


def _by_place(places: list[int], results: list[Result], count: int) -> list[Result | None]:
    given = dict(zip(places, results, strict=True))
    return [given.get(place) for place in range(count)]
