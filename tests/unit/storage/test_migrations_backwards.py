"""Migrations step by step: what a downgrade takes away, and what an upgrade brings along."""

from __future__ import annotations

import math
from collections.abc import Callable
from datetime import UTC, datetime, timedelta

import asyncpg
from alembic import command
from alembic.config import Config
from sqlalchemy import Connection

from fernando_telemetry.domain.limits import EVENT_NAMES_PER_HOUR
from fernando_telemetry.domain.log_histogram import BASE, ZERO_BUCKET
from fernando_telemetry.embedded import EmbeddedPostgres
from fernando_telemetry.storage.migrating import engine_for, migrate, scripts_folder
from fernando_telemetry.storage.statements import load
from tests.conftest import session_settings, with_database


async def empty_database(postgres: EmbeddedPostgres, name: str) -> str:
    """Create a database and give its DSN."""
    admin = await asyncpg.connect(postgres.dsn)
    await admin.execute(f"CREATE DATABASE {name}")
    await admin.close()
    return with_database(postgres.dsn, name)


async def run_alembic(dsn: str, run: Callable[[Config, str], None], revision: str) -> None:
    """Move a database to a revision."""
    config = Config()
    config.set_main_option("script_location", str(scripts_folder()))
    config.set_main_option("path_separator", "os")

    def move(connection: Connection) -> None:
        config.attributes["connection"] = connection
        run(config, revision)

    engine = engine_for(dsn)
    async with engine.connect() as connection:
        await connection.run_sync(move)
        await connection.commit()
    await engine.dispose()


async def test_down_and_up_again(postgres: EmbeddedPostgres) -> None:
    dsn = await empty_database(postgres, "down_and_up")
    await migrate(session_settings(dsn), allowed=True)
    opened = await asyncpg.connect(dsn)
    relations = "SELECT count(*) FROM pg_class WHERE relnamespace = 'public'::regnamespace"
    types = "SELECT count(*) FROM pg_type WHERE typtype = 'e'"
    whole = await opened.fetchval(relations), await opened.fetchval(types)
    await run_alembic(dsn, command.downgrade, "base")
    left = await opened.fetch(
        "SELECT relname::text FROM pg_class WHERE relnamespace = 'public'::regnamespace"
    )
    assert {row["relname"] for row in left} == {"alembic_version", "alembic_version_pkc"}
    assert await opened.fetchval(types) == 0
    await migrate(session_settings(dsn), allowed=True)
    assert (await opened.fetchval(relations), await opened.fetchval(types)) == whole
    await opened.close()


async def test_events_of_before_come_into_the_roll_up(postgres: EmbeddedPostgres) -> None:
    dsn = await empty_database(postgres, "events_of_before")
    await run_alembic(dsn, command.upgrade, "0005")
    opened = await asyncpg.connect(dsn)
    await opened.execute(
        "CREATE TABLE before PARTITION OF telemetry_events FOR VALUES FROM (MINVALUE) TO (MAXVALUE)"
    )
    await opened.execute(
        "INSERT INTO telemetry_events (event_id, event_timestamp, event_type, event_name,"
        " license_id, user_id, duration_ms, ingested_at, shard, flush_id)"
        " SELECT gen_random_uuid(), '2026-05-17T00:30:00Z'::timestamptz + n * interval '1 s',"
        " (ARRAY['user_action', 'error_event'])[1 + n % 2]::event_type, 'name ' || n % 1500,"
        " nullif('l' || n % 5000 / 4000, 'l1'), nullif('u' || n % 300, 'u7'),"
        " nullif(n % 7, 3)::float8 * 1.7, now(), n % 5, 1"
        " FROM generate_series(1, 5000) AS n"
    )
    await migrate(session_settings(dsn), allowed=True)
    raw = await opened.fetch(
        "SELECT date_trunc('hour', event_timestamp, 'UTC'), coalesce(license_id, ''),"
        " event_type::text, count(*), count(duration_ms),"
        " round(coalesce(sum(duration_ms), 0)::numeric, 6)"
        " FROM telemetry_events GROUP BY 1, 2, 3 ORDER BY 1, 2, 3"
    )
    kept = await opened.fetch(
        "SELECT hour, license_id, event_type::text, sum(event_count)::bigint,"
        " sum(duration_count)::bigint, round(sum(duration_sum)::numeric, 6)"
        " FROM event_hours GROUP BY 1, 2, 3 ORDER BY 1, 2, 3"
    )
    assert [tuple(row) for row in kept] == [tuple(row) for row in raw]
    assert await opened.fetchval(
        "SELECT bool_and(duration_count = (SELECT coalesce(sum(c), 0) FROM unnest(duration_counts)"
        " AS c) AND cardinality(duration_buckets) = cardinality(duration_counts))"
        " FROM event_hours"
    )
    proofs = load("event_user_rollup")
    day = datetime(2026, 5, 17, tzinfo=UTC)
    for compare in (proofs.compare_hours, proofs.compare_type_hours):
        (found,) = await opened.fetch(compare, day, day + timedelta(days=1), [])
        assert found["groups"]
        assert not found["differences"]
    # 1,000 names of an hour and licence keep theirs, of 1,500 that the fullest one has.
    assert (
        await opened.fetchval(
            "SELECT max(names) FROM (SELECT count(DISTINCT event_name)"
            " FILTER (WHERE event_name <> '__other__') AS names"
            " FROM event_hours GROUP BY hour, license_id) AS counted"
        )
        == EVENT_NAMES_PER_HOUR
    )
    buckets = await opened.fetch(
        "SELECT DISTINCT b FROM event_hours, unnest(duration_buckets) AS b ORDER BY b"
    )
    durations = [1.7 * factor for factor in (1, 2, 4, 5, 6)]
    assert [row["b"] for row in buckets] == [
        ZERO_BUCKET,
        *(math.ceil(math.log(one) / math.log(BASE)) for one in durations),
    ]
    await opened.close()
