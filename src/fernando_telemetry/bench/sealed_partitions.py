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
from fernando_telemetry.bench.tables import has_rows
from fernando_telemetry.storage.statements import load

sql = load("bench")

POLL_SECONDS: Final = 0.1
SEAL_SECONDS: Final = 3600.0


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


async def wait_until_sealed(
    address: str, connection: Connection, table: str, ended_by: datetime
) -> float:
    """Wait until the server says that no ended partition lacks its final indexes, and none does.

    Args:
        address: The server.
        connection: Looks into the catalogue.
        table: The partitioned table.
        ended_by: Partitions that end later need not be sealed.

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
                ended = await ended_partitions(connection, table, ended_by)
                if not ended.unsealed:
                    return took
            await asyncio.sleep(POLL_SECONDS)
    raise BenchFailed(f"After {SEAL_SECONDS:g} s there still are unsealed partitions of {table}.")


@dataclass(frozen=True, slots=True)
class EndedPartitions:
    """Partitions with rows whose time has passed.

    Attributes:
        hot: A partition whose time has not, as the pattern of those that are written to.
        sealed: Those with other indexes than it.
        unsealed: Those with the same.
    """

    hot: Partition
    sealed: list[Partition]
    unsealed: list[Partition]


async def ended_partitions(
    connection: Connection, table: str, ended_by: datetime
) -> EndedPartitions:
    """Tell by their indexes which of the partitions that ended by a moment are sealed.

    Raises:
        BenchFailed: No partition lies ahead, so that nothing tells what a hot one has.
    """
    found = await partitions_of(connection, table)
    if not found or found[-1].end <= datetime.now(UTC):
        raise BenchFailed(f"No partition of {table} lies ahead.")
    hot = found[-1]
    ended = [
        part for part in found if part.end <= ended_by and await has_rows(connection, part.name)
    ]
    return EndedPartitions(
        hot,
        [part for part in ended if part.indexes != hot.indexes],
        [part for part in ended if part.indexes == hot.indexes],
    )
