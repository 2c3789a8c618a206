"""Care of lanes and flushes, for the leader: closes dead lanes and prunes old flushes."""

from __future__ import annotations

import re
from datetime import UTC, date, datetime, timedelta
from typing import Final

import structlog

from fernando_telemetry.storage.dropping import drop_partition
from fernando_telemetry.storage.sessions import ControlPool, SessionSettings
from fernando_telemetry.storage.statements import load

log = structlog.get_logger(__name__)
sql = load("lanes")

CLOSE_INTERVAL_SECONDS: Final = 2.0
PRUNE_INTERVAL_SECONDS: Final = 3600.0
_DAY = re.compile(r"flushes_p(\d{8})")


class DeadLanes:
    """Closes lanes whose session is gone.

    Until then a cursor has to keep a place in each of them. Whoever obtains a lane's lock knows
    that no more flushes of it will come; a replica, where locks do not show, learns it from
    `lanes.last_number`.

    Args:
        control: Sessions of the database that lanes are made in.
    """

    def __init__(self, control: ControlPool) -> None:
        self._control = control

    async def close(self, now: datetime) -> None:  # noqa: ARG002 - a duty's signature
        """Close all dead lanes.

        Raises:
            DatabaseUnavailable: The database does not answer.
        """
        async with self._control.transaction() as connection:
            lanes = [row["lane"] for row in await connection.fetch(sql.forsaken_lanes)]
        for lane in lanes:
            # One transaction each: opening a lane waits for whoever writes into the table.
            async with self._control.transaction() as connection:
                if not await connection.fetchval(sql.try_lane, lane):
                    continue
                last = await connection.fetchval(sql.close_lane, lane)
            log.info("lane_closed", lane=lane, last_number=last)


class OldFlushes:
    """Takes old rows out of `flushes`, a day's partition at a time.

    First `lanes.pruned_through` rises, then the partition goes: whoever does not find a flush
    finds that it was pruned. Readers of cursors lock `flushes` before they take their snapshot
    (storage/committed.py), so none has an older one.

    Args:
        control: Sessions of the control database.
        settings: How to open one more: partitions are detached outside of transactions.
        kept_days: Age from which they go.
    """

    def __init__(self, control: ControlPool, settings: SessionSettings, kept_days: int) -> None:
        self._control = control
        self._settings = settings
        self._kept_days = kept_days

    async def prune(self, now: datetime) -> None:
        """Drop the partitions that are too old.

        Raises:
            DatabaseUnavailable: The database does not answer, or a long query is in the way.
        """
        first_kept = now.astimezone(UTC).date() - timedelta(days=self._kept_days)
        async with self._control.transaction() as connection:
            found = await connection.fetch(sql.partitions_of_flushes)
        old = [row for row in found if _day_of(row["name"]) < first_kept]
        for row in old:
            await self._note(_day_of(row["name"]))
            await drop_partition(
                self._settings,
                "flushes",
                row["name"],
                is_attached=row["is_attached"],
                is_half_detached=row["is_half_detached"],
            )
        if old:
            log.info("flushes_pruned", partitions=len(old), first_kept=str(first_kept))

    async def _note(self, day: date) -> None:
        async with self._control.transaction() as connection:
            found = await connection.fetch(sql.numbers_of_day, day)
            lanes, numbers = [row["lane"] for row in found], [row["number"] for row in found]
            await connection.execute(sql.raise_pruned, lanes, numbers)


def _day_of(partition: str) -> date:
    found = _DAY.fullmatch(partition)
    assert found is not None, partition
    return datetime.strptime(found[1], "%Y%m%d").replace(tzinfo=UTC).date()
