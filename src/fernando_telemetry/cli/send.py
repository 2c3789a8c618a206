"""send: store records from the command line or from a file of JSON lines."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any, Final

import typer

from fernando_telemetry.cli.flags import EVENT, KPI, METRIC, REPEATABLE, SPAN, Flag, RecordType
from fernando_telemetry.cli.signatures import CommandOfFields, add_command

app = typer.Typer(help="Store a record through a running server.", no_args_is_help=True)

_METAVARS: Final = {
    "text": "TEXT",
    "word": "WORD",
    "number": "NUMBER",
    "integer": "INTEGER",
    "time": "TIME",
    "texts": "TEXT",
    "pairs": "KEY=VALUE",
    "json": "JSON",
    "jsons": "JSON",
}
_TYPES: Final[dict[str, Any]] = {"number": float | None, "integer": int | None}
_OTHERS: Final[dict[str, Any]] = {
    "json_lines": Annotated[
        str | None,
        typer.Option(
            "--json",
            metavar="FILE",
            help="Send each line of FILE (- is standard input), a record as JSON, instead.",
        ),
    ],
    "target": Annotated[
        str | None, typer.Option(metavar="HOST:PORT", help="The server. Default: the local one.")
    ],
    "data_dir": Annotated[
        Path | None,
        typer.Option(metavar="DIR", help="Find the local server by its data directory."),
    ],
}


def _annotation(flag: Flag) -> Any:
    kind = list[str] | None if flag.kind in REPEATABLE else _TYPES.get(flag.kind, str | None)
    words = flag.help + (" May be given again." if flag.kind in REPEATABLE else "")
    option = typer.Option(flag.option, metavar=_METAVARS.get(flag.kind), help=words)
    return Annotated[kind, option]


def _add(kind: RecordType, help_text: str) -> None:
    """Add the command for one kind of record; its flags come from the table."""

    def command(**given: Any) -> None:
        from fernando_telemetry.cli.sending import send

        others = {name: given.pop(name) for name in _OTHERS}
        fields = {name: value for name, value in given.items() if value not in (None, [])}
        if others["json_lines"] is not None and fields:
            raise typer.BadParameter(
                "it takes whole records; give no fields beside it", param_hint="--json"
            )
        raise typer.Exit(send(kind, fields, **others))

    flags = {flag.field: _annotation(flag) for flag in kind.flags} | _OTHERS
    with_defaults = {name: (annotation, None) for name, annotation in flags.items()}
    add_command(app, kind.name, help_text, with_defaults, command, CommandOfFields)


_add(EVENT, "Store an event: something that happened at one moment.")
_add(METRIC, "Store a sample of a system metric.")
_add(KPI, "Store a business metric (KPI) of one period; the same identity again corrects it.")
_add(SPAN, "Store a span, a piece of work of a trace.")
