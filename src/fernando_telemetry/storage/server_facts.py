"""Facts about the database server that operators are shown."""

from __future__ import annotations

from dataclasses import dataclass

from fernando_telemetry.storage.sessions import ControlPool
from fernando_telemetry.storage.statements import load

sql = load("server_facts")


@dataclass(frozen=True, slots=True)
class ServerFacts:
    """What PostgreSQL says of itself."""

    version: str
    fsync: bool
    full_page_writes: bool


async def server_facts(control: ControlPool) -> ServerFacts:
    """Read version and durability settings.

    Raises:
        DatabaseUnavailable: The database does not answer.
    """
    async with control.transaction() as connection:
        row = await connection.fetchrow(sql.facts)
        assert row is not None
        return ServerFacts(row["version"], row["fsync"] == "on", row["full_page_writes"] == "on")


async def database_bytes(control: ControlPool) -> int:
    """Measure the database on disk, in bytes.

    Raises:
        DatabaseUnavailable: The database does not answer.
    """
    async with control.transaction() as connection:
        size: int = await connection.fetchval(sql.database_bytes)
        return size
