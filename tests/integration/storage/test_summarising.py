"""Hot partitions are found by their blooms soon after rows came, and nobody waits for it."""

from __future__ import annotations

import re
from collections.abc import AsyncIterator
from datetime import timedelta
from typing import Any

import asyncpg
import pytest

from fernando_telemetry.storage.sessions import ControlPool
from fernando_telemetry.storage.summarising import PAGES_LEFT, Summarising
from tests.conftest import session_settings
from tests.integration.storage.partition_rows import PAST, TABLE, fill, make_partition, sealer

ROWS = 60_000
LOOKUP = f"SELECT * FROM {TABLE} WHERE user_id = 'user-77'"


@pytest.fixture
async def summarising(database: str) -> AsyncIterator[Summarising]:
    made = Summarising(session_settings(database), 1.0)
    yield made
    await made.close()


async def pages_read(connection: Any, partition: str) -> int:
    """Count the pages of the partition that a lookup by bloom looks into."""
    await connection.execute("SET enable_seqscan = off")
    lookup = LOOKUP.replace(TABLE, partition)
    plan = await connection.fetch(f"EXPLAIN (ANALYZE, COSTS OFF) {lookup}")
    text = "\n".join(row[0] for row in plan)
    assert "lookup_bloom" in text, text
    found = re.search(r"Heap Blocks: lossy=(\d+)", text)
    assert found is not None, text
    return int(found[1])


async def test_what_is_summarised_is_found_in_few_pages(
    control: ControlPool, summarising: Summarising, connection: Any
) -> None:
    partition = await make_partition(control)
    await fill(connection, ROWS)
    pages = await connection.fetchval("SELECT pg_relation_size($1::text) / 8192", partition)
    assert pages > PAGES_LEFT + 10 * 64, "too few rows to prove anything"
    assert await pages_read(connection, partition) == pages
    assert await summarising.summarise()
    # One range that has the user, those at the end, and hardly a false positive.
    assert await pages_read(connection, partition) <= PAGES_LEFT + 3 * 64
    assert await summarising.summarise() == 0
    await fill(connection, ROWS)
    assert await summarising.summarise()
    assert await pages_read(connection, partition) <= PAGES_LEFT + 4 * 64
    assert await connection.fetchval(LOOKUP.replace("*", "count(*)")) == 40


async def test_one_server_at_a_time(
    control: ControlPool, summarising: Summarising, database: str, connection: Any
) -> None:
    await make_partition(control)
    await fill(connection, ROWS)
    other = Summarising(session_settings(database), 1.0)
    assert await summarising.summarise()
    assert await other.summarise() is None
    await summarising.close()
    while await other.summarise() is None:  # until PostgreSQL has noticed the end of the session
        pass
    assert await other.summarise() == 0
    await other.close()


async def test_a_lock_that_is_taken_is_not_waited_for(
    control: ControlPool, summarising: Summarising, database: str, connection: Any
) -> None:
    """As VACUUM, ANALYZE and index builds take it. Writers meanwhile write."""
    partition = await make_partition(control)
    await fill(connection, ROWS)
    holder = await asyncpg.connect(database)
    async with holder.transaction():
        await holder.execute(f"LOCK TABLE {partition} IN SHARE UPDATE EXCLUSIVE MODE")
        assert await summarising.summarise() == 0
        await fill(connection, 10)
    assert await summarising.summarise()
    await holder.close()


async def test_sealed_partitions_are_left_alone(
    control: ControlPool, summarising: Summarising, database: str, connection: Any
) -> None:
    await make_partition(control)
    await fill(connection, 100)
    sealing = sealer(database, control)
    while await sealing.seal_due(PAST.replace(hour=14)):
        pass
    await fill(connection, ROWS)
    assert await summarising.summarise() == 0


async def test_an_index_or_a_partition_that_is_gone_is_passed_over(
    control: ControlPool, summarising: Summarising, connection: Any
) -> None:
    """As sealing drops the one and retention the other, between the list and the turn."""
    partition = await make_partition(control)
    later = PAST + timedelta(hours=1)
    other = await make_partition(control, later)
    for at in (PAST, later):
        await fill(connection, ROWS, at)
    assert await summarising.summarise()
    await connection.execute(f"DROP INDEX {partition}_lookup_bloom")
    for at in (PAST, later):
        await fill(connection, ROWS, at)
    assert await summarising.summarise()
    await fill(connection, ROWS, later)
    await connection.execute(f"DROP TABLE {other}")
    # What is left of the first one's indexes is still kept up.
    await summarising.summarise()
    await fill(connection, ROWS)
    assert await summarising.summarise()


def own_function(refused: str) -> str:
    """Give the statement for a function that refuses sessions of an application's name."""
    return (
        "CREATE OR REPLACE FUNCTION own(value timestamptz) RETURNS timestamptz IMMUTABLE "
        f"LANGUAGE plpgsql AS $$BEGIN IF current_setting('application_name') = {refused} THEN "
        "RAISE EXCEPTION 'refused by a test'; END IF; RETURN value; END$$"
    )


async def test_a_partition_that_cannot_be_summarised_keeps_no_other_waiting(
    control: ControlPool, database: str, connection: Any
) -> None:
    """It fails, in this session alone, by an index of somebody's own."""
    failing = await make_partition(control)
    beside = await make_partition(control, PAST + timedelta(hours=1))
    await fill(connection, ROWS)
    await fill(connection, ROWS, PAST + timedelta(hours=1))
    await connection.execute(own_function("'test'"))
    await connection.execute(f"CREATE INDEX own_idx ON {failing} USING brin (own(ingested_at))")
    await connection.execute("SELECT brin_desummarize_range('own_idx', 0)")
    summarising = Summarising(session_settings(database), 1.0)
    with pytest.raises(ExceptionGroup) as raised:
        await summarising.summarise()
    assert raised.group_contains(asyncpg.RaiseError, match="refused by a test")
    assert await pages_read(connection, beside) <= PAGES_LEFT + 3 * 64
    await connection.execute(own_function("'none'"))
    await summarising.summarise()
    assert await pages_read(connection, failing) <= PAGES_LEFT + 3 * 64
    await summarising.close()
