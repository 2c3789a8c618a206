"""`send` and `query` as a person runs them, against a real server."""

from __future__ import annotations

import asyncio
import json
import os
import pty
import signal
import socket
import sys
from collections.abc import AsyncIterator
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import grpc
import pytest
from grpc import aio
from rich.cells import cell_len
from rich.text import Text

from fernando.telemetry import v1
from fernando_telemetry.app import Application
from fernando_telemetry.domain.errors import Overloaded, TooLarge
from fernando_telemetry.embedded.owner_lock import OwnerLock, write_server_file
from fernando_telemetry.transport.status import DETAILS_TRAILER, status_of
from tests.e2e.processes import environment
from tests.ports import free_port

PROGRAM = (sys.executable, "-m", "fernando_telemetry")
# A run takes a second of the processor, and took half a minute at ten processes a core.
PATIENCE_SECONDS = 60.0


@dataclass(frozen=True)
class Ended:
    """A program that has run."""

    code: int
    out: str
    err: str

    @property
    def rows(self) -> list[dict[str, Any]]:
        """Its output as JSON lines."""
        return [json.loads(line) for line in self.out.splitlines()]

    def checked(self) -> Ended:
        """Give it, if it succeeded."""
        assert self.code == 0, self
        return self


async def run(*arguments: str, stdin: bytes = b"", **variables: str) -> Ended:
    """Run the CLI to its end. No run here may show a traceback."""
    process = await asyncio.create_subprocess_exec(
        *PROGRAM,
        *arguments,
        stdin=asyncio.subprocess.PIPE,
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.PIPE,
        env=environment(PYTHONUTF8="1", NO_COLOR="1", COLUMNS="200", **variables),
    )
    async with asyncio.timeout(PATIENCE_SECONDS):
        out, err = await process.communicate(stdin)
    assert process.returncode is not None
    assert b"Traceback" not in err, err.decode()
    return Ended(process.returncode, out.decode(), err.decode())


@pytest.fixture
def target(server: Application) -> tuple[str, str]:
    """The flags that name the test's server."""
    return ("--target", server.address)


async def store_events(channel: aio.Channel, count: int, **fields: Any) -> None:
    """Store events a millisecond apart, the last one at present."""
    records = v1.TelemetryRecords(record_count=count)
    now = datetime.now(UTC)
    for number in range(count):
        event = records.events.add(event_name=f"e{number}", event_data=f'{{"n": {number}}}')
        event.event_type = v1.EventType.EVENT_TYPE_API_EVENT
        event.event_timestamp.FromDatetime(now - timedelta(milliseconds=count - number))
        for name, value in fields.items():
            setattr(event, name, value)
    request = v1.IngestTelemetryRequest(records=records)
    response = await v1.IngestServiceStub(channel).IngestTelemetry(request)
    assert response.result.accepted_count == count


class TestSendAndRead:
    """One of each kind, there and back."""

    async def test_event(self, target: tuple[str, str]) -> None:
        begun = datetime.now(UTC)
        sent = await run(
            *("send", "event", "--event-type", "user_action", "--event-name", "user_login"),
            *("--event-data", '{"a": 1.10}', "--tags", "a", "--tags", "b c", "--user-id", "ü"),
            *("--duration-ms", "12.5", "--event-timestamp", "-1m", "--source-ip", "::1", *target),
        )
        assert sent.checked().out.startswith("Stored 1 event, commit ")
        ended = datetime.now(UTC)
        listed = await run("query", "events", "--json", *target)
        [row] = listed.checked().rows
        assert {name: row[name] for name in row if not name.endswith(("_id", "_at"))} == {
            "event_timestamp": row["event_timestamp"],
            "event_type": "user_action",
            "event_name": "user_login",
            "event_data": {"a": 1.1},
            "tags": ["a", "b c"],
            "duration_ms": 12.5,
            "source_ip": "::1",
        }
        assert '"event_data": {"a": 1.10}' in listed.out
        meant = datetime.fromisoformat(row["event_timestamp"]) + timedelta(minutes=1)
        assert begun <= meant <= ended
        assert "1 event from " in listed.err
        assert "more" not in listed.err
        table = (await run("query", "events", *target)).checked().out.splitlines()
        assert table[0].split() == [
            *("event_timestamp", "event_type", "event_name", "duration_ms", "user_id"),
            *("source_ip", "tags", "event_data"),
        ]
        assert table[1].split(maxsplit=5)[:5] == [
            *(row["event_timestamp"], "user_action", "user_login", "12.5", "ü"),
        ]

    async def test_metric(self, target: tuple[str, str]) -> None:
        sent = await run(
            *("send", "metric", "--metric-name", "cpu_usage", "--metric-type", "gauge"),
            *("--metric-value", "-1.5", "--metric-unit", "percentage", "--service-name", "web"),
            *("--labels", "k=v", "--labels", "x=a=b", "--percentile-95", "3", *target),
        )
        assert sent.checked().out.startswith("Stored 1 metric, commit ")
        [row] = (await run("query", "metrics", "--json", *target)).checked().rows
        assert row["metric_value"] == -1.5
        assert row["labels"] == {"k": "v", "x": "a=b"}
        assert (row["metric_type"], row["percentile_95"]) == ("gauge", 3)
        assert "percentile_50" not in row
        table = (await run("query", "metrics", *target)).checked().out
        assert "cpu_usage" in table
        assert "k=v x=a=b" in table

    async def test_distribution(self, target: tuple[str, str]) -> None:
        given = {"count": 3, "sum": 6, "min": 0, "max": 3, "upper_bounds": [2]}
        given["bucket_counts"] = [2, 1]
        await run(
            *("send", "metric", "--metric-name", "d", "--metric-type", "distribution"),
            *("--distribution", json.dumps(given), *target),
        )
        [row] = (await run("query", "metrics", "--json", *target)).checked().rows
        assert row["distribution"] == given

    async def test_kpi(self, target: tuple[str, str]) -> None:
        begin = datetime.now(UTC).date() - timedelta(days=3)
        end = begin + timedelta(days=1)
        for value in ("49.90", "1234567890.123"):
            sent = await run(
                *("send", "kpi", "--metric-name", "mrr", "--metric-value", value),
                *("--currency", "USD", "--period-start", f"{begin}T00:00:00Z"),
                *("--period-end", f"{end}", "--period-type", "daily"),
                *("--dimensions", "plan=pro", "--calculation-method", "sum", *target),
            )
            assert "Stored 1 KPI" in sent.checked().out
            assert f"--period-end {end} has no offset and is taken as UTC" in sent.err
        days = ("--start", f"{begin}T00:00:00Z", "--end", f"{end}T00:00:00Z")
        [row] = (await run("query", "business", *days, "--json", *target)).checked().rows
        assert row["metric_value"] == "1234567890.123"
        assert row["period_end"] == f"{end}T00:00:00Z"
        assert row["superseded"] is False
        both = await run("query", "business", *days, "--include-superseded", *target)
        assert "49.90" in both.checked().out
        assert "yes" in both.out
        assert "0 KPIs" in (await run("query", "business", *target)).checked().err

    async def test_kpi_of_the_last_day_is_listed_by_default(self, target: tuple[str, str]) -> None:
        await run(
            *("send", "kpi", "--metric-name", "m", "--metric-value", "0.10", *target),
            *("--period-start", "-20h", "--period-end", "now"),
        )
        [row] = (await run("query", "business", "--json", *target)).checked().rows
        assert row["metric_value"] == "0.10"

    async def test_span_and_its_trace(self, target: tuple[str, str]) -> None:
        sent = await run(
            *("send", "span", "--service-name", "web", "--operation-name", "GET /"),
            *("--duration-ms", "12.25", "--status", "error", "--http-status-code", "503"),
            *("--events", '{"name": "retry", "attributes": {"n": "1"}}', "--tags", "a=b", *target),
        )
        trace_id = sent.checked().out.splitlines()[1].split()[1].rstrip(",")
        [row] = (await run("query", "spans", "--json", *target)).checked().rows
        assert row["trace_id"] == trace_id
        assert len(trace_id) == 32
        assert row["events"] == [{"name": "retry", "attributes": {"n": "1"}}]
        child = await run(
            *("send", "span", "--service-name", "db", "--trace-id", trace_id, *target),
            *("--parent-span-id", row["span_id"]),
        )
        child.checked()
        trace = (await run("query", "trace", trace_id, "--json", *target)).checked()
        assert sorted(span["service_name"] for span in trace.rows) == ["db", "web"]
        assert f"2 of 2 spans of trace {trace_id} (web GET /)" in trace.err
        assert "1 error, services: db, web" in trace.err
        hinted = await run("query", "trace", trace_id, "--last", "1h", *target)
        assert len(hinted.checked().out.splitlines()) == 3

    async def test_traces_and_graph(self, target: tuple[str, str]) -> None:
        for trace, status in (("1", "ok"), ("2", "error")):
            sent = ("send", "span", "--trace-id", trace * 32, *target)
            web = ("--service-name", "web", "--operation-name", "GET /", "--duration-ms", "50")
            (await run(*sent, "--span-id", "a" * 16, *web, "--tags", f"n={trace}")).checked()
            shop = ("--service-name", "shop", "--duration-ms", "20", "--status", status)
            (await run(*sent, "--parent-span-id", "a" * 16, *shop)).checked()
        for flags, wanted in (
            ((), {"1", "2"}),
            (("--service-name", "shop", "--status", "error"), {"2"}),
            (("--operation-name", "GET /", "--min-duration", "30ms", "--tags", "n=1"), {"1"}),
            (("--service-name", "shop", "--min-duration", "30ms"), set()),
            (("--filter", "status = error OR tags.n = 1", "--max-duration", "1s"), {"1", "2"}),
        ):
            found = (await run("query", "traces", "--json", *flags, *target)).checked()
            assert {row["trace_id"][0] for row in found.rows} == wanted, flags
            assert all(row["spans_by_service"] == {"shop": 1, "web": 1} for row in found.rows)
        graph = (await run("query", "graph", "--json", *target)).checked()
        [edge] = graph.rows
        assert (edge["client_service_name"], edge["server_service_name"]) == ("web", "shop")
        assert (edge["call_count"], edge["error_count"]) == (2, 1)
        assert graph.err.startswith("1 edge between 2 services, by 4 spans from ")
        services = (await run("query", "graph", "--services", *target)).checked()
        assert [line.split()[:2] for line in services.out.splitlines()[1:]] == [
            ["shop", "2"],
            ["web", "2"],
        ]
        none = (await run("query", "graph", "--license-id", "l", "--json", *target)).checked()
        assert none.rows == []

    async def test_json_lines_go_in_as_they_came_out(
        self, target: tuple[str, str], channel: aio.Channel, tmp_path: Path
    ) -> None:
        await store_events(channel, 3)
        first = (await run("query", "events", "--json", *target)).checked()
        file = tmp_path / "events.jsonl"
        file.write_text(first.out)
        (await run("send", "event", "--json", str(file), *target)).checked()
        both = (await run("query", "events", "--json", *target)).checked().rows
        assert len(both) == 6
        told = ("event_timestamp", "event_type", "event_name", "event_data")
        assert {tuple(str(row[name]) for name in told) for row in both} == {
            tuple(str(row[name]) for name in told) for row in first.rows
        }

    async def test_a_commit_token_is_taken_back(self, target: tuple[str, str]) -> None:
        sent = await run(
            *("send", "span", "--service-name", "web", "--trace-id", "1" * 32, *target)
        )
        token = sent.checked().out.split("commit ")[1].split(".")[0]
        reads = (("query", "spans"), ("query", "trace", "1" * 32))
        for command in reads:
            given = ("--min-commit-token", token, "--json", *target)
            assert len((await run(*command, *given)).checked().rows) == 1
        damaged = await run("query", "events", "--min-commit-token", token + "0", *target)
        assert damaged.code == 1
        assert "min_commit_token: it is damaged" in damaged.err


class TestVerdicts:
    async def test_rejected_is_exit_code_1_with_field_and_reason(
        self, target: tuple[str, str]
    ) -> None:
        ended = await run("send", "event", "--event-type", "user_action", *target)
        assert ended.code == 1
        assert "Stored" not in ended.out
        assert "rejected: event_name: " in ended.err
        assert "(field_missing)" in ended.err

    async def test_a_change_is_told_and_is_no_failure(self, target: tuple[str, str]) -> None:
        ended = await run(
            *("send", "event", "--event-type", "user_action", "--event-name", "x"),
            *("--source-ip", "testclient", *target),
        )
        assert "Stored 1 event" in ended.checked().out
        assert "stored with a change: source_ip: " in ended.err
        assert "(invalid_ip)" in ended.err

    async def test_bad_lines_cost_only_themselves(self, target: tuple[str, str]) -> None:
        good = b'{"event_type": "user_action", "event_name": "x"}\n'
        lines = [good, b"\n", b"{bad\n", b'{"event_name": "\xff"}\n', b'{"event_name": ""}\n', good]
        ended = await run("send", "event", "--json", "-", *target, stdin=b"".join(lines))
        assert ended.code == 1
        assert "Stored 2 events in all, rejected 3." in ended.out
        for number in (3, 4, 5):
            assert f"line {number} rejected: " in ended.err

    async def test_many_lines_take_many_calls(self, target: tuple[str, str]) -> None:
        line = b'{"event_type": "user_action", "event_name": "x"}\n'
        ended = await run("send", "event", "--json", "-", *target, stdin=line * 2_001)
        assert ended.checked().out.count("commit") == 3
        assert "Stored 2001 events in all, rejected 0." in ended.out


class TestLists:
    async def test_limit_says_that_there_are_more(
        self, target: tuple[str, str], channel: aio.Channel
    ) -> None:
        await store_events(channel, 60)
        newest = (await run("query", "events", "--json", *target)).checked()
        assert [row["event_data"]["n"] for row in newest.rows] == list(range(59, 9, -1))
        assert "there are more: raise --limit or give --all" in newest.err
        oldest = await run("query", "events", "--json", "--oldest-first", "--limit", "60", *target)
        assert [row["event_data"]["n"] for row in oldest.checked().rows] == list(range(60))
        assert "more" not in oldest.err

    async def test_all_follows_pages(self, target: tuple[str, str], channel: aio.Channel) -> None:
        await store_events(channel, 2_100)
        everything = (await run("query", "events", "--all", "--json", *target)).checked()
        assert [row["event_data"]["n"] for row in everything.rows] == list(range(2_099, -1, -1))
        some = (await run("query", "events", "--limit", "1500", *target)).checked()
        assert len(some.out.splitlines()) == 1_501
        assert "1500 events" in some.err

    async def test_filter_and_range(self, target: tuple[str, str], channel: aio.Channel) -> None:
        await store_events(channel, 3)
        one = await run("query", "events", "--json", "--filter", 'event_name = "e1"', *target)
        [row] = one.checked().rows
        at = row["event_timestamp"]
        until = await run("query", "events", "--json", "--end", at, "--last", "5s", *target)
        assert [row["event_name"] for row in until.checked().rows] == ["e0"]
        since = await run("query", "events", "--json", "--start", at, *target)
        assert [row["event_name"] for row in since.checked().rows] == ["e2", "e1"]

    async def test_local_times(self, target: tuple[str, str], channel: aio.Channel) -> None:
        await store_events(channel, 1)
        ended = await run("query", "events", "--local", *target, TZ="Asia/Kolkata")
        assert "+05:30  api_event" in ended.checked().out

    async def test_a_closed_pipe_is_silent(
        self, target: tuple[str, str], channel: aio.Channel
    ) -> None:
        await store_events(channel, 2_100, user_agent="x" * 200)
        line = " ".join((*PROGRAM, "query", "events", "--all", "--json", *target))
        process = await asyncio.create_subprocess_shell(
            f"set -o pipefail; {line} | head -1",
            executable="/bin/bash",
            stdout=asyncio.subprocess.PIPE,
            stderr=asyncio.subprocess.PIPE,
            env=environment(),
        )
        async with asyncio.timeout(PATIENCE_SECONDS):
            out, err = await process.communicate()
        assert process.returncode == 0
        assert (out.count(b"\n"), err) == (1, b"")

    @pytest.mark.parametrize("width", [80, 140])
    async def test_a_table_fits_the_terminal(
        self, target: tuple[str, str], channel: aio.Channel, width: int
    ) -> None:
        await store_events(
            channel,
            5,
            user_id="\x1b[2J日本語" * 9,
            source="web",
            license_id="l",
            trace_id="ab" * 16,
        )
        lines = await on_terminal(width, "query", "events", *target)
        assert len(lines) == 7
        assert max(cell_len(line) for line in lines) <= width
        assert "event_data" in lines[0]
        assert r"\x1b[2J" in "".join(lines)

    async def test_a_trace_is_a_tree(self, target: tuple[str, str]) -> None:
        sent = ("send", "span", "--trace-id", "7" * 32, *target)
        for number, parent, service in ((1, 0, "web"), (2, 1, "shop"), (3, 2, "db"), (4, 9, "x")):
            ids = (
                "--span-id",
                f"{number:016x}",
                "--parent-span-id",
                f"{parent:016x}" * (parent > 0),
            )
            times = ("--start-time", f"-{20 - number}s", "--duration-ms", str(9000 - number * 1000))
            (await run(*sent, *ids, "--service-name", service, *times)).checked()
        for width in (60, 160):
            lines = await on_terminal(width, "query", "trace", "7" * 32, *target)
            assert max(cell_len(line) for line in lines) <= width
            for line, begin in zip(
                lines[2:5], ("* web ", "* └─ shop ", "*    └─ db "), strict=True
            ):
                assert line.startswith(begin)
            assert lines[5].startswith("  x ")
            assert "orphan" in lines[5]
            assert ("━━━" in lines[2]) == (width == 160)


async def on_terminal(width: int, *arguments: str) -> list[str]:
    """Run the CLI with a terminal for its output, and give the lines without colours."""
    ours, theirs = pty.openpty()
    try:
        process = await asyncio.create_subprocess_exec(
            *PROGRAM,
            *arguments,
            stdout=theirs,
            stderr=asyncio.subprocess.PIPE,
            env=environment(COLUMNS=str(width), TERM="xterm", PYTHONUTF8="1"),
        )
        os.close(theirs)
        reading = asyncio.to_thread(read_terminal, ours)
        async with asyncio.timeout(PATIENCE_SECONDS):
            (_, err), raw = await asyncio.gather(process.communicate(), reading)
    finally:
        os.close(ours)
    assert process.returncode == 0, err.decode()
    return Text.from_ansi(raw.decode().replace("\r\n", "\n")).plain.splitlines()


def read_terminal(ours: int) -> bytes:
    """Read until the program has gone, which Linux tells by an error."""
    parts: list[bytes] = []
    while True:
        try:
            part = os.read(ours, 65_536)
        except OSError:
            return b"".join(parts)
        if not part:
            return b"".join(parts)
        parts.append(part)


class TestTroubles:
    async def test_invalid_filter_is_pointed_at(self, target: tuple[str, str]) -> None:
        ended = await run("query", "events", "--filter", 'user_id = "u" AND nam = 3', *target)
        assert (ended.code, ended.out) == (1, "")
        sentence, shown, caret = ended.err.splitlines()
        assert "(INVALID_FILTER)" in sentence
        assert shown.strip() == 'user_id = "u" AND nam = 3'
        assert caret.index("^") == shown.index("nam")

    async def test_unknown_trace(self, target: tuple[str, str]) -> None:
        ended = await run("query", "trace", "ab" * 16, *target)
        assert ended.code == 1
        assert "(NOT_FOUND)" in ended.err
        assert len(ended.err.splitlines()) == 1

    async def test_unreachable_server(self) -> None:
        address = f"127.0.0.1:{free_port()}"
        for command in (
            ("query", "events"),
            ("send", "event", "--event-type", "user_action", "--event-name", "x"),
        ):
            ended = await run(*command, "--target", address)
            assert (ended.code, ended.out) == (1, "")
            assert f"No server answers at {address} (Connection refused)" in ended.err
            assert "start one with `" in ended.err
            assert " serve`" in ended.err
            assert len(ended.err.splitlines()) == 1

    @pytest.mark.parametrize(
        ("arguments", "words"),
        [
            (("query", "events", "--last", "5x"), "is no duration"),
            (("query", "events", "--last", "0s"), "it is empty"),
            (("query", "events", "--start", "now", "--last", "5m"), "it excludes --start"),
            (("query", "events", "--start", "now", "--end", "-5m"), "is not after the start"),
            (("query", "events", "--limit", "5", "--all"), "it excludes --limit"),
            (("query", "events", "--limit", "0"), "--limit"),
            (("query", "events", "--target", "http://x:1"), "is no address"),
            (("query", "events", "--target", "127.0.0.1:70000"), "is no address"),
            (("send", "event", "--event-type", "nope"), "'nope' is none of user_action"),
            (("send", "event", "--event-timestamp", "soon"), "is no time"),
            (("send", "event", "--event-name", "x", "--json", "-"), "give no fields beside it"),
            (("send", "event", "--json", "/nowhere"), "No such file"),
            (("send", "metric", "--labels", "k"), "'k' is not KEY=VALUE"),
            (("send", "metric", "--distribution", "[]"), "not a JSON object"),
            (("send", "span", "--http-status-code", "3000000000"), "--http-status-code"),
        ],
    )
    async def test_mistakes_of_usage(self, arguments: tuple[str, ...], words: str) -> None:
        ended = await run(*arguments)
        assert ended.code == 2
        assert words in " ".join(ended.err.split())

    async def test_a_proxy_of_the_environment_is_left_aside(self, target: tuple[str, str]) -> None:
        proxy = f"http://127.0.0.1:{free_port()}"
        ended = await run("query", "events", *target, http_proxy=proxy, https_proxy=proxy)
        assert "0 events" in ended.checked().err

    async def test_interrupt(self) -> None:
        with socket.create_server(("127.0.0.1", 0)) as silent:
            silent.setblocking(False)
            process = await asyncio.create_subprocess_exec(
                *PROGRAM,
                *("query", "events", "--target", f"127.0.0.1:{silent.getsockname()[1]}"),
                stdout=asyncio.subprocess.PIPE,
                stderr=asyncio.subprocess.PIPE,
                env=environment(),
            )
            async with asyncio.timeout(PATIENCE_SECONDS):
                accepted, _ = await asyncio.get_running_loop().sock_accept(silent)
                process.send_signal(signal.SIGINT)
                out, err = await process.communicate()
            accepted.close()
        assert (process.returncode, out, err) == (130, b"", b"")


async def test_the_server_of_the_data_directory_is_the_default(
    server: Application, tmp_path: Path
) -> None:
    fields = {"pid": os.getpid(), "dsn": "", "started_at": "", "grpc_address": server.address}
    folder = tmp_path / "data"
    folder.mkdir()
    lock = await OwnerLock.acquire(folder)
    try:
        write_server_file(folder, fields)
        by_flag = await run("query", "events", "--data-dir", str(folder))
        assert "0 events" in by_flag.checked().err
        by_setting = await run("query", "events", FERNANDO_DATA_DIR=str(folder))
        assert "0 events" in by_setting.checked().err
    finally:
        lock.release()
    port = str(free_port())
    ended = await run("query", "events", FERNANDO_DATA_DIR=str(folder), FERNANDO_PORT=port)
    assert f"No server answers at 127.0.0.1:{port} " in ended.err


@pytest.mark.parametrize(
    "command",
    [
        ("query", "events"),
        ("send", "event", "--event-type", "api_event", "--event-name", "x"),
        ("rejected", "replay"),
    ],
    ids=lambda command: " ".join(command[:2]),
)
async def test_what_is_meant_for_a_stopped_server_reaches_no_other(
    command: tuple[str, ...], server: Application, connection: Any, tmp_path: Path
) -> None:
    port = str(server.port)
    assert (await run("query", "events", FERNANDO_PORT=port)).code == 0
    ended = await run(*command, "--data-dir", str(tmp_path), FERNANDO_PORT=port)
    assert ended.code == 1
    assert ended.err.startswith(f"fernando-telemetry: No server runs on {tmp_path}: ")
    assert await connection.fetchval("SELECT count(*) FROM telemetry_events") == 0


class Busy(v1.IngestServiceServicer):
    """Refuses the first calls, then stores nothing but says so."""

    def __init__(self, error: Exception, refusals: int) -> None:
        self.requests: list[v1.IngestTelemetryRequest] = []
        self._error = error
        self._refusals = refusals

    async def IngestTelemetry(  # noqa: N802  # the contract's name
        self, request: v1.IngestTelemetryRequest, context: Any
    ) -> v1.IngestTelemetryResponse:
        self.requests.append(request)
        if len(self.requests) <= self._refusals:
            code, text, details = status_of(self._error)
            await context.abort(code, text, ((DETAILS_TRAILER, details),))
        result = v1.BatchCommitted(accepted_count=1, commit_token="t")
        return v1.IngestTelemetryResponse(duplicate=True, result=result)

    def StreamTelemetry(  # noqa: N802  # the contract's name
        self, request_iterator: Any, context: Any
    ) -> AsyncIterator[v1.StreamTelemetryResponse]:
        raise NotImplementedError


async def serving(servicer: Busy) -> AsyncIterator[str]:
    """Serve it while the caller iterates."""
    server = aio.server()
    v1.add_IngestServiceServicer_to_server(servicer, server)
    port = server.add_insecure_port("127.0.0.1:0")
    await server.start()
    try:
        yield f"127.0.0.1:{port}"
    finally:
        await server.stop(0)


SEND = ("send", "event", "--event-type", "user_action", "--event-name", "x")


async def test_passing_trouble_is_tried_again_under_the_same_request_id() -> None:
    busy = Busy(Overloaded("Full.", 0.05), refusals=2)
    async for address in serving(busy):
        ended = await run(*SEND, "--target", address)
        assert "Stored 1 event, commit t." in ended.checked().out
    assert len({request.request_id for request in busy.requests}) == 1
    assert [request.records.record_count for request in busy.requests] == [1, 1, 1]


async def test_trouble_that_does_not_pass_ends_after_a_few_tries() -> None:
    busy = Busy(Overloaded("The server is full.", 0.01), refusals=1_000)
    async for address in serving(busy):
        ended = await run(*SEND, "--target", address)
    assert ended.code == 1
    assert ended.err == "fernando-telemetry: The server is full (OVERLOADED).\n"
    assert 2 <= len(busy.requests) <= 10


async def test_what_cannot_pass_is_not_tried_again() -> None:
    error = TooLarge("Too large.")
    assert status_of(error)[0] is grpc.StatusCode.RESOURCE_EXHAUSTED
    busy = Busy(error, refusals=1_000)
    async for address in serving(busy):
        ended = await run(*SEND, "--target", address)
    assert ended.code == 1
    assert len(busy.requests) == 1
