"""query: list records of a running server."""

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
_BUSINESS: Final = _LIST | {"include_superseded": (Superseded, False)}
_TRACE: Final = (
    {"trace_id": (TraceId, inspect.Parameter.empty)}
    | RANGE
    | {"limit": (TraceLimit, None), "all_rows": (AllRows, False)}
    | _OUTPUT
)


def _add(name: str, help_text: str, flags: dict[str, tuple[Any, Any]] = _LIST) -> None:
    """Add the command that lists one kind of record."""

    def command(**given: Any) -> None:
        from fernando_telemetry.cli.kinds import LIST_KINDS
        from fernando_telemetry.cli.listing import Wanted, show

        show(LIST_KINDS[name], Wanted(**given))

    add_command(app, name, help_text, flags, command)


def _trace(trace_id: str, **given: Any) -> None:
    from fernando_telemetry.cli.listing import Wanted, show_trace

    show_trace(trace_id, Wanted(**given))


_add("events", "List events, newest first, of the last 5 minutes unless told otherwise.")
_add("metrics", "List samples of system metrics, newest first, of the last 5 minutes by default.")
_add(
    "business",
    "List KPIs by period_start, newest first, of the last 24 hours by default.",
    _BUSINESS,
)
_add("spans", "List spans, newest first, of the last 5 minutes unless told otherwise.")
add_command(
    app,
    "trace",
    "Show the spans of one trace, as its tree. A time range makes it quicker.",
    _TRACE,
    _trace,
)
