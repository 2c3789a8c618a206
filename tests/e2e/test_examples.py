"""The example programs, each as its own process against a real server."""

from __future__ import annotations

import asyncio
import os
import re
import sys
from collections import Counter
from collections.abc import Callable
from contextlib import AbstractAsyncContextManager
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest
from grpc import aio

from fernando_telemetry.app import Application
from fernando_telemetry.settings import Settings
from tests.e2e import recorded_files
from tests.e2e.recorded_files import Stored

pytestmark = pytest.mark.timeout(300)
ROOT = Path(__file__).resolve().parents[2]
RETENTION_OFF = {
    f"retention_{kind}_days": 0 for kind in ("events", "metrics", "business", "traces")
}


async def run_example(name: str, *arguments: str) -> tuple[int, str]:
    """Run one of examples/ as its own process; gives the exit code and all it printed."""
    process = await asyncio.create_subprocess_exec(
        sys.executable,
        str(ROOT / "examples" / name),
        *arguments,
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.STDOUT,
        env={key: value for key, value in os.environ.items() if not key.startswith("FERNANDO_")},
    )
    try:
        output, _ = await process.communicate()
    finally:
        if process.returncode is None:
            process.kill()
            await process.wait()
    assert process.returncode is not None
    return process.returncode, output.decode()


@pytest.mark.parametrize("as_recorded", [False, True], ids=["shifted", "as_recorded"])
async def test_recorded_data_reads_back_as_it_stands_in_the_files(
    as_recorded: bool,
    shared_data: Path,
    settings: Settings,
    serving: Callable[[Settings], AbstractAsyncContextManager[Application]],
) -> None:
    if as_recorded:
        settings = settings.model_copy(update=RETENTION_OFF)
    flags = ["--as-recorded"] if as_recorded else []
    async with serving(settings) as server, aio.insecure_channel(server.address) as channel:
        arguments = ["--target", server.address, "--data", str(shared_data), *flags]
        yesterdays = [datetime.now(UTC).date() - timedelta(days=1)]
        code, output = await run_example("load_recorded_data.py", *arguments)
        yesterdays.append(datetime.now(UTC).date() - timedelta(days=1))
        assert code == 0, output

        stored = Stored(channel)
        last_day = None
        if not as_recorded:
            newest = (await stored.events(""))[0].event_timestamp
            last_day = newest.ToDatetime(UTC).date()
            assert last_day in yesterdays
        moved = recorded_files.mover(last_day)
        # The log has no year: the newest in which its 10 December is not in the future.
        today = datetime.now(UTC)
        year = today.year if (today.month, today.day) >= (12, 10) else today.year - 1
        await recorded_files.check_samples(stored, shared_data, moved)
        await recorded_files.check_kpis(stored, shared_data, moved)
        await recorded_files.check_nova(stored, shared_data, moved)
        await recorded_files.check_nova_summary(stored, shared_data)
        await recorded_files.check_apache(stored, shared_data, moved)
        await recorded_files.check_openssh(stored, shared_data, moved, year)
        await recorded_files.check_traces(stored, shared_data, moved)
        await recorded_files.check_trees_and_graph(stored, shared_data)

        code, output = await run_example("load_recorded_data.py", *arguments)
        assert code == 0, output
        assert output.count("sent by an earlier run") == 16
        assert len(await stored.spans()) == 231
        assert len(await stored.kpis(include_superseded=True)) == 3162


async def test_recorded_data_that_is_too_old_ends_with_1_and_says_why(
    shared_data: Path, server: Application
) -> None:
    code, output = await run_example(
        "load_recorded_data.py",
        *("--target", server.address, "--data", str(shared_data), "--as-recorded"),
        *("--assume-year", "2015"),
    )
    assert code == 1
    assert "first: record 0: time_too_old, event_timestamp: " in output
    assert re.search(r"logs/openssh.log +2000 +0 +2000\n", output)


async def test_recorded_data_goes_on_where_an_earlier_run_stopped(
    tmp_path: Path,
    settings: Settings,
    serving: Callable[[Settings], AbstractAsyncContextManager[Application]],
) -> None:
    begin = datetime(2011, 7, 1, tzinfo=UTC)
    rows = [f"{begin + timedelta(hours=hour):%Y-%m-%d %H:%M:%S},0.{hour}" for hour in range(1200)]
    path = tmp_path / "business" / "exchange-1_cpc_results.csv"
    path.parent.mkdir()
    async with (
        serving(settings.model_copy(update=RETENTION_OFF)) as server,
        aio.insecure_channel(server.address) as channel,
    ):
        # The first two batches are what a run leaves that is cut short after them.
        for row_count, sent_count in ((1000, 1000), (1200, 200)):
            path.write_text("\n".join(["timestamp,value", *rows[:row_count]]))
            code, output = await run_example(
                "load_recorded_data.py",
                *("--target", server.address, "--data", str(tmp_path), "--as-recorded"),
            )
            assert code == 0, output
            assert re.search(
                rf"exchange-1_cpc_results.csv +{sent_count} +{sent_count} +0\n", output
            )
        kpis = await Stored(channel).kpis(include_superseded=True)
    assert sorted(kpi.metric_value for kpi in kpis) == sorted(row.split(",")[1] for row in rows)


async def test_recorded_data_needs_a_folder_that_has_it(
    tmp_path: Path, server: Application
) -> None:
    code, output = await run_example(
        "load_recorded_data.py", "--target", server.address, "--data", str(tmp_path)
    )
    assert (code, output.splitlines()[-1]) == (
        1,
        f"load_recorded_data: {tmp_path} holds no recorded data",
    )


async def test_stream_events_prints_an_ack_for_each_batch(
    server: Application, channel: aio.Channel
) -> None:
    for run in range(2):
        code, output = await run_example("stream_events.py", "--target", server.address)
        assert code == 0, output
        assert output.splitlines() == [
            f"welcome: last number {3 * run}",
            f"batch {3 * run + 1}: committed, 2 stored",
            f"batch {3 * run + 2}: committed, 1 stored",
            f"batch {3 * run + 3}: committed, 2 stored",
        ]
    stored = await Stored(channel).events('source = "stream_events"')
    assert Counter(event.user_id for event in stored) == dict.fromkeys(
        ("ada", "grace", "edsger", "barbara", "tony"), 2
    )
