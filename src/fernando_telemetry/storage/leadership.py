"""The leader: of all servers on a database one at a time does what must not be done twice at once.

Who leads holds a session advisory lock on the control database. The lock goes with the session:
when a server dies, another one leads within seconds, and a leader that loses its session stops
its duties and stands in line again.

For a moment there can be two: PostgreSQL may see a session's end before its server does, whose
duty then still runs on other sessions. So a duty has to be right even beside itself, by locks or
by statements that find their work done; being alone only keeps it cheap.
"""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Final

import asyncpg
import structlog

from fernando_telemetry.domain.errors import DatabaseUnavailable
from fernando_telemetry.storage.duties import DutyFaults, fault_pause_seconds
from fernando_telemetry.storage.sessions import (
    Connection,
    SessionSettings,
    connect,
    translated,
)
from fernando_telemetry.storage.statements import load

log = structlog.get_logger(__name__)
sql = load("leadership")

BEAT_SECONDS: Final = 1.0
# A session that does not answer for so long counts as lost.
SILENCE_SECONDS: Final = 5.0
FIRST_PAUSE_SECONDS: Final = 0.1
LONGEST_PAUSE_SECONDS: Final = 5.0
# What a run may still take when it is told to end.
GRACE_SECONDS: Final = 1.0


@dataclass(frozen=True, slots=True)
class Duty:
    """Something the leader does again and again.

    Args:
        name: For logs.
        interval_seconds: From the end of one run to the next.
        run: Does it, given the time; safe to be cancelled, which it is a moment after leading has
            ended, and to be run beside itself.
        first_after_seconds: From leading to the first run. Housekeeping that nobody waits for
            keeps out of the way of a start.
    """

    name: str
    interval_seconds: float
    run: Callable[[datetime], Awaitable[None]]
    first_after_seconds: float = 0.0


class Leadership:
    """A server's part in it: stands in line, leads, does the duties.

    Args:
        settings: Session of the control database, for the lock alone.
        duties: What to do while leading; each has its own rhythm, none waits for another.
        faults: Count those of the duties.
    """

    def __init__(
        self, settings: SessionSettings, duties: Sequence[Duty], faults: DutyFaults | None = None
    ) -> None:
        self._settings = settings
        self._duties = tuple(duties)
        self._faults = faults or DutyFaults()
        for duty in self._duties:
            self._faults.expect(duty.name)
        self.is_leader = False

    async def run(self) -> None:
        """Stand in line, lead, and begin again when the session is lost; never ends."""
        pause = FIRST_PAUSE_SECONDS
        while True:
            try:
                connection = await connect(self._settings)
            except (DatabaseUnavailable, asyncpg.PostgresError) as error:
                log.warning("leadership_not_reached", cause=repr(error.__cause__ or error))
                await asyncio.sleep(pause)
                pause = min(pause * 2, LONGEST_PAUSE_SECONDS)
                continue
            pause = FIRST_PAUSE_SECONDS
            try:
                await self._serve(connection)
            except DatabaseUnavailable as error:
                log.warning("leadership_session_lost", cause=repr(error.__cause__ or error))
            finally:
                # The lock goes at once, with the session.
                connection.terminate()
            await asyncio.sleep(pause)

    async def _serve(self, connection: Connection) -> None:
        """Wait for the lock and lead.

        Raises:
            DatabaseUnavailable: The session was lost.
        """
        lost = asyncio.Event()
        connection.add_termination_listener(lambda _: lost.set())
        with translated():
            await connection.execute(sql.notice_dead_peer, timeout=SILENCE_SECONDS)
        while not await _ask(connection, sql.try_lead):
            await _beat(lost)
        log.info("leader_became")
        duties = [
            asyncio.create_task(_repeat(duty, self._faults), name=f"duty {duty.name}")
            for duty in self._duties
        ]
        self.is_leader = True
        try:
            while await _ask(connection, sql.still_leads):
                await _beat(lost)
        finally:
            self.is_leader = False
            for task in duties:
                task.cancel()
            await asyncio.gather(*duties, return_exceptions=True)
            log.info("leader_ended")


async def _ask(connection: Connection, statement: str) -> bool:
    with translated():
        return bool(await connection.fetchval(statement, timeout=SILENCE_SECONDS))


async def _beat(lost: asyncio.Event) -> None:
    """Wait for the next look, or until the session is known to be lost."""
    with contextlib.suppress(TimeoutError):
        async with asyncio.timeout(BEAT_SECONDS):
            await lost.wait()


async def _repeat(duty: Duty, faults: DutyFaults) -> None:
    failures = 0
    await asyncio.sleep(duty.first_after_seconds)
    while True:
        try:
            await _whole(duty.run(datetime.now(UTC)))
        except DatabaseUnavailable as error:
            failures += 1
            log.warning("duty_put_off", duty=duty.name, cause=repr(error.__cause__ or error))
            delay = min(max(duty.interval_seconds, 1.0), fault_pause_seconds(failures))
        except Exception as error:  # noqa: BLE001 - one duty's fault is no other's
            failures += 1
            faults.note(duty.name, error)
            delay = fault_pause_seconds(failures)
        else:
            failures = 0
            delay = duty.interval_seconds
        await asyncio.sleep(delay)


async def _whole(run: Awaitable[None]) -> None:
    """Let a run come to its end where it takes but a moment, also when this is cancelled.

    Most do; one that is cut while it gives a session back leaves an error that nobody fetches.
    """
    work = asyncio.ensure_future(run)
    try:
        await asyncio.shield(work)
    except asyncio.CancelledError:
        await asyncio.wait([work], timeout=GRACE_SECONDS)
        work.cancel()
        await asyncio.gather(work, return_exceptions=True)
        raise
