"""What the catalogue says about a table's partitions and their sealing."""

from __future__ import annotations

import asyncio
import time
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Final

from grpc import aio

from fernando.telemetry.v1 import AdminServiceStub, GetServerInfoRequest
from fernando_telemetry.bench.failure import BenchFailed
from fernando_telemetry.bench.server import Connection
from fernando_telemetry.storage.statements import load

sql = load("bench")

POLL_SECONDS: Final = 0.1
SEAL_SECONDS: Final = 600.0


@dataclass(frozen=True, slots=True)
class Partition:
    """A partition.

    Attributes:
        name: Its table.
        end: End of its time, exclusive.
        indexes: Definitions of its valid indexes, without names, sorted.
    """

    name: str
    end: datetime
    indexes: tuple[str, ...]


async def partitions_of(connection: Connection, table: str) -> list[Partition]:
    """Give a table's partitions, by their time."""
    rows = await connection.fetch(sql.partitions_of, table)
    return [Partition(row["name"], row["ends_at"], tuple(row["indexes"])) for row in rows]


async def wait_until_sealed(address: str) -> float:
    """Wait until the server says that no ended partition lacks its final indexes.

    Returns:
        Seconds it took.

    Raises:
        BenchFailed: It takes too long.
    """
    begun = time.monotonic()
    async with aio.insecure_channel(address) as channel:
        stub = AdminServiceStub(channel)
        while (took := time.monotonic() - begun) < SEAL_SECONDS:
            info = await stub.GetServerInfo(GetServerInfoRequest(), timeout=30)
            if not info.unsealed_partitions:
                return took
            await asyncio.sleep(POLL_SECONDS)
    raise BenchFailed(f"After {SEAL_SECONDS:g} s there still are unsealed partitions.")


async def hot_and_sealed(
    connection: Connection, table: str, ended_by: datetime
) -> tuple[Partition, list[Partition]]:
    """Give a partition that is not sealed, and those that ended and are.

    Args:
        connection: Looks into the catalogue.
        table: The partitioned table.
        ended_by: Later ones do not count as ended.

    Raises:
        BenchFailed: Ended partitions have the indexes of hot ones: nothing seals them.
    """
    found = await partitions_of(connection, table)
    hot = found[-1]
    sealed = [part for part in found if part.end <= ended_by and part.indexes != hot.indexes]
    if hot.end <= datetime.now(UTC) or not sealed:
        raise BenchFailed(f"No ended partition of {table} was sealed.")
    return hot, sealed
