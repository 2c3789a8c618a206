"""The fold: moves deltas into their roll-up, in one statement, so that none is lost or doubled.

What is folded and what is not are together the raw rows, in every snapshot: a killed fold leaves
all as it was. One runs at a time; another server's waits for it and finds its work done.
"""

from __future__ import annotations

from collections.abc import Sequence
from datetime import UTC, datetime, timedelta
from typing import Final

from fernando_telemetry.storage.dropping import drop_partition
from fernando_telemetry.storage.duties import Apart
from fernando_telemetry.storage.partitions import PartitionedTable, parse_bounds
from fernando_telemetry.storage.rollup import Expiry, Rollup, RollupTerms
from fernando_telemetry.storage.rollups import ROLLUPS
from fernando_telemetry.storage.sessions import ControlPool, SessionSettings
from fernando_telemetry.storage.statements import load

sql = load("fold")
GAPS_EXPIRY: Final = Expiry(load("rollup_gaps").expire_gaps, "hour")

FOLD_INTERVAL_SECONDS: Final = 2.5
CLEAN_DELTAS_SECONDS: Final = 600.0
# In one transaction: some seconds of ingest at full rate.
MOST_DELTAS: Final = 50_000
ROWS_A_STEP: Final = 5_000
EMPTIED_BEFORE: Final = timedelta(hours=1)


class Fold:
    """Keeps the roll-ups up with their deltas; duties of the leader.

    Args:
        control: Sessions of the control database.
        settings: Session of it for dropping partitions.
        terms: How long roll-ups are kept.
        rollups: The roll-ups.
    """

    def __init__(
        self,
        control: ControlPool,
        settings: SessionSettings,
        terms: RollupTerms,
        rollups: Sequence[Rollup] = ROLLUPS,
    ) -> None:
        self._control = control
        self._settings = settings
        self._terms = terms
        self._rollups = rollups

    async def fold(self, now: datetime) -> None:
        """Fold until few deltas are left; a roll-up that cannot be folded stops no other.

        Raises:
            DatabaseUnavailable: The control database does not answer.
            ExceptionGroup: Some could not be folded.
        """
        left, apart = list(self._rollups), Apart()
        while left:
            # In turns, so that one roll-up's many deltas do not keep the others waiting.
            unfinished = []
            for rollup in left:
                with apart.part():
                    if await self._fold_some(rollup, now) == MOST_DELTAS:
                        unfinished.append(rollup)
            left = unfinished
        apart.finish()

    async def lag(self) -> float:
        """Give the age of the oldest delta, in seconds; 0 where all are folded.

        Raises:
            DatabaseUnavailable: The control database does not answer.
        """
        ages = [0.0]
        async with self._control.transaction() as connection:
            for rollup in self._rollups:
                oldest = await connection.fetchval(
                    f"SELECT min(flushed_at) FROM {rollup.deltas.name}"  # noqa: S608 - of ours
                )
                ages.append(await connection.fetchval(sql.age, oldest))
        # Clocks may step back.
        return max(ages)

    async def _fold_some(self, rollup: Rollup, now: datetime) -> int:
        async with self._control.transaction() as connection:
            await connection.execute(sql.hold_fold)
            folded: int = await connection.fetchval(
                rollup.fold, MOST_DELTAS, *rollup.fold_arguments(self._terms.oldest(now))
            )
            return folded

    async def clean(self, now: datetime) -> None:
        """Drop emptied partitions of deltas, and what is past its term.

        Raises:
            DatabaseUnavailable: The control database does not answer.
            ExceptionGroup: Some roll-ups could not be cleaned.
        """
        apart = Apart()
        for rollup in self._rollups:
            with apart.part():
                await self._expire(rollup.expiry, now)
            with apart.part():
                await self._drop_emptied(rollup.deltas, now)
        with apart.part():
            await self._expire([GAPS_EXPIRY], now)
        apart.finish()

    async def _expire(self, expiries: Sequence[Expiry], now: datetime) -> None:
        oldest = self._terms.oldest(now)
        for expiry in expiries:
            gone = ROWS_A_STEP
            while gone == ROWS_A_STEP:
                async with self._control.transaction() as connection:
                    gone = await connection.fetchval(
                        expiry.statement, oldest[expiry.term], ROWS_A_STEP
                    )

    async def _drop_emptied(self, deltas: PartitionedTable, now: datetime) -> None:
        async with self._control.transaction() as connection:
            rows = await connection.fetch(sql.delta_partitions, deltas.name)
            passed = [
                row
                for row in rows
                if parse_bounds(row["bounds"])[1] <= now.astimezone(UTC) - EMPTIED_BEFORE
            ]
            empty = [
                row
                for row in passed
                if not await connection.fetchval(f"SELECT EXISTS (TABLE {row['name']})")
            ]
        for row in empty:
            await drop_partition(
                self._settings, deltas.name, row["name"], is_half_detached=row["pending"]
            )
