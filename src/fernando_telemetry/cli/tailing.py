"""What `query tail` does: print events as they are committed, across restarts of the server."""

from __future__ import annotations

import asyncio
import random
import sys
from collections.abc import AsyncIterator
from datetime import UTC, datetime, tzinfo
from pathlib import Path
from typing import Final

import grpc
from grpc import aio

from fernando.telemetry import v1
from fernando.telemetry.client import Backoff, RpcFailed, decode_error
from fernando_telemetry.cli.connection import call, complain, find_address
from fernando_telemetry.cli.kinds import EVENTS
from fernando_telemetry.cli.printing import shown_zone
from fernando_telemetry.cli.tables import Style, columns_of, write_times

# Told by their place in the line; the others by name.
_PLACED: Final = ("event_timestamp", "event_type", "event_name")
_TYPE_WIDTH: Final = max(map(len, v1.EventType.keys())) - len("EVENT_TYPE_")
_BACKOFF: Final = Backoff(initial_seconds=0.2, maximum_seconds=5.0)


def follow(
    *,
    filter: str,  # noqa: A002 - the flag's name
    max_events_per_second: int,
    as_json: bool,
    local: bool,
    target: str | None,
    data_dir: Path | None,
) -> None:
    """Print events until Ctrl-C, each on a line."""
    address = find_address(target, data_dir)
    request = v1.TailEventsRequest(filter=filter, max_events_per_second=max_events_per_second)
    lines = _Lines(as_json=as_json, zone=shown_zone(local=local))

    async def work(channel: aio.Channel) -> None:
        async for message in _messages(channel, request):
            for event in message.events:
                lines.write(event)
            sys.stdout.flush()
            if message.dropped_count:
                plural = "" if message.dropped_count == 1 else "s"
                complain(f"{message.dropped_count} event{plural} dropped: too many to follow.")

    call(address, work, filter)


async def _messages(
    channel: aio.Channel, request: v1.TailEventsRequest
) -> AsyncIterator[v1.TailEventsResponse]:
    """Give messages; once the tail has begun it goes on whatever passes.

    Raises:
        aio.AioRpcError: It could not begin, or trouble that does not pass.
    """
    failures, rng = 0, random.SystemRandom()
    while True:
        try:
            async for message in v1.EventServiceStub(channel).TailEvents(request):
                if not request.cursor:
                    complain("following; Ctrl-C ends it.")
                elif failures:
                    complain("connected again.")
                failures = 0
                request.cursor = message.cursor
                yield message
            failed = RpcFailed(grpc.StatusCode.UNAVAILABLE, "the server ended it")
        except aio.AioRpcError as error:
            failed = decode_error(error)
            if not request.cursor or not _passes(failed):
                raise
        failures += 1
        if failures == 1:
            complain(f"connection lost ({failed.reason or failed.message}); connecting again.")
        await asyncio.sleep(_BACKOFF.pause_seconds(failures, failed.retry_after_seconds, rng))


def _passes(failed: RpcFailed) -> bool:
    return failed.code is grpc.StatusCode.UNAVAILABLE or failed.reason == "OVERLOADED"


class _Lines:
    """Writes an event as a line.

    Args:
        as_json: JSON, else text; on a terminal it is cut to its width.
        zone: Of times.
    """

    def __init__(self, *, as_json: bool, zone: tzinfo) -> None:
        self._json = as_json
        self._zone = zone
        self._terminal = sys.stdout.isatty()

    def write(self, event: v1.Event) -> None:
        """Write one."""
        if self._json:
            print(EVENTS.line(event))
        elif self._terminal:
            self._write_for_people(event)
        else:
            print(_line(event, Style(self._zone)))

    def _write_for_people(self, event: v1.Event) -> None:
        from rich.console import Console
        from rich.text import Text

        line = _line(event, Style(self._zone, today=datetime.now(UTC)))
        color = "red" if event.event_type == v1.EventType.EVENT_TYPE_ERROR_EVENT else ""
        console = Console(highlight=False, emoji=False, markup=False)
        console.print(Text(line, style=color), no_wrap=True, overflow="ellipsis")


def _line(event: v1.Event, style: Style) -> str:
    (time,) = write_times([event.event_timestamp], style, precision="milliseconds")
    cells = {one.spec.name: one.texts[0] for one in columns_of([event], EVENTS.columns, style)}
    _, event_type, name = (cells.get(placed, "") for placed in _PLACED)
    named = [f"{column}={text}" for column, text in cells.items() if column not in _PLACED]
    return "  ".join([time, event_type.ljust(_TYPE_WIDTH), name, *named]).rstrip()
