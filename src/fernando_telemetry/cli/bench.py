"""bench: figures of this program on this machine, each against what it is to be compared with."""

from __future__ import annotations

import asyncio
import sys
from collections.abc import Callable
from typing import Annotated

import typer

app = typer.Typer(
    help="Measure this program on this machine; ends with one JSON line.", no_args_is_help=True
)


@app.callback()
def _group() -> None:
    """Keep `ingest` a subcommand while it is the only one."""


@app.command()
def ingest(
    *,
    records: Annotated[
        str,
        typer.Option(
            metavar="KIND",
            help="events, samples (a message each), points (samples in columns) or spans.",
        ),
    ] = "events",
    seconds: Annotated[
        float, typer.Option(min=0.1, help="Seconds of load, and as many of COPY.")
    ] = 15.0,
    streams: Annotated[int, typer.Option(min=1, help="Streams open at once.")] = 1,
    batch_records: Annotated[
        int | None, typer.Option(min=1, help="Records of a batch; default: about 1 MB.")
    ] = None,
    rounds: Annotated[int, typer.Option(min=1, help="Turns of COPY and service.")] = 5,
    as_json: Annotated[
        bool, typer.Option("--json", help="Only the JSON line, no progress.")
    ] = False,
) -> None:
    """Measure ingest: a server and a database of its own, raw COPY and service in turns."""
    from fernando_telemetry.bench.figures import as_line
    from fernando_telemetry.bench.ingest_rate import RateOptions, measure_rate
    from fernando_telemetry.bench.records import KINDS

    if records not in KINDS:
        raise typer.BadParameter(f"one of {', '.join(KINDS)}", param_hint="--records")
    options = RateOptions(records, seconds, streams, batch_records, rounds)
    figures = asyncio.run(measure_rate(options, _report(silent=as_json)))
    typer.echo(as_line(figures))


def _report(*, silent: bool) -> Callable[[str], None]:
    def report(line: str) -> None:
        if not silent:
            print(line, file=sys.stderr, flush=True)

    return report
