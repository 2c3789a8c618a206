"""`rollups verify` and `rollups rebuild` as a person runs them, beside a real server."""

from __future__ import annotations

import asyncio
import os
import pty
import re
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest
from grpc import aio

from fernando_telemetry.app import Application
from fernando_telemetry.settings import Settings
from fernando_telemetry.storage.sessions import ControlPool
from tests.conftest import Serving
from tests.e2e.processes import environment
from tests.e2e.test_cli_send_query import PATIENCE_SECONDS, PROGRAM, read_terminal, run
from tests.integration.ingest.ingest_call import ingest, request
from tests.integration.ingest.records import event, stamp
from tests.integration.queries.rows import copy, make_partition
from tests.integration.queries.rows import event as event_row


@pytest.fixture
def place(server: Application) -> tuple[str, str]:
    """The flags that name the test's database."""
    return ("--dsn", server.dsn)


async def test_verify_finds_and_rebuild_mends(
    channel: aio.Channel, connection: Any, control: ControlPool, place: tuple[str, str]
) -> None:
    await ingest(channel, request(*(event(f"n{number}") for number in range(5))))
    said = (await run("rollups", "verify", *place)).checked()
    assert "event_hours: " in said.out
    assert "5 raw rows, 5 groups: equal." in said.out
    assert re.search(
        r"^event_type_user_hours: \d+ hours, by event_user_hours, ", said.out, re.MULTILINE
    )
    assert re.search(r"^event_type_hours: \d+ hours, by event_hours, ", said.out, re.MULTILINE)
    # As a server of an older release writes: no deltas.
    hour = datetime.now(UTC).replace(minute=0, second=0, microsecond=0) - timedelta(hours=3)
    await make_partition(control, "telemetry_events", hour)
    await copy(connection, "telemetry_events", [event_row(hour)])
    said = await run("rollups", "verify", *place)
    assert (
        said.code,
        f"1 differ, in 1 hours ({hour:%Y-%m-%dT%H:%MZ}), not mended." in said.out,
    ) == (
        1,
        True,
    )
    said = await run("rollups", "verify", "--json", *place)
    (row,) = said.rows
    (events,) = [one for one in row["rollups"] if one["rollup"] == "event_hours"]
    assert said.code == 1
    assert (row["ok"], row["mended"]) == (False, False)
    assert events["raw_rows"] == events["groups"] == 6
    assert events["differences"] == 1
    assert events["differing_hours"] == [f"{hour:%Y-%m-%dT%H:%MZ}"]
    # Only what was asked for.
    assert (await run("rollups", "verify", *place, "--start", "-2h")).code == 0
    said = (await run("rollups", "rebuild", "--json", *place)).checked()
    (row,) = said.rows
    assert (row["ok"], row["mended"]) == (True, True)
    assert (await run("rollups", "verify", *place)).code == 0
    assert await connection.fetchval("SELECT count(*) FROM event_hours WHERE hour = $1", hour) == 1


async def test_a_terminal_shows_the_progress(place: tuple[str, str]) -> None:
    ours, theirs = pty.openpty()
    try:
        process = await asyncio.create_subprocess_exec(
            *PROGRAM,
            *("rollups", "verify", *place),
            stdout=asyncio.subprocess.PIPE,
            stderr=theirs,
            env=environment(TERM="xterm"),
        )
        os.close(theirs)
        reading = asyncio.to_thread(read_terminal, ours)
        async with asyncio.timeout(PATIENCE_SECONDS):
            (out, _), shown = await asyncio.gather(process.communicate(), reading)
    finally:
        os.close(ours)
    assert process.returncode == 0
    assert b"hours" in shown
    assert out.endswith(b": equal.\n")


async def test_mistakes_are_one_sentence(tmp_path: Path, place: tuple[str, str]) -> None:
    said = await run("rollups", "verify", *place, "--start", "-1h", "--end", "-2h")
    assert (said.code, "the end is not after the start" in said.err) == (2, True)
    said = await run("rollups", "rebuild", *place, "--start", "soon")
    assert said.code == 2
    said = await run("rollups", "verify", "--dsn", "postgresql://127.0.0.1:1/none")
    assert (said.code, "does not answer" in said.err) == (1, True)


@pytest.mark.parametrize("command", ["verify", "rebuild"])
async def test_the_embedded_database_is_started_where_no_server_runs(
    tmp_path: Path, command: str
) -> None:
    folder = ("--data-dir", str(tmp_path / "data"))
    (await run("migrate", *folder)).checked()
    said = (await run("rollups", command, *folder)).checked()
    assert "0 raw rows, 0 groups: equal." in said.out


async def test_verify_tells_of_open_hours_and_rebuild_makes_them_up(
    settings: Settings,
    serving: Serving,
    connection: Any,
    place: tuple[str, str],
) -> None:
    hour = datetime.now(UTC).replace(minute=0, second=0, microsecond=0) - timedelta(hours=3)
    off = settings.model_copy(update={"rollups": False})
    async with serving(off) as app, aio.insecure_channel(app.address) as opened:
        await ingest(opened, request(event(event_timestamp=stamp(hour), user_id="u")))
    said = await run("rollups", "verify", *place)
    word = f"{hour:%Y-%m-%dT%H:%MZ}"
    wanted = (
        f"1 differ, in 1 hours ({word}), not mended; open, read from raw rows: 1 hours ({word})."
    )
    assert (said.code, wanted in said.out) == (1, True)
    said = await run("rollups", "verify", "--json", *place)
    (row,) = said.rows
    assert {one["rollup"]: one["open_hours"] for one in row["rollups"] if one["open_hours"]} == {
        table: [word]
        for table in (
            "event_hours",
            "event_type_hours",
            "event_user_hours",
            "event_type_user_hours",
        )
    }
    said = (await run("rollups", "rebuild", *place)).checked()
    assert f"equal; made up: 1 hours ({word})." in said.out
    assert await connection.fetchval("SELECT count(*) FROM rollup_gaps") == 0
    said = (await run("rollups", "verify", *place)).checked()
    assert "open" not in said.out
