"""rejected: list the rejected records that a server kept, and send them again."""

from __future__ import annotations

from typing import Annotated, Any, Final

import typer

from fernando_telemetry.cli.query import OUTPUT, RANGE, AllRows, AsJson, Limit
from fernando_telemetry.cli.signatures import add_command

app = typer.Typer(
    help="List rejected records that a running server kept, and send them through ingest again.",
    no_args_is_help=True,
)

FILTER_EXAMPLE: Final = "kind = event AND reason = time_too_old"
Filter = Annotated[
    str,
    typer.Option(
        "--filter",
        metavar="TEXT",
        help=f"Conditions on fields: {FILTER_EXAMPLE}",
    ),
]
DryRun = Annotated[
    bool, typer.Option("--dry-run", help="Say what would become of them, but store nothing.")
]
CountsAsJson = Annotated[bool, typer.Option("--json", help="The counts as one JSON object.")]

_LIST: Final = (
    RANGE
    | {
        "filter": (Filter, ""),
        "limit": (Limit, None),
        "all_rows": (AllRows, False),
    }
    | OUTPUT
    | {"as_json": (AsJson, False)}
)
_REPLAY: Final = (
    RANGE
    | {"filter": (Filter, ""), "dry_run": (DryRun, False)}
    | OUTPUT
    | {"as_json": (CountsAsJson, False)}
)


def _list(**given: Any) -> None:
    from fernando_telemetry.cli.listing import Wanted, show
    from fernando_telemetry.cli.rejecting import REJECTED

    show(REJECTED, Wanted(**given))


def _replay(*, dry_run: bool, **given: Any) -> None:
    from fernando_telemetry.cli.listing import Wanted
    from fernando_telemetry.cli.rejecting import replay

    replay(Wanted(limit=None, all_rows=False, **given), dry_run=dry_run)


add_command(
    app,
    "list",
    "List rejected records, newest first, of the last 24 hours unless told otherwise.",
    _LIST,
    _list,
)
add_command(
    app,
    "replay",
    "Send rejected records of the last 24 hours, unless told otherwise, through ingest again.",
    _REPLAY,
    _replay,
)
