"""rollups: prove that roll-ups are what the raw rows say, and mend them."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any, Final

import typer

from fernando_telemetry.cli.signatures import add_command

app = typer.Typer(
    help="Prove that roll-ups are what the raw rows say, and write anew what is not.",
    no_args_is_help=True,
)

Start = Annotated[
    str | None,
    typer.Option(
        metavar="TIME", help="First moment: RFC 3339, or -2d. Default: the oldest raw rows."
    ),
]
End = Annotated[
    str | None, typer.Option(metavar="TIME", help="End, exclusive. Default: a day ahead.")
]
AsJson = Annotated[bool, typer.Option("--json", help="What was found as one JSON line.")]
DataDir = Annotated[
    Path | None, typer.Option("--data-dir", help="Folder of the embedded PostgreSQL.")
]
Dsn = Annotated[str | None, typer.Option("--dsn", help="PostgreSQL to use; empty: the embedded.")]

_FLAGS: Final[dict[str, tuple[Any, Any]]] = {
    "start": (Start, None),
    "end": (End, None),
    "as_json": (AsJson, False),
    "data_dir": (DataDir, None),
    "dsn": (Dsn, None),
}


def _verify(**given: Any) -> None:
    from fernando_telemetry.cli.proving import prove

    raise typer.Exit(prove(**given, mends=False))


def _rebuild(**given: Any) -> None:
    from fernando_telemetry.cli.proving import prove

    raise typer.Exit(prove(**given, mends=True))


add_command(
    app,
    "verify",
    "Compare roll-ups with the raw rows, hour by hour; exit code 1 where they differ.",
    _FLAGS,
    _verify,
)
add_command(
    app,
    "rebuild",
    "Write the hours anew whose roll-ups differ from the raw rows, while servers run.",
    _FLAGS,
    _rebuild,
)
