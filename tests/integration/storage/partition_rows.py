"""Fills partitions, and looks at what they carry."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from typing import Any

from fernando_telemetry.domain.calendar import HOUR
from fernando_telemetry.storage.index_sets import chosen
from fernando_telemetry.storage.partitions import Partitions, raw_tables
from fernando_telemetry.storage.sealing import Sealing
from fernando_telemetry.storage.sessions import ControlPool
from tests.conftest import session_settings

TABLE = "telemetry_events"
PAST = (datetime.now(UTC) - timedelta(days=3)).replace(hour=12, minute=0, second=0, microsecond=0)


async def make_partition(control: ControlPool, at: datetime = PAST, length: int = HOUR) -> str:
    """Make the events' partition of a time; gives its name."""
    await Partitions(control, raw_tables(length)).ensure({TABLE: [at]})
    return f"{TABLE}_p{at:%Y%m%d_%H%M}"


async def fill(connection: Any, rows: int, at: datetime = PAST) -> None:
    """Add events with users of 20 rows each that lie side by side."""
    await connection.execute(
        f"INSERT INTO {TABLE} (event_id, event_timestamp, event_type, event_name, user_id, "
        "license_id, event_data, ingested_at, shard, flush_id) "
        "SELECT gen_random_uuid(), $1::timestamptz + n * interval '1 ms', 'user_action', 'x', "
        "'user-' || n / 20, 'l', jsonb_build_object('n', n, 'text', repeat('x', 100)), now(), 0, 1 "
        "FROM generate_series(1, $2::int) AS n",
        at,
        rows,
    )


def sealer(
    database: str,
    control: ControlPool,
    *,
    indexes: str = "full",
    grace_seconds: float = 0.0,
    timeout_seconds: float = 30.0,
) -> Sealing:
    """Make what seals, as one server has it."""
    return Sealing(
        session_settings(database),
        control,
        chosen(indexes),
        grace_seconds=grace_seconds,
        timeout_seconds=timeout_seconds,
    )


async def indexes_of(connection: Any, partition: str) -> dict[str, bool]:
    """Give a partition's indexes by the short name, with their validity."""
    rows = await connection.fetch(
        "SELECT indexrelid::regclass::text AS name, indisvalid FROM pg_index "
        "WHERE indrelid = $1::text::regclass",
        partition,
    )
    return {row["name"].removeprefix(f"{partition}_"): row["indisvalid"] for row in rows}


def wanted(indexes: str, table: str = TABLE) -> dict[str, bool]:
    """Give the indexes of a set as `indexes_of` gives them, all valid."""
    return {index.name: True for index in chosen(indexes)[table]}
