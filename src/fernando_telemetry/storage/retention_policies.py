"""Retention policies: the table, and what of it holds on this server."""

from __future__ import annotations

import asyncio

import structlog

from fernando_telemetry.domain.errors import DatabaseUnavailable, InvalidField
from fernando_telemetry.domain.limits import RETENTION_POLICIES
from fernando_telemetry.domain.retention import Retention, RetentionPolicy
from fernando_telemetry.storage.sessions import Connection, ControlPool
from fernando_telemetry.storage.statements import load

log = structlog.get_logger(__name__)
sql = load("retention_policies")


class RetentionPolicies:
    """Keeps what holds at hand for the write path, which cannot ask for each record.

    Args:
        control: Sessions of the control database.
        defaults: Terms where no policy is set.
    """

    def __init__(self, control: ControlPool, defaults: Retention) -> None:
        self._control = control
        self._defaults = defaults
        self._known = defaults
        # What was read before another one's change must not be noted after it.
        self._turn = asyncio.Lock()

    @property
    def known(self) -> Retention:
        """What held when this server looked last."""
        return self._known

    async def refresh(self) -> Retention:
        """Look what holds now.

        Raises:
            DatabaseUnavailable: The control database does not answer.
        """
        async with self._turn:
            async with self._control.transaction() as connection:
                known = await read_retention(connection, self._defaults)
            self._known = known
            return known

    async def keep_known(self, interval_seconds: float) -> None:
        """Look again and again; never ends. While the database is away the last answer holds."""
        while True:
            await asyncio.sleep(interval_seconds)
            try:
                await self.refresh()
            except DatabaseUnavailable as error:
                log.warning("retention_not_refreshed", cause=repr(error.__cause__ or error))

    async def put(self, policy: RetentionPolicy) -> Retention:
        """Set a policy; gives what holds then.

        Raises:
            InvalidField: There are too many.
            DatabaseUnavailable: The control database does not answer.
        """
        async with self._control.transaction() as connection:
            await connection.execute(sql.hold)
            if not await connection.fetchval(
                sql.has_room, policy.kind, policy.license_id, RETENTION_POLICIES
            ):
                raise InvalidField("policy", f"there are {RETENTION_POLICIES:,} already.")
            await connection.execute(sql.put, policy.kind, policy.license_id, policy.days)
        return await self.refresh()

    async def remove(self, kind: str, license_id: str) -> Retention:
        """Remove a policy, if it is there; gives what holds then.

        Raises:
            DatabaseUnavailable: The control database does not answer.
        """
        async with self._control.transaction() as connection:
            await connection.execute(sql.remove, kind, license_id)
        return await self.refresh()


async def read_retention(connection: Connection, defaults: Retention) -> Retention:
    """Read what holds; the defaults where no policy is set."""
    rows = await connection.fetch(sql.all)
    return defaults.with_policies(
        RetentionPolicy(row["kind"], row["license_id"], row["days"]) for row in rows
    )
