"""`export` as a person runs it: Parquet files that DuckDB reads, whole or not at all."""

# What is looked at here are files that another process writes.
# ruff: noqa: ASYNC110, ASYNC240

from __future__ import annotations

import asyncio
import fcntl
import hashlib
import json
import os
import pty
import re
import shlex
import signal
import socket
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import duckdb
import pyarrow.parquet as pq
import pytest
from grpc import aio

from fernando_telemetry.app import Application
from fernando_telemetry.cli.export_stream import ExportStream
from fernando_telemetry.domain.calendar import midnight
from fernando_telemetry.settings import Settings
from tests.e2e.processes import environment
from tests.e2e.test_cli_send_query import PROGRAM, Ended, read_terminal, run
from tests.integration.ingest.locks import held
from tests.integration.ingest.records import columns, event, kpi, sample, span
from tests.integration.queries import rows
from tests.integration.queries.exports import EVENT, asked, export, ingest, stamped
from tests.integration.storage.lanes import flush, open_lane
from tests.ports import free_port


@pytest.fixture
def target(server: Application) -> tuple[str, str]:
    """The flags that name the test's server."""
    return ("--target", server.address)


@pytest.fixture
def out(tmp_path: Path) -> Path:
    """Where files go."""
    return tmp_path / "exported"


def now() -> datetime:
    return datetime.now(UTC)


def asked_of(folder: Path, what: str) -> list[tuple[Any, ...]]:
    """Ask DuckDB about the files of a kind, called `records`."""
    with duckdb.connect() as database:
        database.execute("SET TimeZone = 'UTC'")
        text = f"CREATE VIEW records AS FROM read_parquet('{folder}/day=*/*.parquet')"
        database.execute(text)
        found: list[tuple[Any, ...]] = database.execute(what).fetchall()
        return found


def files_in(folder: Path) -> list[str]:
    """Give all files below a folder, those of exports' own bookkeeping aside."""
    found = (path for path in folder.rglob("*") if path.is_file() and path.name != ".lock")
    return sorted(str(path.relative_to(folder)) for path in found)


def check(folder: Path, manifest: dict[str, Any]) -> None:
    """Hold a manifest against its files."""
    assert json.loads((folder / f"manifests/{manifest['number']:06}.json").read_text()) == manifest
    for entry in manifest["files"]:
        path = folder / entry["path"]
        assert path.stat().st_size == entry["size_bytes"]
        assert hashlib.sha256(path.read_bytes()).hexdigest() == entry["sha256"]
        assert pq.read_metadata(path).num_rows == entry["row_count"]
    assert sum(entry["row_count"] for entry in manifest["files"]) == manifest["row_count"]
    assert manifest["schema_version"] == 1
    assert manifest["next_token"]


async def exported(kind: str, out: Path, *arguments: str) -> dict[str, Any]:
    """Export and give the manifest."""
    ended = (await run("export", kind, "--out", str(out), "--json", *arguments)).checked()
    (manifest,) = ended.rows
    check(out / kind, manifest)
    assert f"{manifest['row_count']:,} " in ended.err
    return dict(manifest)


async def test_duckdb_reads_every_kind(
    channel: aio.Channel, connection: Any, target: tuple[str, str], out: Path
) -> None:
    yesterday = midnight(now()) - timedelta(hours=1)
    await ingest(
        channel,
        events=[
            stamped(event("a", event_data='{"n": 1}', tags=["x", "y z"]), "event_timestamp", at)
            for at in (yesterday, now())
        ],
        metric_columns=columns(1, 2, 4.5),
        system_metrics=[stamped(sample("m", labels={"k": "v"}), "metric_timestamp", yesterday)],
        business_metrics=[kpi("mrr", metric_value="49.90", currency="EUR", dimensions={"p": "x"})],
        spans=[span("s", duration_ms=1.5, tags={"k": "v"})],
    )
    for kind, count in (("events", 2), ("metrics", 4), ("business", 1), ("spans", 1)):
        manifest = await exported(kind, out, *target)
        assert manifest["row_count"] == count
        assert asked_of(out / kind, "SELECT count(*) FROM records") == [(count,)]
    assert asked_of(
        out / "events",
        "SELECT day, event_type, event_data->>'n', tags, event_timestamp, event_id FROM records "
        "ORDER BY event_timestamp",
    ) == [
        (
            row["event_timestamp"].date(),
            "user_action",
            "1",
            ["x", "y z"],
            row["event_timestamp"],
            str(row["event_id"]),
        )
        for row in await connection.fetch("SELECT * FROM telemetry_events ORDER BY 2")
    ]
    assert asked_of(out / "business", "SELECT metric_value::text, dimensions->>'p' FROM records")[
        0
    ] == ("49.900000000000000000", "x")
    assert asked_of(
        out / "metrics", "SELECT sum(metric_value), min(labels), max(labels) FROM records"
    ) == [(8.5, '{"k": "v"}', "{}")]
    (path,) = (out / "spans").glob("day=*/*.parquet")
    file = pq.ParquetFile(path)
    assert file.schema_arrow.metadata[b"fernando_telemetry.schema_version"] == b"1"
    assert file.metadata.row_group(0).column(0).compression == "ZSTD"


async def test_incremental_exports_have_every_record_once(
    channel: aio.Channel, connection: Any, target: tuple[str, str], out: Path
) -> None:
    done = asyncio.Event()

    async def write(writer: int) -> None:
        while not done.is_set():
            await ingest(channel, events=[event(f"w{writer}") for _ in range(50)])

    writers = [asyncio.create_task(write(number)) for number in range(3)]
    for _ in range(4):
        await exported("events", out, "--incremental", *target)
    done.set()
    await asyncio.gather(*writers)
    last = await exported("events", out, "--incremental", *target)
    again = await exported("events", out, "--incremental", *target)
    assert again["row_count"] == 0
    assert again["files"] == []
    assert again["after_token"] == last["next_token"]
    stored = [
        str(row[0]) for row in await connection.fetch("SELECT event_id FROM telemetry_events")
    ]
    found = [row[0] for row in asked_of(out / "events", "SELECT event_id FROM records")]
    assert sorted(found) == sorted(stored)


async def test_a_range_and_then_what_came_later(
    channel: aio.Channel, target: tuple[str, str], out: Path
) -> None:
    times = [now() - timedelta(minutes=minutes) for minutes in (30, 5)]
    made = [stamped(event(f"e{n}"), "event_timestamp", at) for n, at in enumerate(times)]
    await ingest(channel, events=made)
    first = await exported("events", out, "--last", "10m", *target)
    assert first["row_count"] == 1
    assert first["start_time"] < first["end_time"]
    late = stamped(event("late"), "event_timestamp", times[0])
    await ingest(channel, events=[late])
    assert (await exported("events", out, "--incremental", *target))["row_count"] == 1
    names = asked_of(out / "events", "SELECT event_name FROM records ORDER BY 1")
    assert names == [("e1",), ("late",)]


async def test_a_folder_holds_one_export_and_what_goes_on_from_it(
    channel: aio.Channel, target: tuple[str, str], out: Path
) -> None:
    await ingest(channel, events=[event("a")])
    await exported("events", out, *target)
    before = files_in(out)
    flags = ("--out", str(out), *target)
    refused = await run("export", "events", *flags)
    assert refused.code == 1
    assert "has an export: go on from it with --incremental" in refused.err
    refused = await run("export", "events", "--incremental", "--filter", 'source = "a"', *flags)
    assert refused.code == 1
    assert "was exported with the filter ''" in refused.err
    refused = await run("export", "events", "--incremental", "--last", "1h", *flags)
    assert refused.code == 2
    with (out / "events/manifests/.lock").open("wb") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        refused = await run("export", "events", "--incremental", *flags)
    assert refused.code == 1
    assert "Another export writes into" in refused.err
    (out / "events/manifests/000002.json").write_text("{}")
    refused = await run("export", "events", "--incremental", *flags)
    assert refused.code == 1
    assert "no manifest that this version can go on from" in refused.err
    (out / "events/manifests/000002.json").unlink()
    assert files_in(out) == before


async def test_refusals_of_the_server_leave_nothing(target: tuple[str, str], out: Path) -> None:
    for arguments, word in (
        (("--filter", "secret = 1"), "INVALID_FILTER"),
        (("--min-commit-token", "x"), "INVALID_FIELD"),
    ):
        refused = await run("export", "events", "--out", str(out), *arguments, *target)
        assert refused.code == 1
        assert word in refused.err
        assert not out.exists()
    (out / "events").mkdir(parents=True)
    (out / "mine").write_text("mine")
    refused = await run("export", "events", "--out", str(out), "--target", "127.0.0.1:1")
    assert refused.code == 1
    assert "No server answers" in refused.err
    assert sorted(str(path.relative_to(out)) for path in out.rglob("*")) == ["events", "mine"]


async def test_one_that_is_broken_off_says_so_and_leaves_nothing(out: Path) -> None:
    with socket.create_server(("127.0.0.1", 0)) as silent:
        silent.setblocking(False)
        address = f"127.0.0.1:{silent.getsockname()[1]}"
        process = await asyncio.create_subprocess_exec(
            *(*PROGRAM, "export", "events", "--out", str(out), "--target", address),
            stdout=asyncio.subprocess.PIPE,
            stderr=asyncio.subprocess.PIPE,
            env=environment(),
        )
        async with asyncio.timeout(60):
            accepted, _ = await asyncio.get_running_loop().sock_accept(silent)
            process.send_signal(signal.SIGINT)
            printed, err = await process.communicate()
        accepted.close()
    assert (process.returncode, printed) == (130, b"")
    assert err == b"fernando-telemetry: broken off; nothing of it was kept.\n"
    assert not out.exists()


async def many(connection: Any, count: int = 30_000) -> None:
    """Store events that make some megabytes of Parquet."""
    day = midnight(now())
    texts = (hashlib.sha256(str(n).encode()).hexdigest() for n in range(count))
    made = [rows.event(day, session_id=text, flush_id=0) for text in texts]
    await rows.copy(connection, "telemetry_events", made)


async def in_shell(before: str, *arguments: str) -> Ended:
    """Run the CLI behind a command of the shell."""
    process = await asyncio.create_subprocess_exec(
        *("bash", "-c", f"{before}; exec {shlex.join([*PROGRAM, *arguments])}"),
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.PIPE,
        env=environment(PYTHONUTF8="1"),
    )
    async with asyncio.timeout(60):
        printed, err = await process.communicate()
    assert process.returncode is not None
    assert b"Traceback" not in err
    return Ended(process.returncode, printed.decode(), err.decode())


async def test_where_nothing_more_fits_nothing_is_kept(
    channel: aio.Channel, connection: Any, target: tuple[str, str], out: Path
) -> None:
    await ingest(channel, events=[event("before")])
    await exported("events", out, "--incremental", *target)
    before = files_in(out)
    # In the flush of a lane that is alive, so that they come behind the token.
    await connection.execute("SELECT pg_advisory_lock(1179603534, 77)")
    await open_lane(connection, 77)
    day = midnight(now())
    times = [day + timedelta(microseconds=n) for n in range(30_000)]
    await flush(connection, 77, 1, *times)
    flags = ("export", "events", "--out", str(out), "--incremental", *target)
    failed = await in_shell("ulimit -f 200", *flags)  # of 1,024 bytes
    assert failed.code == 1
    assert "failed: File too large. Nothing of it was kept." in failed.err
    assert files_in(out) == before
    manifest = await exported("events", out, "--incremental", *target)
    assert manifest["row_count"] == 30_000
    assert asked_of(out / "events", "SELECT count(*) FROM records") == [(30_001,)]


async def test_a_folder_that_cannot_be_written(
    channel: aio.Channel, target: tuple[str, str], tmp_path: Path
) -> None:
    await ingest(channel, events=[event("a")])
    (tmp_path / "file").write_text("mine")
    failed = await run("export", "events", "--out", str(tmp_path / "file/below"), *target)
    assert failed.code == 1
    assert "Not a directory" in failed.err
    (tmp_path / "out/events").mkdir(parents=True)
    # Where a day's folder has to be there is a file.
    (tmp_path / f"out/events/day={now():%Y-%m-%d}").write_text("mine")
    failed = await run("export", "events", "--out", str(tmp_path / "out"), *target)
    assert failed.code == 1
    assert "File exists" in failed.err
    assert files_in(tmp_path / "out") == [f"events/day={now():%Y-%m-%d}"]


async def test_one_that_was_killed_is_cleared_away_by_the_next(
    connection: Any, target: tuple[str, str], out: Path
) -> None:
    await many(connection)
    tomorrow = midnight(now()) + timedelta(days=1)
    await rows.copy(connection, "telemetry_events", [rows.event(tomorrow, flush_id=0)])
    partition = await connection.fetchval(
        "SELECT tableoid::regclass::text FROM telemetry_events WHERE event_timestamp = $1", tomorrow
    )
    flags = ("export", "events", "--out", str(out), *target)
    # It cannot come to its end, however long it takes to see its first file.
    async with held(connection, partition):
        process = await asyncio.create_subprocess_exec(*PROGRAM, *flags, env=environment())
        async with asyncio.timeout(60):
            while not list(out.glob("events/day=*/.part-*.tmp")):
                await asyncio.sleep(0.001)
        process.send_signal(signal.SIGKILL)
        await process.wait()
    # One that had just published its files, and not its manifest.
    day = next(out.glob("events/day=*"))
    (day / "part-000001-0007.parquet").write_bytes(b"half")
    (day / "mine.parquet.txt").write_text("kept")
    assert list(out.glob("events/manifests/*.json")) == []
    manifest = await exported("events", out, *target)
    assert manifest["row_count"] == 30_001
    assert files_in(out) == sorted(
        [
            "events/manifests/000001.json",
            f"events/{day.name}/mine.parquet.txt",
            *(f"events/{entry['path']}" for entry in manifest["files"]),
        ]
    )


async def test_what_retention_took_is_said(
    channel: aio.Channel, connection: Any, target: tuple[str, str], out: Path
) -> None:
    await exported("events", out, "--incremental", *target)
    day = midnight(now()) - timedelta(days=3)
    await connection.execute(
        f"CREATE TABLE past PARTITION OF telemetry_events "
        f"FOR VALUES FROM ('{day}') TO ('{day + timedelta(days=1)}')"
    )
    await connection.execute("SELECT pg_advisory_lock(1179603534, 77)")
    await open_lane(connection, 77)
    await flush(connection, 77, 1, day, day)
    await connection.execute("DROP TABLE past")
    ended = await run("export", "events", "--out", str(out), "--incremental", "--json", *target)
    (manifest,) = ended.checked().rows
    assert manifest["expired_row_count"] == 2
    assert manifest["expired_before"]
    assert "2 more had been committed since the last export and are gone" in ended.err


async def test_a_terminal_shows_how_far_it_is(
    connection: Any, target: tuple[str, str], out: Path
) -> None:
    await many(connection)
    plain = await run("export", "events", "--out", str(out / "plain"), *target)
    assert "MB" not in plain.checked().err
    ours, theirs = pty.openpty()
    process = await asyncio.create_subprocess_exec(
        *(*PROGRAM, "export", "events", "--out", str(out / "bar"), *target),
        stderr=theirs,
        env=environment(COLUMNS="100", TERM="xterm", PYTHONUTF8="1"),
    )
    os.close(theirs)
    async with asyncio.timeout(60):
        _, shown = await asyncio.gather(process.wait(), asyncio.to_thread(read_terminal, ours))
    os.close(ours)
    assert re.search(rb"[0-9,]+ rows, [0-9]+ MB", shown)


async def taken_from_two(settings: Settings, request: Any) -> tuple[ExportStream, list[str]]:
    """Take an export from a server that another one replaces meanwhile; gives its event ids."""
    lasting = settings.model_copy(update={"port": free_port()})
    first, second = Application(lasting), Application(lasting)
    await first.start()

    async def replace() -> None:
        await first.stop()
        await second.start()

    replacing: asyncio.Task[None] | None = None
    found: list[str] = []
    async with aio.insecure_channel(first.address) as channel:
        stream = ExportStream(channel, request)
        async for batch in stream.batches():
            found += batch.column("event_id").to_pylist()
            replacing = replacing or asyncio.create_task(replace())
    assert replacing is not None
    await replacing
    await second.stop()
    assert stream.cuts
    return stream, found


async def test_a_stream_that_is_cut_goes_on_at_the_next_server(
    settings: Settings, connection: Any
) -> None:
    await many(connection)
    _, found = await taken_from_two(settings, asked(EVENT))
    assert len(found) == len(set(found)) == 30_000


async def test_a_stream_that_is_cut_still_tells_what_retention_took(
    settings: Settings, serving: Any, connection: Any
) -> None:
    async with serving(settings) as app, aio.insecure_channel(app.address) as channel:
        token = (await export(channel, EVENT)).token
    day = midnight(now())
    gone = day - timedelta(days=3)
    await connection.execute(
        f"CREATE TABLE gone PARTITION OF telemetry_events "
        f"FOR VALUES FROM ('{gone}') TO ('{gone + timedelta(days=1)}')"
    )
    await connection.execute("SELECT pg_advisory_lock(1179603534, 77)")
    await open_lane(connection, 77)
    await flush(connection, 77, 1, gone, gone)
    await flush(connection, 77, 2, *[day] * 30_000, session_id="x" * 200)
    await connection.execute("DROP TABLE gone")
    stream, found = await taken_from_two(settings, asked(EVENT, after_token=token))
    assert len(found) == len(set(found)) == 30_000
    assert stream.manifest.row_count < 30_000
    assert stream.manifest.expired_row_count == 2
