"""The schema's rules, read from the catalogue of a migrated database."""

from __future__ import annotations

import asyncio
import re
import socket
from pathlib import Path
from typing import Any
from urllib.parse import parse_qs, urlsplit

import asyncpg
import pytest
from sqlalchemy import Connection

from fernando_telemetry.domain.errors import StartupError
from fernando_telemetry.embedded import EmbeddedPostgres
from fernando_telemetry.storage import migrating, schema
from fernando_telemetry.storage.migrating import engine_for, migrate, revisions
from fernando_telemetry.storage.statements import every_statement
from tests.conftest import session_settings, with_database

APPEND_ONLY = [table.name for table in schema.APPEND_ONLY_TABLES]


@pytest.mark.parametrize("table", APPEND_ONLY)
async def test_shard_is_not_null_and_part_of_every_key(connection: Any, table: str) -> None:
    kind = await connection.fetchrow(
        "SELECT format_type(atttypid, atttypmod) AS type, attnotnull FROM pg_attribute "
        "WHERE attrelid = $1::regclass AND attname = 'shard'",
        table,
    )
    assert dict(kind) == {"type": "smallint", "attnotnull": True}
    keys = await connection.fetch(
        "SELECT ARRAY(SELECT attname::text FROM pg_attribute a "
        "WHERE a.attrelid = i.indrelid AND a.attnum = ANY (i.indkey)) AS columns "
        "FROM pg_index i WHERE i.indrelid = $1::regclass AND i.indisunique",
        table,
    )
    assert all("shard" in key["columns"] for key in keys)


async def test_there_are_no_triggers(connection: Any) -> None:
    assert not await connection.fetch("SELECT tgname FROM pg_trigger WHERE NOT tgisinternal")


async def test_raw_rows_are_identified_in_full(connection: Any) -> None:
    """Without a primary key a table and its partitions need REPLICA IDENTITY FULL."""
    names = [table.name for table in schema.RAW_TABLES]
    rows = await connection.fetch(
        "SELECT c.relname::text, c.relreplident::text FROM pg_class c "
        "LEFT JOIN pg_inherits i ON i.inhrelid = c.oid "
        "WHERE c.relkind IN ('r', 'p') AND "
        "(c.relname = ANY ($1::text[]) OR i.inhparent::regclass::text = ANY ($1::text[]))",
        names,
    )
    assert len(rows) > len(names)
    assert {row["relreplident"] for row in rows} == {"f"}


async def test_brin_and_gin_stand_on_partitions_only(connection: Any) -> None:
    parents = await connection.fetch(
        "SELECT c.relname FROM pg_class c JOIN pg_am a ON a.oid = c.relam "
        "WHERE c.relkind = 'I' AND a.amname IN ('brin', 'gin')"
    )
    assert not parents
    assert await connection.fetchval(
        "SELECT count(*) FROM pg_class c JOIN pg_am a ON a.oid = c.relam "
        "WHERE c.relkind = 'i' AND a.amname = 'brin'"
    )


@pytest.mark.parametrize(("name", "text"), every_statement().items(), ids=lambda item: item[:40])
async def test_every_statement_prepares(connection: Any, name: str, text: str) -> None:
    assert text.strip(), name
    await connection.prepare(text)


@pytest.mark.parametrize(("name", "text"), every_statement().items(), ids=lambda item: item[:40])
def test_conflicts_are_settled_with_values_only(name: str, text: str) -> None:
    """Citus takes only IMMUTABLE functions there; timestamptz with an interval is STABLE."""
    _, found, settled = text.partition("ON CONFLICT")
    if found:
        assert not re.search(r"\bnow\(\)|clock_timestamp|interval|CURRENT_", settled), name


# PostgreSQL prints the generated columns' expressions in words of its own.
@pytest.mark.filterwarnings("ignore:Computed default on traces.end_time:UserWarning")
@pytest.mark.filterwarnings("ignore:Computed default on event_type_hours.p95_bucket:UserWarning")
@pytest.mark.filterwarnings("ignore:Computed default on event_type_user_hours.set_bits:UserWarning")
async def test_metadata_and_migrations_agree(database: str) -> None:
    from alembic.autogenerate import compare_metadata
    from alembic.migration import MigrationContext

    def compare(opened: Connection) -> list[Any]:
        def ours(_: Any, name: str | None, kind: str, reflected: bool, other: Any) -> bool:
            # Partitions and their indexes are made by the partition manager.
            partition = re.search(r"_(before_)?p\d{8}", name or "") is not None
            return not (reflected and other is None and partition)

        context = MigrationContext.configure(
            opened, opts={"include_object": ours, "compare_server_default": True}
        )
        found: list[Any] = compare_metadata(context, schema.metadata)
        return found

    engine = engine_for(database)
    async with engine.connect() as opened:
        assert await opened.run_sync(compare) == []
    await engine.dispose()


async def _empty(postgres: EmbeddedPostgres, name: str) -> str:
    admin = await asyncpg.connect(postgres.dsn)
    await admin.execute(f"CREATE DATABASE {name}")
    await admin.close()
    return with_database(postgres.dsn, name)


async def test_servers_that_start_at_once_migrate_once(postgres: EmbeddedPostgres) -> None:
    dsn = await _empty(postgres, "at_once")
    await asyncio.gather(*(migrate(session_settings(dsn), allowed=True) for _ in range(3)))
    opened = await asyncpg.connect(dsn)
    assert await opened.fetchval("SELECT count(*) FROM alembic_version") == 1
    assert await opened.fetchval("SELECT count(*) FROM installation") == 1
    await opened.close()


async def test_an_old_schema_is_refused_where_migrating_is_off(postgres: EmbeddedPostgres) -> None:
    dsn = await _empty(postgres, "migrate_off")
    with pytest.raises(StartupError, match="FERNANDO_MIGRATE is off"):
        await migrate(session_settings(dsn), allowed=False)


async def test_a_newer_schema_is_one_sentence(database: str, connection: Any) -> None:
    await connection.execute("UPDATE alembic_version SET version_num = '9999'")
    with pytest.raises(StartupError, match="newer than this program") as caught:
        await migrate(session_settings(database), allowed=True)
    assert "\n" not in str(caught.value)


async def test_a_changed_view_is_applied_anew(database: str, connection: Any) -> None:
    await connection.execute("DROP VIEW business_metrics CASCADE")
    await connection.execute("UPDATE installation SET idempotent_digest = 'another'")
    await migrate(session_settings(database), allowed=True)
    for view in ("business_metrics", "business_metrics_category_summary"):
        assert await connection.fetchval("SELECT to_regclass($1) IS NOT NULL", view)


async def test_the_schema_is_changed_behind_a_host_that_fell_silent(
    postgres: EmbeddedPostgres, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Each host of a DSN has the time-out for itself; the first one takes connections alone."""
    monkeypatch.setattr(migrating, "CONNECT_SECONDS", 0.3)
    dsn = await _empty(postgres, "behind_a_silent_host")
    folder = parse_qs(urlsplit(dsn).query)["host"][0]
    silent = socket.socket(socket.AF_UNIX)
    silent.bind(str(tmp_path / ".s.PGSQL.5432"))
    silent.listen()
    with silent:
        await migrating.upgrade(dsn.replace(f"host={folder}", f"host={tmp_path},{folder}"))
    connection = await asyncpg.connect(dsn)
    assert await connection.fetchval("SELECT version_num FROM alembic_version") == revisions()[-1]
    await connection.close()
