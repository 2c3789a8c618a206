"""What the server logged while a test ran; a client's mistake must leave no traceback there."""

from __future__ import annotations

import logging
from collections.abc import Iterator, MutableMapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any

import pytest
from structlog.testing import capture_logs


@dataclass
class ServerLog:
    """The entries so far; `may_break` is set by tests of the server's own faults."""

    entries: list[MutableMapping[str, Any]] = field(default_factory=list)
    may_break: bool = False

    def named(self, event: str) -> list[MutableMapping[str, Any]]:
        """Give the entries of one event."""
        return [entry for entry in self.entries if entry["event"] == event]

    def tracebacks(self) -> list[MutableMapping[str, Any]]:
        """Give the entries that carry a traceback."""
        return [
            entry
            for entry in self.entries
            if entry.get("exc_info") or entry["event"] == "call_broke"
        ]


@contextmanager
def watched_log(caplog: pytest.LogCaptureFixture) -> Iterator[ServerLog]:
    """Collect structlog's entries; at the end no traceback may be among them, nor in logging's."""
    with capture_logs() as entries:
        log = ServerLog(entries)
        yield log
    if not log.may_break:
        assert log.tracebacks() == []
        broken = [
            record
            for when in ("setup", "call", "teardown")
            for record in caplog.get_records(when)
            if record.exc_info or record.levelno >= logging.ERROR
        ]
        assert broken == []
