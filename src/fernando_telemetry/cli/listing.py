"""What `query` does: ask for pages until there are enough rows, and print them."""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable
from dataclasses import dataclass
from datetime import UTC, datetime, tzinfo
from pathlib import Path
from typing import Any, Protocol

import typer
from grpc import aio

from fernando.telemetry import v1
from fernando_telemetry.cli.connection import CALL_TIMEOUT_SECONDS, call, complain, find_address
from fernando_telemetry.cli.kinds import ListKind
from fernando_telemetry.cli.printing import Printer
from fernando_telemetry.cli.times import Moment, parse_duration, parse_time

PAGE_ROWS = 1_000
LIMIT = 50


@dataclass(frozen=True, slots=True)
class Wanted:
    """What was asked for on the command line.

    Args:
        start: `--start` as typed, and so on.
        end: `--end`.
        last: `--last`.
        filter: `--filter`.
        limit: `--limit`; None: the kind's default.
        all_rows: `--all`.
        oldest_first: `--oldest-first`.
        include_superseded: `--include-superseded`; KPIs only.
        min_commit_token: `--min-commit-token`.
        as_json: `--json`.
        local: `--local`.
        target: `--target`.
        data_dir: `--data-dir`.
    """

    start: str | None
    end: str | None
    last: str | None
    limit: int | None
    all_rows: bool
    as_json: bool
    local: bool
    target: str | None
    data_dir: Path | None
    filter: str = ""
    oldest_first: bool = False
    include_superseded: bool = False
    min_commit_token: str = ""

    def rows(self, default: int) -> int | None:
        """Give how many rows at most; None: all.

        Raises:
            typer.BadParameter: Both a limit and all.
        """
        if self.all_rows:
            if self.limit is not None:
                raise typer.BadParameter("it excludes --limit", param_hint="--all")
            return None
        return default if self.limit is None else self.limit


class WantedRange(Protocol):
    """A time range as typed: `--start`, `--end` and `--last`."""

    @property
    def start(self) -> str | None:
        """None: not given; so for the others."""

    @property
    def end(self) -> str | None:
        """The end."""

    @property
    def last(self) -> str | None:
        """The length."""


def time_range(wanted: WantedRange, default_last: str, now: datetime) -> tuple[datetime, datetime]:
    """Give [start, end) of what was asked for.

    Raises:
        typer.BadParameter: A text is no time, or they contradict each other.
    """
    if wanted.start is not None and wanted.last is not None:
        raise typer.BadParameter("it excludes --start", param_hint="--last")
    end = moment_of("--end", wanted.end, now) if wanted.end is not None else now
    if wanted.start is not None:
        start = moment_of("--start", wanted.start, now)
        if start >= end:
            raise typer.BadParameter(
                f"the end {end:%Y-%m-%dT%H:%M:%SZ} is not after the start "
                f"{start:%Y-%m-%dT%H:%M:%SZ}",
                param_hint="--start",
            )
        return start, end
    try:
        duration = parse_duration(wanted.last or default_last)
        if not duration:
            raise typer.BadParameter("it is empty", param_hint="--last")
        return end - duration, end
    except (ValueError, OverflowError) as error:
        raise typer.BadParameter(str(error), param_hint="--last") from None


def moment_of(option: str, text: str, now: datetime) -> datetime:
    """Give the time that an option names; a note tells where it is taken as UTC.

    Raises:
        typer.BadParameter: It is no time.
    """
    try:
        moment: Moment = parse_time(text, now)
    except ValueError as error:
        raise typer.BadParameter(str(error), param_hint=option) from None
    if moment.assumed_utc:
        complain(f"note: {option} {text} has no offset and is taken as UTC.")
    return moment.time


def show(kind: ListKind, wanted: Wanted) -> None:
    """List records of a kind and print them."""
    start, end = time_range(wanted, kind.last, datetime.now(UTC))
    limit = wanted.rows(LIMIT)
    address = find_address(wanted.target, wanted.data_dir)
    request = _request(kind, wanted, start, end)
    printer = Printer(kind, as_json=wanted.as_json, local=wanted.local)

    async def work(channel: aio.Channel) -> None:
        ask = method_of(kind, channel)
        async for page, is_last in pages(ask, request, kind.records_field, limit):
            printer.print_page(list(getattr(page, kind.records_field)), is_last=is_last)

    call(address, work, wanted.filter)
    printer.print_end(words_of_range(start, end, printer.zone))


def _request(kind: ListKind, wanted: Wanted, start: datetime, end: datetime) -> Any:
    request = getattr(v1, f"{kind.method}Request")()
    # The list of rejected records has one order, and no commit to wait for.
    if "order_by" in request.DESCRIPTOR.fields_by_name:
        request.min_commit_token = wanted.min_commit_token
        request.order_by = kind.time_field if wanted.oldest_first else f"{kind.time_field} desc"
    if wanted.include_superseded:
        request.include_superseded = True
    fill_selection(request, wanted, start, end)
    return request


def fill_selection(request: Any, wanted: Wanted, start: datetime, end: datetime) -> None:
    """Set a request's filter and time range.

    Raises:
        typer.BadParameter: The filter is no text.
    """
    try:
        request.filter = wanted.filter
    except ValueError:
        raise typer.BadParameter("it is not valid UTF-8", param_hint="--filter") from None
    fill_range(request.time_range, start, end)


def fill_range(message: v1.TimeRange, start: datetime, end: datetime) -> None:
    """Set both sides of a time range."""
    message.start_time.FromDatetime(start)
    message.end_time.FromDatetime(end)


def method_of(kind: ListKind, channel: aio.Channel) -> Callable[..., Any]:
    """Give the method that lists a kind."""
    stub = getattr(v1, f"{kind.service}ServiceStub")(channel)
    method: Callable[..., Any] = getattr(stub, kind.method)
    return method


async def pages(
    ask: Callable[..., Any], request: Any, records_field: str, limit: int | None
) -> AsyncIterator[tuple[Any, bool]]:
    """Give pages until the rows asked for are there, each with whether the list ends with it."""
    left = limit
    while left is None or left > 0:
        request.page_size = PAGE_ROWS if left is None else min(left, PAGE_ROWS)
        page = await ask(request, timeout=CALL_TIMEOUT_SECONDS)
        yield page, not page.next_page_token
        if not page.next_page_token:
            return
        request.page_token = page.next_page_token
        if left is not None:
            left -= len(getattr(page, records_field))


def words_of_range(start: datetime, end: datetime, zone: tzinfo) -> str:
    """Give a time range as the end of a sentence."""
    return f" from {_whole(start, zone)} to {_whole(end, zone)}"


def _whole(time: datetime, zone: tzinfo) -> str:
    return time.astimezone(zone).isoformat(timespec="seconds").replace("+00:00", "Z")
