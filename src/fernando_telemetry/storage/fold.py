"""The fold: moves deltas into their roll-up, in one statement, so that none is lost or doubled.

What is folded and what is not are together the raw rows, in every snapshot: a killed fold leaves
all as it was. One runs at a time; another server's waits for it and finds its work done.
"""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from typing import Final

from fernando_telemetry.domain.limits import EVENT_NAMES_PER_HOUR
from fernando_telemetry.storage.dropping import drop_partition
from fernando_telemetry.storage.partitions import EVENT_DELTAS, parse_bounds
from fernando_telemetry.storage.sessions import ControlPool, SessionSettings
from fernando_telemetry.storage.statements import load

sql = load("fold")

FOLD_INTERVAL_SECONDS: Final = 3.0
CLEAN_DELTAS_SECONDS: Final = 600.0
# In one transaction: some seconds of ingest at full rate.
MOST_DELTAS: Final = 50_000
HOURS_A_STEP: Final = 5_000
EMPTIED_BEFORE: Final = timedelta(hours=1)


class Fold:
    """Keeps the roll-ups up with their deltas; duties of the leader.

    Args:
        control: Sessions of the control database.
        settings: Session of it for dropping partitions.
        hourly_days: How long hours are kept.
    """

    def __init__(self, control: ControlPool, settings: SessionSettings, hourly_days: int) -> None:
        self._control = control
        self._settings = settings
        self._term = timedelta(days=hourly_days)

    async def fold(self, now: datetime) -> None:
        """Fold until few deltas are left.

        Raises:
            DatabaseUnavailable: The control database does not answer.
        """
        while True:
            async with self._control.transaction() as connection:
                await connection.execute(sql.hold_fold)
                folded: int = await connection.fetchval(
                    sql.fold_events, MOST_DELTAS, EVENT_NAMES_PER_HOUR, now - self._term
                )
            if folded < MOST_DELTAS:
                return

    async def clean(self, now: datetime) -> None:
        """Drop emptied partitions of deltas, and hours past their term.

        Raises:
            DatabaseUnavailable: The control database does not answer.
        """
        for statement in (sql.expire_event_hours, sql.expire_event_hour_names):
            gone = HOURS_A_STEP
            while gone == HOURS_A_STEP:
                async with self._control.transaction() as connection:
                    gone = await connection.fetchval(statement, now - self._term, HOURS_A_STEP)
        async with self._control.transaction() as connection:
            rows = await connection.fetch(sql.delta_partitions, EVENT_DELTAS.name)
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
                self._settings, EVENT_DELTAS.name, row["name"], is_half_detached=row["pending"]
            )
