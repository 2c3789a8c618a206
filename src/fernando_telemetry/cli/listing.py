"""What `query` does: ask for pages until there are enough rows, and print them."""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable
from dataclasses import dataclass
from datetime import UTC, datetime, tzinfo
from pathlib import Path
from typing import Any

import typer
from grpc import aio

from fernando.telemetry import v1
from fernando_telemetry.cli.connection import CALL_TIMEOUT_SECONDS, call, complain, find_address
from fernando_telemetry.cli.kinds import TRACE, ListKind
from fernando_telemetry.cli.printing import Printer
from fernando_telemetry.cli.tables import write_number
from fernando_telemetry.cli.times import Moment, parse_duration, parse_time

PAGE_ROWS = 1_000
LIMIT = 50
TRACE_LIMIT = 1_000


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


def time_range(wanted: Wanted, default_last: str, now: datetime) -> tuple[datetime, datetime]:
    """Give [start, end) of what was asked for.

    Raises:
        typer.BadParameter: A text is no time, or they contradict each other.
    """
    if wanted.start is not None and wanted.last is not None:
        raise typer.BadParameter("it excludes --start", param_hint="--last")
    end = _moment("--end", wanted.end, now) if wanted.end is not None else now
    if wanted.start is not None:
        start = _moment("--start", wanted.start, now)
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


def _moment(option: str, text: str, now: datetime) -> datetime:
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
        ask = _method(kind, channel)
        async for page, is_last in _pages(ask, request, kind.records_field, limit):
            printer.print_page(list(getattr(page, kind.records_field)), is_last=is_last)

    call(address, work, wanted.filter)
    printer.print_end(words_of_range(start, end, printer.zone))


def show_trace(trace_id: str, wanted: Wanted) -> None:
    """Print the spans of one trace."""
    limit = wanted.rows(TRACE_LIMIT)
    address = find_address(wanted.target, wanted.data_dir)
    request = v1.GetTraceRequest(trace_id=trace_id, min_commit_token=wanted.min_commit_token)
    if wanted.start is not None or wanted.end is not None or wanted.last is not None:
        start, end = time_range(wanted, "30d", datetime.now(UTC))
        _fill(request.time_range, start, end)
    printer = Printer(TRACE, as_json=wanted.as_json, local=wanted.local)
    summary = v1.TraceSummary()

    async def work(channel: aio.Channel) -> None:
        ask = _method(TRACE, channel)
        async for page, is_last in _pages(ask, request, TRACE.records_field, limit):
            summary.CopyFrom(page.summary)
            printer.print_page([one.span for one in page.spans], is_last=is_last)

    call(address, work)
    printer.print_end(_trace_words(summary))


def _trace_words(summary: v1.TraceSummary) -> str:
    root = f"{summary.root_service_name} {summary.root_operation_name}".strip()
    errors = f"{summary.error_count} error{'' if summary.error_count == 1 else 's'}"
    return (
        f" of the {summary.span_count} of trace {summary.trace_id}"
        f"{f' ({root})' if root else ''}: {write_number(summary.duration_ms, short=True)} ms, "
        f"{errors}, services: {', '.join(sorted(summary.spans_by_service)) or 'none'}"
    )


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
    _fill(request.time_range, start, end)


def _fill(message: v1.TimeRange, start: datetime, end: datetime) -> None:
    message.start_time.FromDatetime(start)
    message.end_time.FromDatetime(end)


def _method(kind: ListKind, channel: aio.Channel) -> Callable[..., Any]:
    stub = getattr(v1, f"{kind.service}ServiceStub")(channel)
    method: Callable[..., Any] = getattr(stub, kind.method)
    return method


async def _pages(
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
