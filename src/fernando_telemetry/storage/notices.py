"""NOTIFY after commits: tells readers of committed data, on every server, that there is more.

It says nothing else: what is new the cursor finds, and whoever misses a notice looks by itself
every second. One is sent for all commits of a moment, from a session of its own: inside the
flush's transaction it would make commits wait for each other.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from typing import Any, Final

import asyncpg
import structlog

from fernando_telemetry.domain.errors import DatabaseUnavailable
from fernando_telemetry.storage.sessions import (
    ControlPool,
    SessionSettings,
    connect,
    translated,
)
from fernando_telemetry.storage.statements import load

log = structlog.get_logger(__name__)
sql = load("notices")

CHANNEL: Final = "fernando_telemetry_commits"
# Commits within it share one notice.
INTERVAL_SECONDS: Final = 0.05
PAUSE_SECONDS: Final = 1.0


class CommitNotices:
    """Sends the notices of one server.

    Args:
        control: Sessions of the control database.
    """

    def __init__(self, control: ControlPool) -> None:
        self._control = control
        self._due = asyncio.Event()

    def note(self) -> None:
        """Take note of a commit; never waits."""
        self._due.set()

    async def run(self) -> None:
        """Send them; never ends."""
        while True:
            await self._due.wait()
            self._due.clear()
            try:
                await self._control.run_alone(sql.tell, CHANNEL)
            except DatabaseUnavailable as error:
                log.warning("commits_not_told", cause=repr(error.__cause__ or error))
                await asyncio.sleep(PAUSE_SECONDS)
            await asyncio.sleep(INTERVAL_SECONDS)


class CommitListener:
    """Hears the notices of all servers.

    Args:
        settings: Session of the control database, kept open while it listens.
    """

    def __init__(self, settings: SessionSettings) -> None:
        self._settings = settings

    async def run(self, on_notice: Callable[[], None]) -> None:
        """Listen, and begin again when the session is lost; never ends.

        Args:
            on_notice: Called for each notice, and whenever some may have been missed.
        """
        while True:
            try:
                connection = await connect(self._settings)
            except (DatabaseUnavailable, asyncpg.PostgresError) as error:
                log.warning("commits_not_heard", cause=repr(error.__cause__ or error))
                await asyncio.sleep(PAUSE_SECONDS)
                continue
            try:
                await self._listen(connection, on_notice)
            except (DatabaseUnavailable, asyncpg.PostgresError) as error:
                log.warning("commits_not_heard", cause=repr(error.__cause__ or error))
            finally:
                connection.terminate()
            await asyncio.sleep(PAUSE_SECONDS)

    async def _listen(self, connection: Any, on_notice: Callable[[], None]) -> None:
        """Listen until the session is lost."""
        lost = asyncio.Event()
        connection.add_termination_listener(lambda _: lost.set())
        with translated():
            await connection.add_listener(CHANNEL, lambda *_: on_notice())
        on_notice()
        await lost.wait()
