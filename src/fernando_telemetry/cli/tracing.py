"""What `query trace` and `query graph` do."""

from __future__ import annotations

from datetime import UTC, datetime, tzinfo
from typing import Final

from grpc import aio

from fernando.telemetry import v1
from fernando_telemetry.cli.connection import CALL_TIMEOUT_SECONDS, call, find_address
from fernando_telemetry.cli.kinds import EDGES, SERVICES
from fernando_telemetry.cli.listing import (
    Wanted,
    fill_range,
    method_of,
    pages,
    time_range,
    words_of_range,
)
from fernando_telemetry.cli.printing import Printer
from fernando_telemetry.cli.tables import write_number
from fernando_telemetry.cli.trace_rows import CRITICAL_MARK, TraceRows

TRACE_LIMIT: Final = 1_000


def show_trace(trace_id: str, wanted: Wanted) -> None:
    """Print the spans of one trace as its tree."""
    limit = wanted.rows(TRACE_LIMIT)
    address = find_address(wanted.target, wanted.data_dir)
    request = v1.GetTraceRequest(trace_id=trace_id, min_commit_token=wanted.min_commit_token)
    rows = TraceRows()
    kind = rows.kind
    if wanted.start is not None or wanted.end is not None or wanted.last is not None:
        fill_range(request.time_range, *time_range(wanted, kind.last, datetime.now(UTC)))
    printer = Printer(kind, as_json=wanted.as_json, local=wanted.local)

    async def work(channel: aio.Channel) -> None:
        ask = method_of(kind, channel)
        async for page, is_last in pages(ask, request, kind.records_field, limit):
            rows.summary.CopyFrom(page.summary)
            printer.print_page(list(page.spans), is_last=is_last)

    call(address, work)
    legend = f"; {CRITICAL_MARK} is the critical path" if rows.has_critical else ""
    about = _trace_words(rows.summary, printer.zone) + legend
    printer.print_end(about, of_count=rows.summary.span_count)


def _trace_words(summary: v1.TraceSummary, zone: tzinfo) -> str:
    root = f"{summary.root_service_name} {summary.root_operation_name}".strip()
    start = summary.start_time.ToDatetime(UTC).astimezone(zone).isoformat(timespec="milliseconds")
    orphans = f", {_counted(summary.orphan_count, 'orphan')}" if summary.orphan_count else ""
    return (
        f" of trace {summary.trace_id}"
        f"{f' ({root})' if root else ''}: {write_number(summary.duration_ms, short=True)} ms from "
        f"{start.replace('+00:00', 'Z')}, {_counted(summary.error_count, 'error')}{orphans}, "
        f"services: {', '.join(sorted(summary.spans_by_service)) or 'none'}"
    )


def _counted(count: int, noun: str) -> str:
    return f"{count} {noun}{'' if count == 1 else 's'}"


def show_graph(wanted: Wanted, license_id: str, *, of_services: bool) -> None:
    """Print the calls between services, or the services."""
    kind = SERVICES if of_services else EDGES
    start, end = time_range(wanted, kind.last, datetime.now(UTC))
    address = find_address(wanted.target, wanted.data_dir)
    request = v1.GetServiceGraphRequest(
        license_id=license_id, min_commit_token=wanted.min_commit_token
    )
    fill_range(request.time_range, start, end)
    printer = Printer(kind, as_json=wanted.as_json, local=wanted.local)

    async def work(channel: aio.Channel) -> v1.GetServiceGraphResponse:
        ask = method_of(kind, channel)
        graph: v1.GetServiceGraphResponse = await ask(request, timeout=CALL_TIMEOUT_SECONDS)
        printer.print_page(list(getattr(graph, kind.records_field)), is_last=True)
        return graph

    graph = call(address, work)
    spans = _counted(sum(node.span_count for node in graph.nodes), "span")
    between = "" if of_services else f" between {_counted(len(graph.nodes), 'service')}"
    about = f"{between}, by {spans}{words_of_range(start, end, printer.zone)}"
    printer.print_end(f"{about}; percentiles are within 2 %" if printer.count else about)
