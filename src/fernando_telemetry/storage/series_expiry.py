"""Deletes series that no stored sample belongs to any more."""

from __future__ import annotations

from collections.abc import Callable
from datetime import UTC, date, datetime, timedelta
from typing import Final

import structlog

from fernando_telemetry.storage.partitions import BEGINNING, parse_bounds
from fernando_telemetry.storage.rows import DISTRIBUTIONS, SAMPLES
from fernando_telemetry.storage.sessions import Connection, ControlPool
from fernando_telemetry.storage.statements import load

log = structlog.get_logger(__name__)
sql = load("series")
partitions_sql = load("partitions")

# A sample may be a day ahead of the day its series was seen on, and its partition ends with the
# day: two days after the retention nothing of it is left.
AHEAD: Final = timedelta(days=1)
GRACE_DAYS: Final = 2
STRETCH: Final = 5_000


class SeriesExpiry:
    """A maintenance duty, about once a day; any number of servers may do it.

    Args:
        control: Sessions on the control database.
        retention_days: Gives the longest time that samples are kept; 0: for ever, nothing expires.
    """

    def __init__(self, control: ControlPool, retention_days: Callable[[], int]) -> None:
        self._control = control
        self._retention_days = retention_days

    async def run(self, now: datetime) -> None:
        """Expire once; a duty of the leader."""
        await self.expire(now)

    async def expire(self, now: datetime) -> int:
        """Delete series unseen for the retention and two days, in short transactions.

        A series whose samples may still be there, because partitions were not dropped in time,
        stays. Safe beside writers: they note a series as seen, in a transaction that holds it,
        before they use it, and again on each day; a series they hold is passed over.

        Returns:
            How many series were deleted.

        Raises:
            DatabaseUnavailable: The control database does not answer.
        """
        days = self._retention_days()
        if not days:
            return 0
        horizon = now.astimezone(UTC).date() - timedelta(days=days + GRACE_DAYS)
        deleted, after = 0, 0
        while True:
            async with self._control.transaction() as connection:
                if not await connection.fetchval(sql.try_expiry):
                    break
                if not after:
                    horizon = min(horizon, await self._first_day_needed(connection))
                last = await connection.fetchval(sql.next_series_id, after, STRETCH)
                if last is None:
                    await connection.execute(sql.delete_counts, horizon, STRETCH)
                    break
                status = await connection.execute(sql.delete_series, after, last, horizon)
                deleted += int(status.split()[-1])
                after = last
        if deleted:
            log.info("series_expired", series=deleted, unseen_since=horizon.isoformat())
        return deleted

    @staticmethod
    async def _first_day_needed(connection: Connection) -> date:
        """Give the day from which on a series may have samples, by the partitions there are."""
        tables = [SAMPLES.name, DISTRIBUTIONS.name]
        rows = await connection.fetch(partitions_sql.existing, tables)
        starts = [parse_bounds(row["bounds"])[0] for row in rows]
        oldest = min(starts, default=datetime.max.replace(tzinfo=UTC))
        # A sample may be a day ahead of the day its series was seen on.
        return max(oldest, BEGINNING + AHEAD).date() - AHEAD
