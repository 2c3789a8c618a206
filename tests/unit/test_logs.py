"""Logs: what a traceback may tell, in both forms."""

from __future__ import annotations

import json
from typing import Literal

import pytest
import structlog

from fernando_telemetry.logs import configure_logs


def _break_with(dsn: str) -> None:
    raise RuntimeError(len(dsn))


@pytest.mark.parametrize("form", ["json", "console"])
def test_a_traceback_tells_no_variables(
    capsys: pytest.CaptureFixture[str], form: Literal["json", "console"]
) -> None:
    """They hold records of users, and DSNs with their passwords."""
    before = structlog.get_config()
    try:
        configure_logs("info", form)
        try:
            # Put together here, so that the line of source in a traceback does not hold it.
            _break_with("ada-terces"[::-1])
        except RuntimeError as error:
            structlog.get_logger("test").error("it_broke", exc_info=error)
    finally:
        structlog.configure(**before)
    written = capsys.readouterr().err
    assert "RuntimeError" in written
    assert "secret-ada" not in written
    if form == "json":
        assert json.loads(written)["event"] == "it_broke"
