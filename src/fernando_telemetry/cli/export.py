"""export: write what a running server has stored into Parquet files on this machine."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any, Final

import typer

from fernando_telemetry.cli.query import RANGE, CommitToken, DataDir, Filter, Target
from fernando_telemetry.cli.signatures import add_command

app = typer.Typer(
    help="Write what a running server has stored into Parquet files.", no_args_is_help=True
)

Out = Annotated[
    Path, typer.Option("--out", metavar="DIR", help="Required. Folder the files go to.")
]
Incremental = Annotated[
    bool,
    typer.Option("--incremental", help="Only what was committed since the folder's last export."),
]
AsJson = Annotated[bool, typer.Option("--json", help="Print the manifest.")]

# What is a field of `Wanted` in exporting.py, in the order that --help shows.
_FLAGS: Final[dict[str, tuple[Any, Any]]] = {
    "out": (Out, ...),
    **RANGE,
    "incremental": (Incremental, False),
    "filter": (Filter, ""),
    "min_commit_token": (CommitToken, ""),
    "as_json": (AsJson, False),
    "target": (Target, None),
    "data_dir": (DataDir, None),
}


def _add(name: str, what: str) -> None:
    """Add the command that exports one kind of record."""

    def command(**given: Any) -> None:
        from fernando_telemetry.cli.exporting import Wanted, export

        export(name, Wanted(**given))

    help_text = f"Export {what}: all of them, those of a time range, or what is new."
    add_command(app, name, help_text, _FLAGS, command)


_add("events", "events by event_timestamp")
_add("metrics", "samples of system metrics by metric_timestamp")
_add("business", "KPIs by period_start, superseded values included")
_add("spans", "spans by start_time")
