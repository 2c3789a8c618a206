"""What `--help` says."""

from __future__ import annotations

import pytest
from typer.testing import CliRunner

from fernando_telemetry.cli.program import app


@pytest.mark.parametrize(
    ("command", "switch"),
    [
        (("query", "events"), "--oldest-first"),
        (("rollups", "verify"), "--json"),
        (("send", "event"), "--help"),
        (("serve",), "--insecure-bind"),
        (("sql",), "--json"),
        (("bench", "ingest"), "--json"),
    ],
)
def test_switches_have_no_type(command: tuple[str, ...], switch: str) -> None:
    said = CliRunner().invoke(app, [*command, "--help"], env={"COLUMNS": "120", "TERM": "dumb"})
    assert said.exit_code == 0
    assert switch in said.output
    assert "bool" not in said.output
