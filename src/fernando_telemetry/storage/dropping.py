"""Drops a partition without making writers wait: DETACH CONCURRENTLY, then DROP."""

from __future__ import annotations

import structlog

from fernando_telemetry.storage.sessions import SessionSettings, connect, translated

log = structlog.get_logger(__name__)


async def drop_partition(
    settings: SessionSettings,
    parent: str,
    partition: str,
    *,
    is_attached: bool = True,
    is_half_detached: bool = False,
) -> None:
    """Detach a partition and drop it; can be called again where it was cut short.

    A plain DROP would lock the parent, behind the slowest query and before the next flush.
    Detaching waits for the transactions that may see the partition, and is given up after the
    lock time-out; the partition is then half detached and new queries do without it already.

    Args:
        settings: Session of the control database, opened for this: it has to be outside of
            transactions.
        parent: The partitioned table.
        partition: A partition of it, or one that was detached before. Both are identifiers.
        is_attached: False: it only has to be dropped.
        is_half_detached: An earlier attempt was cut short (`pg_inherits.inhdetachpending`).

    Raises:
        DatabaseUnavailable: A lock was not to be had, or the database does not answer.
    """
    detach = f"ALTER TABLE {parent} DETACH PARTITION {partition}"
    connection = await connect(settings)
    try:
        with translated():
            if is_half_detached:
                await connection.execute(f"{detach} FINALIZE")
            elif is_attached:
                await connection.execute(f"{detach} CONCURRENTLY")
            await connection.execute(f"DROP TABLE IF EXISTS {partition}")
    finally:
        connection.terminate()
    log.info("partition_dropped", table=parent, partition=partition)
