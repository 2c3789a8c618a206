"""Which partitions are made, by whom, and with which bounds."""

from __future__ import annotations

import asyncio
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest

from fernando_telemetry.domain.calendar import HOUR, TEN_MINUTES, PartitionLength
from fernando_telemetry.storage import partitions
from fernando_telemetry.storage.partitions import (
    BEGINNING,
    SPANS_AHEAD,
    Partitions,
    parse_bounds,
    raw_tables,
)
from fernando_telemetry.storage.sessions import ControlPool
from tests.conftest import session_settings

TABLE = "telemetry_events"


def at(*parts: int) -> datetime:
    return datetime(*parts, tzinfo=UTC)  # type: ignore[misc, arg-type]


@pytest.mark.parametrize(
    ("text", "bounds"),
    [
        (
            "FOR VALUES FROM ('2026-01-31 00:00:00+00') TO ('2026-02-01 00:00:00+00')",
            (at(2026, 1, 31), at(2026, 2, 1)),
        ),
        ("FOR VALUES FROM (MINVALUE) TO ('2024-12-01')", (BEGINNING, at(2024, 12, 1))),
        ("FOR VALUES FROM ('2024-12-01') TO ('2024-12-02')", (at(2024, 12, 1), at(2024, 12, 2))),
    ],
)
def test_bounds_are_read_as_postgresql_prints_them(
    text: str, bounds: tuple[datetime, datetime]
) -> None:
    assert parse_bounds(text) == bounds


def test_other_bounds_are_refused() -> None:
    with pytest.raises(ValueError, match="DEFAULT"):
        parse_bounds("DEFAULT")


async def names(connection: Any) -> set[str]:
    rows = await connection.fetch(
        "SELECT inhrelid::regclass::text AS name FROM pg_inherits "
        "WHERE inhparent = $1::text::regclass",
        TABLE,
    )
    return {row["name"] for row in rows}


async def test_servers_that_need_one_partition_make_it_once(database: str, connection: Any) -> None:
    pools = [ControlPool(session_settings(database), 1) for _ in range(4)]
    makers = [Partitions(pool, raw_tables()) for pool in pools]
    late = datetime.now(UTC) - timedelta(days=50)
    before = await names(connection)
    await asyncio.gather(
        *(maker.ensure({TABLE: [late, late + timedelta(days=1)]}) for maker in makers)
    )
    assert len(await names(connection) - before) == 2
    for pool in pools:
        await pool.close()


@pytest.mark.parametrize("length", [HOUR, TEN_MINUTES, 10])
async def test_the_length_may_change_on_a_live_database(
    database: str, connection: Any, length: PartitionLength
) -> None:
    """Shorter spans, then days: where spans of an hour lie, a day takes the gaps between them."""
    pool = ControlPool(session_settings(database), 1)
    noon = (datetime.now(UTC) - timedelta(days=20)).replace(
        hour=12, minute=0, second=0, microsecond=0
    )
    short, daily = Partitions(pool, raw_tables(length)), Partitions(pool, raw_tables())
    before = await names(connection)
    await short.ensure({TABLE: [noon]})
    await daily.ensure({TABLE: [noon, noon - timedelta(hours=3), noon + timedelta(hours=3)]})
    assert len(await names(connection) - before) == 3
    await connection.execute(
        f"INSERT INTO {TABLE} (event_id, event_timestamp, event_type, event_name, ingested_at, "
        "shard, flush_id) SELECT gen_random_uuid(), time, 'user_action', 'x', now(), 0, 1 FROM "
        "generate_series($1::timestamptz, $2::timestamptz, interval '10 minutes') AS time",
        noon - timedelta(hours=12),
        noon + timedelta(hours=11, minutes=59),
    )
    assert await connection.fetchval(f"SELECT count(*) FROM {TABLE}") == 144
    await pool.close()


async def test_short_partitions_are_made_a_day_of_spans_ahead(
    database: str, connection: Any
) -> None:
    pool = ControlPool(session_settings(database), 1)
    moment = (datetime.now(UTC) - timedelta(days=20)).replace(hour=12, minute=0, second=5)
    before = await names(connection)
    made = Partitions(pool, raw_tables(10))
    await made.ensure_ahead(moment, 3)
    found = sorted(await names(connection) - before)
    assert len(found) == 1 + SPANS_AHEAD
    assert found[0] == f"{TABLE}_p{moment:%Y%m%d}_1200"
    assert found[-1] == f"{TABLE}_p{moment:%Y%m%d}_1204"
    await made.ensure_ahead(moment + timedelta(seconds=10), 3)
    assert len(await names(connection) - before) == 2 + SPANS_AHEAD
    await pool.close()


async def test_one_partition_does_not_wait_for_many(
    database: str, connection: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A flush that needs one comes in between while another server makes sixty."""
    pools = [ControlPool(session_settings(database), 1) for _ in range(2)]
    many, one = (Partitions(pool, raw_tables(10)) for pool in pools)
    start = (datetime.now(UTC) - timedelta(days=20)).replace(hour=12, minute=0, second=0)
    # Its session is open by then, as a server's is.
    await one.ensure({TABLE: [start - timedelta(hours=2)]})
    before = await names(connection)
    begun, make = asyncio.Event(), Partitions._make

    async def told(self: Partitions, *given: Any) -> None:
        await make(self, *given)
        begun.set()

    monkeypatch.setattr(Partitions, "_make", told)
    making = asyncio.create_task(
        many.ensure({TABLE: [start + timedelta(seconds=10 * n) for n in range(60)]})
    )
    await begun.wait()
    await one.ensure({TABLE: [start - timedelta(hours=1)]})
    assert not making.done()
    await making
    assert len(await names(connection) - before) == 61
    for pool in pools:
        await pool.close()


async def test_above_the_limit_partitions_hold_a_day(
    database: str, connection: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(partitions, "MOST_PARTITIONS", 5)
    pool = ControlPool(session_settings(database), 1)
    before = await names(connection)
    assert len(before) == 2
    start = (datetime.now(UTC) - timedelta(days=20)).replace(hour=12, minute=0, second=0)
    made = Partitions(pool, raw_tables(10))
    await made.ensure({TABLE: [start + timedelta(minutes=n) for n in range(100)]})
    # Three short ones fill the limit; the last one holds the rest of the day.
    assert len(await names(connection) - before) == 3 + 1
    await pool.close()


async def test_a_partition_has_the_lean_indexes(connection: Any) -> None:
    rows = await connection.fetch(
        "SELECT tablename, count(*) AS indexes FROM pg_indexes "
        "WHERE tablename LIKE '%\\_p2%' GROUP BY tablename"
    )
    found = {row["tablename"].rsplit("_p", 1)[0]: row["indexes"] for row in rows}
    wanted = {table.name: len(table.indexes) for table in raw_tables()}
    assert {name: found[name] for name in wanted} == wanted
