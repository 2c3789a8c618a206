"""query: list records of a running server."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

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
        help="Comparisons of fields joined by AND: duration_ms >= 250 AND …",
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
AsJson = Annotated[bool, typer.Option("--json", help="One JSON object a row.")]
Local = Annotated[bool, typer.Option("--local", help="Times of this machine's zone, not UTC.")]
Target = Annotated[
    str | None, typer.Option(metavar="HOST:PORT", help="The server. Default: the local one.")
]
DataDir = Annotated[
    Path | None, typer.Option(metavar="DIR", help="Find the local server by its data directory.")
]


def _add(name: str, help_text: str) -> None:
    """Add the command that lists one kind of record."""

    def command(
        *,
        last: Last = None,
        start: Start = None,
        end: End = None,
        filter_text: Filter = "",
        limit: Limit = None,
        all_rows: AllRows = False,
        oldest_first: OldestFirst = False,
        as_json: AsJson = False,
        local: Local = False,
        target: Target = None,
        data_dir: DataDir = None,
    ) -> None:
        from fernando_telemetry.cli.kinds import LIST_KINDS
        from fernando_telemetry.cli.listing import Wanted, show

        wanted = Wanted(
            start=start,
            end=end,
            last=last,
            filter=filter_text,
            limit=limit,
            all_rows=all_rows,
            oldest_first=oldest_first,
            as_json=as_json,
            local=local,
            target=target,
            data_dir=data_dir,
        )
        show(LIST_KINDS[name], wanted)

    app.command(name=name, help=help_text)(command)


_add("events", "List events, newest first, of the last 5 minutes unless told otherwise.")
_add("metrics", "List samples of system metrics, newest first, of the last 5 minutes by default.")


@app.command()
def business(
    *,
    last: Last = None,
    start: Start = None,
    end: End = None,
    filter_text: Filter = "",
    include_superseded: Superseded = False,
    limit: Limit = None,
    all_rows: AllRows = False,
    oldest_first: OldestFirst = False,
    as_json: AsJson = False,
    local: Local = False,
    target: Target = None,
    data_dir: DataDir = None,
) -> None:
    """List KPIs by period_start, newest first, of the last 24 hours by default."""
    from fernando_telemetry.cli.kinds import BUSINESS
    from fernando_telemetry.cli.listing import Wanted, show

    wanted = Wanted(
        start=start,
        end=end,
        last=last,
        filter=filter_text,
        limit=limit,
        all_rows=all_rows,
        oldest_first=oldest_first,
        include_superseded=include_superseded,
        as_json=as_json,
        local=local,
        target=target,
        data_dir=data_dir,
    )
    show(BUSINESS, wanted)


_add("spans", "List spans, newest first, of the last 5 minutes unless told otherwise.")


@app.command()
def trace(
    trace_id: Annotated[str, typer.Argument(metavar="TRACE_ID", help="32 or 16 hex digits.")],
    *,
    last: Last = None,
    start: Start = None,
    end: End = None,
    limit: TraceLimit = None,
    all_rows: AllRows = False,
    as_json: AsJson = False,
    local: Local = False,
    target: Target = None,
    data_dir: DataDir = None,
) -> None:
    """Show the spans of one trace, oldest first. A time range makes it quicker."""
    from fernando_telemetry.cli.listing import Wanted, show_trace

    wanted = Wanted(
        start=start,
        end=end,
        last=last,
        limit=limit,
        all_rows=all_rows,
        as_json=as_json,
        local=local,
        target=target,
        data_dir=data_dir,
    )
    show_trace(trace_id, wanted)
