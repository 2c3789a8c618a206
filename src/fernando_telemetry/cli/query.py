"""query: list records of a running server, and ask about its traces."""

from __future__ import annotations

import inspect
from pathlib import Path
from typing import Annotated, Any, Final

import typer

from fernando_telemetry.cli.signatures import add_command

app = typer.Typer(help="List what a running server has stored.", no_args_is_help=True)

Last = Annotated[
    str | None,
    typer.Option(metavar="DURATION", help="Length of the time range, such as 30s, 5m, 1h30m, 7d."),
]
Start = Annotated[
    str | None, typer.Option(metavar="TIME", help="Its first moment: RFC 3339, or such as -2h.")
]
End = Annotated[str | None, typer.Option(metavar="TIME", help="Its end, exclusive. Default: now.")]
Filter = Annotated[
    str,
    typer.Option(
        "--filter",
        metavar="TEXT",
        help="Conditions on fields: license_id = l1 OR license_id = l2",
    ),
]
Limit = Annotated[
    int | None, typer.Option(min=1, metavar="N", help="Most rows to give. Default: 50.")
]
TraceLimit = Annotated[
    int | None, typer.Option(min=1, metavar="N", help="Most spans to give. Default: 1000.")
]
AllRows = Annotated[bool, typer.Option("--all", help="Give all rows there are.")]
OldestFirst = Annotated[bool, typer.Option("--oldest-first", help="Give the oldest rows first.")]
Superseded = Annotated[
    bool, typer.Option("--include-superseded", help="Give values that were replaced, too.")
]
CommitToken = Annotated[
    str,
    typer.Option(
        metavar="TOKEN", help="Show this commit, which send printed, or fail: for replicas."
    ),
]
AsJson = Annotated[bool, typer.Option("--json", help="One JSON object a row.")]
Local = Annotated[bool, typer.Option("--local", help="Times of this machine's zone, not UTC.")]
Target = Annotated[
    str | None, typer.Option(metavar="HOST:PORT", help="The server. Default: the local one.")
]
DataDir = Annotated[
    Path | None, typer.Option(metavar="DIR", help="Find the local server by its data directory.")
]

Align = Annotated[
    str | None,
    typer.Option(
        metavar="DURATION", help="Compute time series instead, with buckets such as 1m or 1h."
    ),
]
MetricName = Annotated[
    str | None, typer.Option(metavar="NAME", help="With --align: the metric. Required.")
]
AggregationWord = Annotated[
    str | None,
    typer.Option(
        metavar="WORD",
        help="With --align: average (the default), min, max, sum, count, last, rate, delta, p50, "
        "p90, p95 or p99 of a bucket.",
    ),
]
Reduce = Annotated[
    str | None,
    typer.Option(metavar="WORD", help="With --align: how the series of a group become one."),
]
GroupBy = Annotated[
    list[str] | None,
    typer.Option(
        metavar="FIELD", help="With --reduce: a field such as host_name or labels.region."
    ),
]
GapFill = Annotated[
    str | None,
    typer.Option(
        metavar="WORD", help="With --align: none (the default), nan, previous or zero in gaps."
    ),
]

ServiceName = Annotated[str, typer.Option(metavar="TEXT", help="Spans of this service.")]
OperationName = Annotated[str, typer.Option(metavar="TEXT", help="Spans of this operation.")]
Status = Annotated[str, typer.Option(metavar="WORD", help="Spans that ended so: ok, error.")]
MinDuration = Annotated[
    str | None, typer.Option(metavar="DURATION", help="Spans that took that long: 250ms, 1.5s.")
]
MaxDuration = Annotated[
    str | None, typer.Option(metavar="DURATION", help="Spans that took no longer.")
]
Tags = Annotated[
    list[str] | None, typer.Option(metavar="KEY=VALUE", help="Spans with this tag. Repeatable.")
]
LicenseId = Annotated[str, typer.Option(metavar="TEXT", help="Only spans of this licence.")]
Services = Annotated[bool, typer.Option("--services", help="The services instead of the calls.")]
MostPerSecond = Annotated[
    int, typer.Option(min=0, metavar="N", help="Drop what is more in a second; 0: nothing.")
]
TraceId = Annotated[str, typer.Argument(metavar="TRACE_ID", help="32 or 16 hex digits.")]

# What is a field of `Wanted` in listing.py, in the order that --help shows.
RANGE: Final[dict[str, tuple[Any, Any]]] = {
    "last": (Last, None),
    "start": (Start, None),
    "end": (End, None),
}
OUTPUT: Final[dict[str, tuple[Any, Any]]] = {
    "as_json": (AsJson, False),
    "local": (Local, False),
    "target": (Target, None),
    "data_dir": (DataDir, None),
}
_OUTPUT: Final = {"min_commit_token": (CommitToken, "")} | OUTPUT
_LIST: Final = (
    RANGE
    | {
        "filter": (Filter, ""),
        "limit": (Limit, None),
        "all_rows": (AllRows, False),
        "oldest_first": (OldestFirst, False),
    }
    | _OUTPUT
)
_ALIGNMENT: Final[dict[str, tuple[Any, Any]]] = {
    "align": (Align, None),
    "metric_name": (MetricName, None),
    "aggregation": (AggregationWord, None),
    "reduce": (Reduce, None),
    "group_by": (GroupBy, None),
    "gap_fill": (GapFill, None),
}
_BUSINESS: Final = _LIST | {"include_superseded": (Superseded, False)}
_TRACE: Final = (
    {"trace_id": (TraceId, inspect.Parameter.empty)}
    | RANGE
    | {"limit": (TraceLimit, None), "all_rows": (AllRows, False)}
    | _OUTPUT
)


_SPANS: Final = _LIST | {
    "service_name": (ServiceName, ""),
    "operation_name": (OperationName, ""),
    "min_duration": (MinDuration, None),
    "max_duration": (MaxDuration, None),
    "status": (Status, ""),
    "tags": (Tags, None),
}
_TAIL: Final = {"filter": (Filter, ""), "max_events_per_second": (MostPerSecond, 0)} | OUTPUT
_GRAPH: Final = RANGE | {"license_id": (LicenseId, ""), "services": (Services, False)} | _OUTPUT


def _add(name: str, help_text: str, flags: dict[str, tuple[Any, Any]] = _LIST) -> None:
    """Add the command that lists one kind of record."""

    def command(**given: Any) -> None:
        from fernando_telemetry.cli.kinds import LIST_KINDS
        from fernando_telemetry.cli.listing import Wanted, show

        show(LIST_KINDS[name], Wanted(**given))

    add_command(app, name, help_text, flags, command)


def _add_of_spans(name: str, help_text: str) -> None:
    """Add a list with flags for what spans are mostly looked for by."""

    def command(**given: Any) -> None:
        from fernando_telemetry.cli.kinds import LIST_KINDS
        from fernando_telemetry.cli.listing import Wanted, show
        from fernando_telemetry.cli.span_filter import span_filter

        names = ("filter", *(name for name in _SPANS if name not in _LIST))
        text = span_filter(**{name: given.pop(name) for name in names})
        show(LIST_KINDS[name], Wanted(filter=text, **given))

    add_command(app, name, help_text, _SPANS, command)


def _graph(*, license_id: str, services: bool, **given: Any) -> None:
    from fernando_telemetry.cli.listing import Wanted
    from fernando_telemetry.cli.tracing import show_graph

    wanted = Wanted(limit=None, all_rows=True, **given)
    show_graph(wanted, license_id, of_services=services)


def _tail(**given: Any) -> None:
    from fernando_telemetry.cli.tailing import follow

    follow(**given)


def _trace(trace_id: str, **given: Any) -> None:
    from fernando_telemetry.cli.listing import Wanted
    from fernando_telemetry.cli.tracing import show_trace

    show_trace(trace_id, Wanted(**given))


def _metrics(**given: Any) -> None:
    from fernando_telemetry.cli.listing import Wanted
    from fernando_telemetry.cli.time_series import Alignment, show_metrics

    alignment = {name: given.pop(name) for name in _ALIGNMENT}
    alignment["group_by"] = tuple(alignment["group_by"] or ())
    show_metrics(Wanted(**given), Alignment(**alignment))


_add("events", "List events, newest first, of the last 5 minutes unless told otherwise.")
add_command(
    app,
    "metrics",
    "List samples of system metrics, newest first, of the last 5 minutes by default; with --align "
    "compute time series of the last hour.",
    _LIST | _ALIGNMENT,
    _metrics,
)
_add(
    "business",
    "List KPIs by period_start, newest first, of the last 24 hours by default.",
    _BUSINESS,
)
_add_of_spans("spans", "List spans, newest first, of the last 5 minutes unless told otherwise.")
_add_of_spans(
    "traces",
    "Find traces by one span that matches all of it, newest first, of the last 5 minutes.",
)
add_command(
    app,
    "trace",
    "Show the spans of one trace, as its tree. A time range makes it quicker.",
    _TRACE,
    _trace,
)
add_command(
    app,
    "graph",
    "Show which service calls which, by the spans of the last hour unless told otherwise.",
    _GRAPH,
    _graph,
)
add_command(
    app,
    "tail",
    "Print events as they are committed, each on a line, until Ctrl-C.",
    _TAIL,
    _tail,
)
