"""Snapshots of the read database that contain a given commit, awaited where they must be.

A replica may be behind. Whoever waits holds no session: one session at a time looks for all
waiters together, so a replica that stands still cannot use the readers up.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Iterable
from contextlib import asynccontextmanager
from typing import Final

import structlog

from fernando_telemetry.domain.errors import (
    CommitTokenNotReached,
    DatabaseUnavailable,
    QueryTooExpensive,
)
from fernando_telemetry.storage.sessions import Connection, ReaderPool
from fernando_telemetry.storage.statements import load

log = structlog.get_logger(__name__)
sql = load("snapshots")

FIRST_PAUSE_SECONDS: Final = 0.005
LONGEST_PAUSE_SECONDS: Final = 0.1
RETRY_AFTER_SECONDS: Final = 1.0


async def shown(
    connection: Connection, flush_ids: Iterable[int], timeout_seconds: float | None = None
) -> set[int]:
    """Tell which flushes show in a session's snapshot, or have shown and were pruned."""
    rows = await connection.fetch(sql.reached, list(flush_ids), timeout=timeout_seconds)
    return {row["flush_id"] for row in rows}


class Snapshots:
    """Gives snapshots to queries.

    Args:
        readers: Sessions of the read DSN.
        wait_seconds: How long a commit is waited for.
    """

    def __init__(self, readers: ReaderPool, wait_seconds: float) -> None:
        self._readers = readers
        self._wait_seconds = wait_seconds
        self._waiters: dict[asyncio.Future[None], int] = {}
        self._looking: asyncio.Task[None] | None = None

    @asynccontextmanager
    async def opened(self, min_flush_id: int | None = None) -> AsyncIterator[Connection]:
        """Lend a session inside one read-only repeatable-read transaction.

        Args:
            min_flush_id: The flush it must show; None: whatever is committed now.

        Raises:
            CommitTokenNotReached: It did not show in time.
            DatabaseUnavailable: No session within the connect time-out, or it was lost.
            QueryTooExpensive: A statement ran past the session's time-out.
        """
        if min_flush_id is None:
            async with self._readers.snapshot() as connection:
                yield connection
            return
        deadline: float | None = None
        while True:
            # Looked for in the snapshot that answers, whatever another one has shown: behind the
            # read DSN there may be several replicas.
            async with self._readers.snapshot() as connection:
                if await shown(connection, [min_flush_id]):
                    yield connection
                    return
            deadline = deadline or asyncio.get_running_loop().time() + self._wait_seconds
            await self._until_shown(min_flush_id, deadline)

    async def _until_shown(self, flush_id: int, deadline: float) -> None:
        """Wait until the next look that finds the flush.

        Raises:
            CommitTokenNotReached: The deadline has passed.
        """
        loop = asyncio.get_running_loop()
        waiter: asyncio.Future[None] = loop.create_future()
        self._waiters[waiter] = flush_id
        if self._looking is None or self._looking.done():
            self._looking = asyncio.create_task(self._look(), name="commit-look")
        try:
            async with asyncio.timeout_at(deadline):
                await waiter
        except TimeoutError:
            raise CommitTokenNotReached(
                "The commit of min_commit_token does not show yet in the database that is read.",
                RETRY_AFTER_SECONDS,
            ) from None
        finally:
            del self._waiters[waiter]

    async def _look(self) -> None:
        """Look for all waiters at once, until there are none."""
        pause = FIRST_PAUSE_SECONDS
        while True:
            await asyncio.sleep(pause)
            pause = min(pause * 2, LONGEST_PAUSE_SECONDS)
            wanted = set(self._waiters.values())
            if not wanted:
                return
            try:
                async with self._readers.snapshot() as connection:
                    found = await shown(connection, wanted, self._wait_seconds)
            except (DatabaseUnavailable, QueryTooExpensive) as error:
                # They wait on, each to its own deadline.
                log.warning("commits_not_looked_for", cause=repr(error.__cause__ or error))
                pause = LONGEST_PAUSE_SECONDS
                continue
            except Exception:  # noqa: BLE001 - each of them meets it by itself, and tells of it
                found = wanted
            for waiter, flush_id in self._waiters.items():
                if flush_id in found and not waiter.done():
                    waiter.set_result(None)
