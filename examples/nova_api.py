"""Reads the log of OpenStack nova: its API requests, and what its other parts say."""

from __future__ import annotations

import re
from collections.abc import Iterator
from datetime import UTC, date, datetime, timedelta
from decimal import Decimal
from pathlib import Path
from typing import Final

from recording import chunks, message_name, shift_to, unreadable

from fernando.telemetry.client.records import event
from fernando.telemetry.v1 import Event, TelemetryRecords

_LINE: Final = re.compile(
    r"(?P<file>\S+) (?P<time>\d{4}-\d\d-\d\d \S+) (?P<pid>\d+) (?P<level>[A-Z]+) (?P<logger>\S+) "
    r"\[(?:-|(?P<request>\S+) (?P<user>\S+) (?P<project>\S+) \S+ \S+ \S+)\] (?P<message>.*)"
)
_REQUEST: Final = re.compile(
    r'(?P<clients>\S+) "(?P<method>[A-Z]+) (?P<path>\S+) HTTP/1\.1" '
    r"status: (?P<status>\d+) len: (?P<bytes>\d+) time: (?P<seconds>[\d.]+)"
)
_INSTANCE: Final = re.compile(r"\[instance: (?P<instance>[0-9a-f-]{36})\] ")

_PROJECT: Final = re.compile(r"/[0-9a-f]{32}(?=/|$)")
_ID: Final = re.compile(r"/(?:[0-9a-f]{8}(?:-[0-9a-f]{4}){3}-[0-9a-f]{12}|\d+)(?=/|$)")


def path_template(path: str) -> str:
    """Give a path without its ids and its query: `/v2/{project_id}/servers/{id}`."""
    return _ID.sub("/{id}", _PROJECT.sub("/{project_id}", path.partition("?")[0]))


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
        lines.append((datetime.fromisoformat(line["time"]).replace(tzinfo=UTC), line))
    shift = shift_to(max(at for at, _ in lines), last_day)
    for chunk in chunks(lines):
        yield TelemetryRecords(events=[_event(at, line, shift) for at, line in chunk])


def _event(at: datetime, line: re.Match[str], shift: timedelta) -> Event:
    request = _REQUEST.fullmatch(line["message"])
    return _message(at + shift, line) if request is None else _request(at + shift, line, request)


def _request(at: datetime, line: re.Match[str], request: re.Match[str]) -> Event:
    return event(
        "api_event",
        f"{request['method']} {path_template(request['path'])}",
        event_category=line["logger"],
        event_timestamp=at,
        # By way of Decimal: the double nearest to the milliseconds, without a second rounding.
        duration_ms=float(Decimal(request["seconds"]) * 1000),
        user_id=_given(line["user"]),
        source=_program(line),
        # Behind a proxy the client comes first.
        source_ip=request["clients"].partition(",")[0],
        event_data=_common(line)
        | {
            "method": request["method"],
            "path": request["path"],
            "status": int(request["status"]),
            "bytes": int(request["bytes"]),
        },
        tags=[line["level"].lower()],
    )


def _message(at: datetime, line: re.Match[str]) -> Event:
    data = _common(line)
    message = line["message"]
    instance = _INSTANCE.match(message)
    if instance is not None:
        data["instance_id"] = instance["instance"]
        message = message[instance.end() :]
    return event(
        "system_event",
        message_name(message),
        event_category=line["logger"],
        event_timestamp=at,
        user_id=_given(line["user"]),
        source=_program(line),
        event_data=data | {"message": message},
        tags=[line["level"].lower()],
    )


def _common(line: re.Match[str]) -> dict[str, str | int]:
    data: dict[str, str | int] = {"pid": int(line["pid"])}
    for key, group in (("request_id", "request"), ("project_id", "project")):
        if value := _given(line[group]):
            data[key] = value
    return data


def _given(text: str | None) -> str:
    return "" if text in (None, "-") else str(text)


def _program(line: re.Match[str]) -> str:
    """Give `nova-api` of `nova-api.log.1.2017-05-16_13:53:08`."""
    return line["file"].partition(".")[0]
