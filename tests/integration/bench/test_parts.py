"""What the figures rest on: acks counted right, the very same rows, the catalogue read right."""

from __future__ import annotations

import os
import time
from collections import Counter
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import asyncpg
import pytest

from fernando_telemetry.app import Application
from fernando_telemetry.bench.failure import BenchFailed
from fernando_telemetry.bench.load_stream import LoadStream
from fernando_telemetry.bench.memory import MemoryWatch, postgres_pids, pss_bytes, server_pids
from fernando_telemetry.bench.raw_copy import RawCopy, read_payloads
from fernando_telemetry.bench.records import KINDS, Batch, base_micros, make_batches
from fernando_telemetry.bench.sealed_partitions import (
    ended_partitions,
    partitions_of,
    wait_until_sealed,
)
from fernando_telemetry.bench.server import Server
from fernando_telemetry.bench.stand import IngestOptions, Stand
from fernando_telemetry.bench.tables import TABLES, columns_of, make_like
from fernando_telemetry.embedded import EmbeddedPostgres

RECORDS = 300


def _batches(kind: str) -> list[Batch]:
    return make_batches(kind, RECORDS, base_micros(datetime.now(UTC)), pool_bytes=200_000)


async def _send(server: Application, kind: str, seconds: float = 0.2) -> LoadStream:
    stream = LoadStream("bench", _batches(kind), 0)
    await stream.open(server.address)
    await stream.run(time.monotonic() + seconds)
    await stream.close()
    return stream


async def _rows(connection: Any, table: str) -> Counter[Any]:
    columns = ", ".join(await columns_of(connection, table))
    texts = await connection.fetch(f"SELECT ({columns})::text FROM {table}")
    return Counter(row[0] for row in texts)


@pytest.mark.parametrize("kind", KINDS)
async def test_what_is_counted_is_stored_and_copied_back_unchanged(
    server: Application, connection: Any, kind: str
) -> None:
    stream = await _send(server, kind)
    table = TABLES[kind]
    stored = await _rows(connection, table)
    assert stream.accepted == stored.total() > 0
    assert len(stream.latencies_ms) * RECORDS == stream.accepted
    columns = await columns_of(connection, table)
    payloads = await read_payloads(connection, table, columns, RECORDS, payloads=1_000_000)
    # The last part of a payload may be missing: only whole transactions are kept.
    assert sum(payload.rows for payload in payloads) == stream.accepted
    copy = RawCopy(connection, table, columns, payloads)
    for payload in payloads:
        await copy.copy(payload)
    assert copy.rows == stream.accepted
    assert await _rows(connection, table) == stored + stored


async def test_a_slice_of_copy_counts_its_rows(server: Application, connection: Any) -> None:
    stream = await _send(server, "events")
    copy = await RawCopy.of_stored(connection, "events")
    part = await copy.run(0.05)
    assert part.rows == copy.rows
    assert part.seconds >= 0.05
    stored = await connection.fetchval("SELECT count(*) FROM telemetry_events")
    assert stored == stream.accepted + copy.rows


async def test_nothing_stored_is_nothing_to_copy(server: Application, connection: Any) -> None:
    assert server.address
    with pytest.raises(BenchFailed, match="No row of telemetry_events"):
        await RawCopy.of_stored(connection, "events")


async def test_a_rejected_record_ends_the_load(server: Application) -> None:
    (batch,) = make_batches("events", 1, 0, pool_bytes=0)  # of 1970
    stream = LoadStream("bench", [batch], 0)
    await stream.open(server.address)
    with pytest.raises(BenchFailed, match="not stored whole"):
        await stream.run(time.monotonic() + 5)
    await stream.close()


async def test_a_stopped_server_ends_the_load(server: Application) -> None:
    stream = LoadStream("bench", _batches("events"), 0)
    await stream.open(server.address)
    await stream.run(time.monotonic() + 0.1)
    await server.stop()
    with pytest.raises(BenchFailed, match="elsewhere"):
        await stream.run(time.monotonic() + 5)
    await stream.close()


async def test_a_lost_row_is_noticed(
    server: Application, connection: Any, database: str, tmp_path: Path
) -> None:
    stream = await _send(server, "events")
    own = Server(server.address, database, os.getpid(), tmp_path, {})
    stand = Stand(IngestOptions(), own, connection, 0.0)
    assert await stand.require_rows(stream.accepted) == stream.accepted
    await connection.execute(
        "DELETE FROM telemetry_events WHERE event_id = "
        "(SELECT event_id FROM telemetry_events LIMIT 1)"
    )
    with pytest.raises(BenchFailed, match=f"{stream.accepted - 1} are stored"):
        await stand.require_rows(stream.accepted)


def test_memory_is_that_of_the_server_without_postgresql(postgres: EmbeddedPostgres) -> None:
    own = server_pids(os.getpid())
    assert os.getpid() in own
    assert postgres.postmaster_pid not in own
    assert postgres.postmaster_pid in postgres_pids(os.getpid())
    watch = MemoryWatch(os.getpid())
    assert watch.look() >= pss_bytes(os.getpid()) * 0.9 > 10_000_000
    assert watch.highest_bytes > 0


async def test_sealed_partitions_are_told_by_their_indexes(connection: Any) -> None:
    now = datetime.now(UTC)
    before = await partitions_of(connection, "telemetry_events")
    assert before == sorted(before, key=lambda part: part.end)
    day = (now - timedelta(days=3)).replace(hour=0, minute=0, second=0, microsecond=0)
    names = ("sealed", "lean", "empty")
    for place, name in enumerate(names):
        start = day + timedelta(hours=place)
        await make_like(connection, name, before[-1].name)
        await connection.execute(
            f"ALTER TABLE telemetry_events ATTACH PARTITION {name} "
            f"FOR VALUES FROM ('{start}') TO ('{start + timedelta(hours=1)}')"
        )
        if name != "empty":
            await connection.execute(
                "INSERT INTO telemetry_events "
                "(event_id, event_timestamp, event_type, event_name, ingested_at, shard, flush_id) "
                "VALUES (gen_random_uuid(), $1, 'user_action', 'n', now(), 0, 1)",
                start,
            )
    await connection.execute("CREATE INDEX ON sealed (user_id, event_timestamp)")
    ended = await ended_partitions(connection, "telemetry_events", now)
    assert ended.hot == before[-1]
    assert [part.name for part in ended.sealed] == ["sealed"]
    assert [part.name for part in ended.unsealed] == ["lean"]
    assert ended.sealed[0].end == day + timedelta(hours=1)
    # One that had not ended by then needs no index.
    until_then = await ended_partitions(connection, "telemetry_events", day + timedelta(hours=1))
    assert until_then.unsealed == []


async def test_sealing_is_waited_for_until_nothing_is_left(
    server: Application, connection: Any
) -> None:
    seconds = await wait_until_sealed(
        server.address, connection, "telemetry_events", datetime.now(UTC)
    )
    assert 0 <= seconds < 30


async def test_a_table_like_a_partition_has_its_indexes(connection: Any) -> None:
    (*_, hot) = await partitions_of(connection, "telemetry_events")
    await make_like(connection, "bench_hot", hot.name)
    definitions = await connection.fetch(
        "SELECT substring(indexdef FROM ' USING .*') FROM pg_indexes WHERE tablename = $1",
        "bench_hot",
    )
    assert sorted(row[0] for row in definitions) == sorted(hot.indexes)
    with pytest.raises(asyncpg.UndefinedTableError):
        await make_like(connection, "bench_hot", "absent")
