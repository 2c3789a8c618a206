"""The SDK is typed: mypy --strict passes on a client, and catches one that is wrong."""

from __future__ import annotations

import sys
from pathlib import Path

import pytest

from tests.contract.repository import run

CLIENT = Path(__file__).with_name("client_program.py")

WRONG = """
import grpc.aio
from fernando.telemetry.v1 import Event, EventServiceStub, ListEventsRequest

event = Event(event_name=3)
event.no_such_field
reveal_type(event.duration_ms)

async def read(channel: grpc.aio.Channel) -> None:
    page = await EventServiceStub(channel).ListEvents(ListEventsRequest())
    page.events[0].event_id + 1
    await EventServiceStub(channel).ListEvents(Event())
"""


def test_mypy_strict_passes_on_a_client_and_catches_a_wrong_one(tmp_path: Path) -> None:
    pytest.importorskip("mypy", reason="mypy is not installed")
    wrong = tmp_path / "wrong.py"
    wrong.write_text(WRONG)
    # Not this project's configuration: a user's.
    result = run(
        *(sys.executable, "-m", "mypy", "--strict", "--config-file=", "--no-error-summary"),
        *(f"--cache-dir={tmp_path / 'cache'}", CLIENT, wrong),
        cwd=tmp_path,
    )
    lines = [line for line in result.stdout.splitlines() if not line.startswith("wrong.py:")]
    assert (lines, result.stderr) == ([], "")
    told = {
        int(line.split(":")[1]): line for line in result.stdout.splitlines() if ": note" not in line
    }
    assert sorted(told) == [5, 6, 11, 12]
    assert 'Revealed type is "float"' in result.stdout.replace("builtins.", "")
