"""`retention show`, `set` and `clean-up` as a person runs them, against a real server."""

from __future__ import annotations

from typing import Any

import pytest

from fernando_telemetry.app import Application
from fernando_telemetry.storage.sessions import ControlPool
from tests.e2e.test_cli_send_query import on_terminal, run
from tests.integration.storage.retained_rows import ROWS, add_rows, left


@pytest.fixture
def target(server: Application) -> tuple[str, str]:
    """The flags that name the test's server."""
    return ("--target", server.address)


async def test_set_and_show(target: tuple[str, str]) -> None:
    await run("retention", "set", "event", "30", *target)
    held = await run("retention", "set", "event", "0", "--license", "acme", "--json", *target)
    assert held.checked().rows == [{"kind": "event", "license_id": "acme", "days": 0}]
    shown = (await run("retention", "show", "--json", *target)).checked().rows
    assert shown == [
        {"kind": "event", "days": 30},
        {"kind": "event", "license_id": "acme", "days": 0},
        {"kind": "system_metric", "days": 180},
        {"kind": "business_metric", "days": 180},
        {"kind": "span", "days": 30},
    ]
    lines = (await run("retention", "show", *target)).checked().out.splitlines()
    assert [line.split(maxsplit=1) for line in lines[:3]] == [
        ["kind", "license_id        days"],
        ["event", "(all others)        30"],
        ["event", "acme          for ever"],
    ]
    removed = await run("retention", "set", "event", "--license", "acme", "--remove", *target)
    assert "(all others)" in removed.checked().out
    assert removed.err == ""
    again = await run("retention", "set", "events", "--license", "acme", "--remove", *target)
    assert again.checked().err == (
        "fernando-telemetry: note: 'acme' has no policy of event; there is nothing to remove.\n"
    )
    for word, kind in (("metrics", "system_metric"), ("kpi", "business_metric")):
        held = await run("retention", "set", word, "99", "--json", *target)
        assert held.checked().rows == [{"kind": kind, "days": 99}]
    assert "acme" not in (await run("retention", "show", *target)).checked().out


async def test_on_a_terminal(target: tuple[str, str]) -> None:
    lines = await on_terminal(80, "retention", "show", *target)
    assert lines[0].split() == ["kind", "license_id", "days"]
    assert ["business_metric", "(all", "others)", "180"] in [line.split() for line in lines]


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (("click", "30"), "'click' is none of event, system_metric, business_metric, span"),
        (("event",), "give either the days or --remove"),
        (("event", "3", "--remove"), "give either the days or --remove"),
        (("event", "-3"), "No such option"),
        (("event", "36501"), "less than or equal to 36500"),
        (("event", "x"), "a valid integer"),
        # Of a variable that is not set: it must not be the policy of all.
        (("event", "30", "--license", ""), "--license: the value is empty"),
        (("event", "30", "--license="), "--license: the value is empty"),
    ],
)
async def test_what_cannot_be_set(
    target: tuple[str, str], arguments: tuple[str, ...], words: str
) -> None:
    refused = await run("retention", "set", *target, *arguments)
    assert refused.code == 2
    assert words in " ".join(refused.err.replace("│", " ").split())


async def test_clean_up(
    target: tuple[str, str], control: ControlPool, connection: Any, server: Application
) -> None:
    await add_rows(control, connection, "telemetry_events", ["", "acme"], [1, 20, 100])
    await run("retention", "set", "event", "10", "--license", "acme", *target)
    for arguments, words in (
        (("--dry-run",), "would take 1 partitions of "),
        ((), "took 1 partitions of "),
        ((), "took 0 partitions of 0 bytes and 0 single rows."),
    ):
        done = (await run("retention", "clean-up", "--json", *arguments, *target)).checked()
        assert words in done.err
        of_events = [row for row in done.rows if row["kind"] == "event"]
        gone = (0, 0) if "took 0" in words else (1, ROWS)
        assert (of_events[0]["partitions"], of_events[1]["rows"]) == gone
        assert of_events[1]["license_id"] == "acme"
    assert await left(connection, "telemetry_events") == {("", 1), ("", 20), ("acme", 1)}
    lines = (await run("retention", "clean-up", *target)).checked().out.splitlines()
    assert lines[0].split() == [
        *("kind", "license_id", "older_than", "partitions", "partition_bytes", "rows"),
    ]
    assert lines[1].split()[:3] == ["event", "(all", "others)"]


async def test_clean_up_on_a_terminal(target: tuple[str, str]) -> None:
    lines = await on_terminal(100, "retention", "clean-up", "--dry-run", *target)
    assert lines[0].split()[:2] == ["kind", "license_id"]
    assert lines[2].split()[:3] == ["event", "(all", "others)"]
