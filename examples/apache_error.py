"""Reads an Apache error log (local time without a zone, taken as UTC)."""

from __future__ import annotations

import re
from collections.abc import Iterator
from datetime import UTC, date, datetime, timedelta
from pathlib import Path
from typing import Final

from recording import chunks, message_name, shift_to, unreadable

from fernando.telemetry.client.records import event
from fernando.telemetry.v1 import Event, TelemetryRecords

_LINE: Final = re.compile(
    r"\[(?P<time>[^]]+)\] \[(?P<level>\w+)\] (?:\[client (?P<client>[^]]+)\] )?(?P<message>.*)"
)
_ERROR_LEVELS: Final = frozenset({"error", "crit", "alert", "emerg"})


def batches(path: Path, last_day: date | None) -> Iterator[TelemetryRecords]:
    """Read the log; its newest line moves to `last_day`.

    Raises:
        ValueError: A line is not as expected.
    """
    lines = []
    for number, text in enumerate(path.read_text().splitlines(), 1):
        line = _LINE.fullmatch(text.rstrip())
        if line is None:
            raise unreadable(path.name, number)
        at = datetime.strptime(line["time"], "%a %b %d %H:%M:%S %Y").replace(tzinfo=UTC)
        lines.append((at, line))
    shift = shift_to(max(at for at, _ in lines), last_day)
    for chunk in chunks(lines):
        yield TelemetryRecords(events=[_event(at, line, shift) for at, line in chunk])


def _event(at: datetime, line: re.Match[str], shift: timedelta) -> Event:
    return event(
        "error_event" if line["level"] in _ERROR_LEVELS else "system_event",
        message_name(line["message"]),
        event_category="web_server",
        event_timestamp=at + shift,
        source="apache",
        source_ip=line["client"] or "",
        event_data={"message": line["message"]},
        tags=[line["level"]],
    )
