"""Reads the auth log of an OpenSSH server (syslog: no year, no zone; taken as UTC)."""

from __future__ import annotations

import re
from collections.abc import Iterator
from datetime import UTC, date, datetime, timedelta
from pathlib import Path
from typing import Any, Final

from recording import chunks, shift_to, unreadable

from fernando.telemetry.client.records import event
from fernando.telemetry.v1 import Event, TelemetryRecords

_LINE: Final = re.compile(
    r"(?P<time>[A-Z][a-z]{2} [ \d]\d \d\d:\d\d:\d\d) (?P<host>\S+) (?P<program>\w+)"
    r"\[(?P<pid>\d+)\]: (?P<message>.*)"
)
# Not a part of a name, such as 5.36.59.76.dynamic-dsl-ip.example.
_ADDRESS: Final = re.compile(r"(?<![\w.-])\d{1,3}(?:\.\d{1,3}){3}(?![\w-]|\.\w)")
_USER: Final = re.compile(
    r"(?:(?:password|none|failures) for (?:invalid user )?|[Ii]nvalid user |for user |\buser=)"
    r" *(?P<user>[^ ]+)"
)
_REPEATED: Final = re.compile(r"message repeated (\d+) times")

# The first that is found in the message names the event.
_NAMES: Final = (
    ("POSSIBLE BREAK-IN ATTEMPT", "reverse_mapping_failed"),
    ("Accepted password", "password_accepted"),
    ("Failed password", "password_failed"),
    ("Failed none", "password_missing"),
    ("Too many authentication failures", "too_many_failures"),
    ("ignoring max retries", "max_retries_ignored"),
    ("authentication failure", "authentication_failed"),
    ("check pass; user unknown", "user_unknown"),
    ("nvalid user", "user_invalid"),
    ("session opened", "session_opened"),
    ("session closed", "session_closed"),
    ("Received disconnect", "disconnect_received"),
    ("Connection closed", "connection_closed"),
    ("Did not receive identification", "identification_missing"),
)


def assumed_year(path: Path, today: date) -> int:
    """Give the newest year in which the log's last line is not in the future."""
    last = path.read_text().splitlines()[-1]
    return today.year if _time(last, today.year, path, 0).date() <= today else today.year - 1


def batches(path: Path, last_day: date | None, year: int) -> Iterator[TelemetryRecords]:
    """Read the log as one of `year`; its newest line moves to `last_day`.

    Raises:
        ValueError: A line is not as expected.
    """
    lines = []
    for number, text in enumerate(path.read_text().splitlines(), 1):
        lines.append((_time(text, year, path, number), text))
    shift = shift_to(max(at for at, _ in lines), last_day)
    for chunk in chunks(lines):
        yield TelemetryRecords(events=[_event(at, text, shift) for at, text in chunk])


def _time(text: str, year: int, path: Path, number: int) -> datetime:
    line = _LINE.fullmatch(text.rstrip())
    if line is None:
        raise unreadable(path.name, number)
    return datetime.strptime(f"{year} {line['time']}", "%Y %b %d %H:%M:%S").replace(tzinfo=UTC)


def _event(at: datetime, text: str, shift: timedelta) -> Event:
    line = _LINE.fullmatch(text.rstrip())
    assert line is not None
    message = line["message"]
    data: dict[str, Any] = {"host": line["host"], "pid": int(line["pid"]), "message": message}
    # Names that strangers tried are no users of ours: they stay out of user_id.
    if user := _USER.search(message):
        data["user"] = user["user"]
    if repeated := _REPEATED.search(message):
        data["repeated"] = int(repeated[1])
    address = _ADDRESS.search(message)
    return event(
        "security_event",
        next((name for part, name in _NAMES if part in message), "sshd_message"),
        event_category="authentication",
        event_timestamp=at + shift,
        source=line["program"],
        source_ip=address[0] if address else "",
        event_data=data,
    )
