"""Expiry: forgets unary requests after 7 days, and producers that were not used for long.

What is forgotten can be stored again, so a producer is kept for as long as any record it may have
sent would still be accepted: the longest retention, and 400 days where there is none. A hello and
an open stream (once a day) note its use. One server expires at a time, in small transactions
(storage/leadership.py).

A producer that comes back at that very moment is either passed over or forgotten as a whole. Its
row is locked FOR UPDATE, which nobody who uses it lets through: flushes hold it FOR SHARE, a
hello FOR KEY SHARE for its claim and as its own for the rest. Behind the lock it is looked again
for a claim that was made just before.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Any, Final

import structlog

from fernando_telemetry.storage.sessions import Connection, ControlPool
from fernando_telemetry.storage.statements import load

log = structlog.get_logger(__name__)
sql = load("expiry")

REQUESTS_KEPT: Final = timedelta(days=7)
# Use is noted once a day, and a record may lie a day ahead.
PRODUCERS_MARGIN: Final = timedelta(days=2)
REQUESTS_A_STEP: Final = 5_000
# A producer has at most some 1,300 marks.
PRODUCERS_A_STEP: Final = 20
CLAIMS_A_STEP: Final = 1_000
PAUSE_SECONDS: Final = 0.05


# Given the session, the moment and how many; gives how many it forgot.
_Step = Callable[[Connection, datetime, int], Awaitable[int]]


@dataclass(slots=True)
class Expired:
    """What one round forgot."""

    requests: int = 0
    producers: int = 0
    claims: int = 0


class Expiry:
    """Forgets what is no longer needed; a duty of the leader.

    Args:
        control: Sessions of the control database.
        accepted_days: Gives the age of the oldest record that is accepted now.
    """

    def __init__(self, control: ControlPool, accepted_days: Callable[[], int]) -> None:
        self._control = control
        self._accepted_days = accepted_days

    async def run(self, now: datetime) -> None:
        """Run one round and log what it forgot.

        Raises:
            DatabaseUnavailable: The control database does not answer.
        """
        expired = await self.expire(now)
        if expired != Expired():
            log.info(
                "expired",
                requests=expired.requests,
                producers=expired.producers,
                claims=expired.claims,
            )

    async def expire(self, now: datetime) -> Expired:
        """Run one round, to its end or until another server is at it.

        Raises:
            DatabaseUnavailable: The control database does not answer.
        """
        requests_before = now - REQUESTS_KEPT
        producers_before = now - timedelta(days=self._accepted_days()) - PRODUCERS_MARGIN
        expired = Expired()
        expired.requests = await self._steps(_expire_requests, requests_before, REQUESTS_A_STEP)
        expired.producers = await self._steps(_expire_producers, producers_before, PRODUCERS_A_STEP)
        expired.claims = await self._steps(_expire_lone_claims, producers_before, CLAIMS_A_STEP)
        return expired

    async def _steps(self, step: _Step, before: datetime, limit: int) -> int:
        total = 0
        while gone := await self._step(step, before, limit):
            total += gone
            # The write path goes first.
            await asyncio.sleep(PAUSE_SECONDS)
        return total

    async def _step(self, step: _Step, before: datetime, limit: int) -> int:
        """Run one transaction; 0: nothing is left, or another server is at it."""
        async with self._control.transaction() as connection:
            if not await connection.fetchval(sql.try_hold_expiry):
                return 0
            return await step(connection, before, limit)


async def _expire_requests(connection: Connection, before: datetime, limit: int) -> int:
    gone: int = await connection.fetchval(sql.expire_requests, before, limit)
    return gone


async def _expire_lone_claims(connection: Connection, before: datetime, limit: int) -> int:
    gone: int = await connection.fetchval(sql.expire_lone_claims, before, limit)
    return gone


async def _expire_producers(connection: Connection, before: datetime, limit: int) -> int:
    locked = await connection.fetch(sql.lock_unused_producers, before, limit)
    unused = await connection.fetch(sql.still_unused, before, *_columns(locked))
    keys = _columns(unused)
    for statement in (
        sql.expire_marks,
        sql.expire_progress,
        sql.expire_claims,
        sql.expire_producers,
    ):
        await connection.execute(statement, *keys)
    return len(unused)


def _columns(rows: Sequence[Any]) -> tuple[list[Any], ...]:
    return (
        [row["shard"] for row in rows],
        [row["license_id"] for row in rows],
        [row["producer_id"] for row in rows],
    )
