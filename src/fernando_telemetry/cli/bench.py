"""bench: figures of this program on this machine, each against what it is to be compared with."""

from __future__ import annotations

import asyncio
import signal
import sys
from collections.abc import Callable, Coroutine
from pathlib import Path
from typing import Annotated, Any, Final

import typer

from fernando_telemetry.cli.signatures import Command

app = typer.Typer(
    help="Measure this program on this machine; ends with one JSON line.", no_args_is_help=True
)

# What `bench.records` and `bench.ingest_targets` know, which are slow to import.
RECORD_WORDS: Final = ("events", "samples", "points", "spans")
MEASURE_WORDS: Final = (
    *("rate", "latency", "memory", "partition-size", "sustained", "rollups", "retention", "tail"),
)


def _one_of(words: tuple[str, ...]) -> Callable[[str], str]:
    def check(value: str) -> str:
        if value not in words:
            raise typer.BadParameter(f"{value!r} is none of {', '.join(words)}")
        return value

    return check


@app.command(cls=Command)
def ingest(
    *,
    measure: Annotated[
        str,
        typer.Option(
            callback=_one_of(MEASURE_WORDS),
            metavar="|".join(MEASURE_WORDS),
            help="What to measure.",
        ),
    ] = "rate",
    records: Annotated[
        str,
        typer.Option(
            callback=_one_of(RECORD_WORDS),
            metavar="|".join(RECORD_WORDS),
            help="What to send; samples are a message each, points samples in columns.",
        ),
    ] = "events",
    seconds: Annotated[
        float, typer.Option(min=0.1, help="Seconds of load, and as many of COPY.")
    ] = 15.0,
    streams: Annotated[
        int, typer.Option(min=1, help="Streams at once; with several, one is measured as well.")
    ] = 1,
    batch_records: Annotated[
        int | None, typer.Option(min=1, help="Records of a batch; default: about 1 MB.")
    ] = None,
    rounds: Annotated[
        int, typer.Option(min=1, help="Turns that the seconds are cut into; medians of them count.")
    ] = 5,
    preload_rows: Annotated[
        int,
        typer.Option(
            min=1,
            help="partition-size: rows there before; retention: that go, to 6 M.",
        ),
    ] = 50_000_000,
    partitions: Annotated[
        int, typer.Option(min=1, help="sustained: how many partitions to fill.")
    ] = 10,
    partition_length: Annotated[
        str, typer.Option(help="sustained: their length, such as '10 seconds'.")
    ] = "10 seconds",
    stalled_clients: Annotated[
        int, typer.Option(min=1, help="memory: clients that stall while PostgreSQL hangs.")
    ] = 200,
    tails: Annotated[
        int, typer.Option(min=1, max=100, help="tail: how many at once, each with its filter.")
    ] = 100,
    everything: Annotated[
        bool, typer.Option("--all", help="All figures, against their targets.")
    ] = False,
    runs: Annotated[
        int, typer.Option(min=1, help="--all: how often; the medians are compared.")
    ] = 5,
    as_json: Annotated[
        bool, typer.Option("--json", help="Only the JSON line, no progress.")
    ] = False,
) -> None:
    """Measure ingest, on a server and a database of its own that are removed afterwards.

    The database is made in TMPDIR, which must be on the disk that is to be measured; fsync is on.
    Settings of the environment (FERNANDO_WRITERS and the like) reach the server.
    """
    from fernando_telemetry.bench.figures import as_line
    from fernando_telemetry.bench.ingest_targets import MEASURES, measure_all
    from fernando_telemetry.bench.stand import IngestOptions

    options = IngestOptions(
        kind=records,
        seconds=seconds,
        streams=streams,
        batch_records=batch_records,
        rounds=rounds,
        preload_rows=preload_rows,
        partitions=partitions,
        partition_length=partition_length,
        stalled_clients=stalled_clients,
        tails=tails,
    )
    report = _report(silent=as_json)
    figures = _run(
        measure_all(options, runs, report) if everything else MEASURES[measure](options, report)
    )
    if not as_json:
        _print_table(figures)
    typer.echo(as_line(figures))


def _run(work: Coroutine[Any, Any, dict[str, Any]]) -> dict[str, Any]:
    """Run a benchmark; Ctrl-C and SIGTERM end its processes and remove its data."""

    async def run() -> dict[str, Any]:
        task = asyncio.current_task()
        assert task is not None
        asyncio.get_running_loop().add_signal_handler(signal.SIGTERM, task.cancel)
        return await work

    try:
        return asyncio.run(run())
    except KeyboardInterrupt:
        raise typer.Exit(130) from None
    except asyncio.CancelledError:
        raise typer.Exit(143) from None


def _report(*, silent: bool) -> Callable[[str], None]:
    def report(line: str) -> None:
        if not silent:
            print(line, file=sys.stderr, flush=True)

    return report


def _print_table(figures: dict[str, Any]) -> None:
    """Show figures on standard error: targets as a table, else a line each."""
    from rich.console import Console
    from rich.table import Table

    table = Table(show_edge=False)
    if "targets" in figures:
        for heading in ("figure", "target", "median", "met"):
            table.add_column(heading)
        for row in figures["targets"]:
            shown = "-" if row["median"] is None else f"{row['median']:g}"
            table.add_row(row["meaning"], row["target"], shown, "yes" if row["met"] else "no")
    else:
        table.add_column("figure")
        table.add_column("value")
        for name, value in figures.items():
            if isinstance(value, str | int | float):
                table.add_row(name, f"{value:,}" if isinstance(value, int) else str(value))
    Console(file=sys.stderr).print(table)


@app.command(cls=Command)
def query(
    *,
    rows: Annotated[
        int, typer.Option(min=1_000, help="Events, and as many spans; 20,000,000 for the targets.")
    ] = 2_000_000,
    repeats: Annotated[int, typer.Option(min=1, help="How often each question is asked.")] = 100,
    keep: Annotated[
        Path | None,
        typer.Option(
            metavar="FOLDER", help="Fill databases here, and ask them again until midnight UTC."
        ),
    ] = None,
    questions: Annotated[
        list[str] | None,
        typer.Option("--question", metavar="KEY", help="Ask this one only; may come again."),
    ] = None,
    everything: Annotated[
        bool,
        typer.Option("--all", help="What roll-ups and dropping cost a load of 15 s, too."),
    ] = False,
    as_json: Annotated[
        bool, typer.Option("--json", help="Only the JSON line, no progress.")
    ] = False,
) -> None:
    """Measure queries on a week of made-up data, in a server and a database of its own.

    Beside the time of each call stands that of the same SQL by bare asyncpg. The database is made
    in TMPDIR and removed afterwards, unless --keep names a folder; 20 million rows take some 20 GB
    and half an hour.
    """
    from fernando_telemetry.bench.figures import as_line
    from fernando_telemetry.bench.query_latency import KEYS, QueryOptions, measure_query
    from fernando_telemetry.bench.stand import IngestOptions

    for key in questions or ():
        if key not in KEYS:
            raise typer.BadParameter(f"{key!r} is none of {', '.join(KEYS)}")
    report = _report(silent=as_json)
    beside_load = IngestOptions() if everything else None
    options = QueryOptions(rows, repeats, keep, tuple(questions or ()), beside_load)
    typer.echo(as_line(_run(measure_query(options, report))))


@app.command(cls=Command)
def indexes(
    *,
    rows: Annotated[int, typer.Option(min=10_000, help="Rows of each partition.")] = 2_000_000,
    kinds: Annotated[
        list[str] | None,
        typer.Option("--records", metavar="KIND", help="events, spans or samples; default: all."),
    ] = None,
) -> None:
    """Measure what indexes of partitions cost, and what the guide's queries gain by them."""
    from fernando_telemetry.bench.index_sets import KINDS, run

    for kind in kinds or ():
        if kind not in KINDS:
            raise typer.BadParameter(f"{kind!r} is none of {', '.join(KINDS)}")
    run(kinds or list(KINDS), rows)
