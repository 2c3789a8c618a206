"""Closes the gaps of roll-ups hour by hour; a duty of the leader, where roll-ups are on.

Answers are right as long as a gap is open, but its rows are read raw. So nothing hurries: newest
hours first, resting as long as it works, and an hour that is open again (servers without roll-ups
go on writing) or takes too long is left alone for a minute, then two, at most an hour.
"""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from datetime import datetime
from typing import Final

import asyncpg
import structlog

from fernando_telemetry.storage.duties import Apart, Rests
from fernando_telemetry.storage.rollup import Rollup
from fernando_telemetry.storage.rollup_gaps import close_gaps
from fernando_telemetry.storage.rollups import ROLLUPS
from fernando_telemetry.storage.sessions import Connection, SessionSettings, connect, translated
from fernando_telemetry.storage.statements import load

log = structlog.get_logger(__name__)
sql = load("rollup_gaps")

CLOSE_GAPS_SECONDS: Final = 10.0
RUN_SECONDS: Final = 60.0


class GapClosing:
    """Makes up what was stored without deltas.

    Args:
        settings: Session of the control database; its statement time-out is that of an hour.
        rollups: The roll-ups.
    """

    def __init__(self, settings: SessionSettings, rollups: Sequence[Rollup] = ROLLUPS) -> None:
        self._settings = settings
        self._rollups = {rollup.name: rollup for rollup in rollups}
        self._rests: Rests[tuple[str, datetime]] = Rests()

    async def run(self, now: datetime, *, pauses: bool = True) -> None:
        """Close what is open, until nothing is left or a minute has passed.

        Args:
            now: The time.
            pauses: Pause as long as it works, so that it takes half of a core and disk at most.

        Raises:
            DatabaseUnavailable: The database does not answer.
            ExceptionGroup: Some hours could not be made up; the others are.
        """
        loop = asyncio.get_running_loop()
        begun = loop.time()
        self._rests.forget_old(now)
        resting = self._rests.under_way(now)
        apart = Apart()
        connection = await connect(self._settings)
        try:
            with translated():
                for row in await connection.fetch(sql.open_hours):
                    rollup, hour = self._rollups.get(row["rollup"]), row["hour"]
                    if rollup is None or (rollup.name, hour) in resting:
                        continue
                    started = loop.time()
                    with apart.part():
                        await self._close(connection, rollup, hour, now)
                    if loop.time() - begun > RUN_SECONDS:
                        break
                    if pauses:
                        await asyncio.sleep(loop.time() - started)
        finally:
            connection.terminate()
        apart.finish()

    async def _close(
        self, connection: Connection, rollup: Rollup, hour: datetime, now: datetime
    ) -> None:
        # Also where it goes well: it may be open again in the next second.
        self._rests.begin((rollup.name, hour), now)
        try:
            if await close_gaps(connection, rollup, hour):
                log.info("rollup_gap_closed", rollup=rollup.name, hour=hour.isoformat())
        except asyncpg.QueryCanceledError:
            log.warning("rollup_gap_timed_out", rollup=rollup.name, hour=hour.isoformat())
