"""retention: how long a running server keeps records, and taking what is older."""

from __future__ import annotations

import inspect
from typing import Annotated, Any, Final

import typer

from fernando_telemetry.cli.query import AsJson, DataDir, Local, Target
from fernando_telemetry.cli.signatures import add_command
from fernando_telemetry.domain.limits import RETENTION_DAYS
from fernando_telemetry.domain.retention import RETAINED_KINDS

app = typer.Typer(
    help="Show and set how long a running server keeps records; take what is older.",
    no_args_is_help=True,
)


# As `query` and `send` call them.
_ALIASES: Final = {
    "events": "event",
    "metrics": "system_metric",
    "metric": "system_metric",
    "business": "business_metric",
    "kpi": "business_metric",
    "spans": "span",
}


def _known_kind(value: str) -> str:
    kind = _ALIASES.get(value, value)
    if kind not in RETAINED_KINDS:
        raise typer.BadParameter(f"{value!r} is none of {', '.join(RETAINED_KINDS)}")
    return kind


Kind = Annotated[
    str,
    typer.Argument(metavar="KIND", callback=_known_kind, help=f"{', '.join(RETAINED_KINDS)}."),
]
Days = Annotated[
    int | None,
    typer.Argument(
        metavar="DAYS", min=0, max=RETENTION_DAYS, help="Days they are kept; 0: for ever."
    ),
]
License = Annotated[
    str,
    typer.Option(
        "--license", metavar="ID", help="Of this licence. Default: of all without one of their own."
    ),
]
Remove = Annotated[
    bool,
    typer.Option("--remove", help="Remove the policy; the general one, or the setting, holds."),
]

DryRun = Annotated[
    bool, typer.Option("--dry-run", help="Say what would be taken, but take nothing.")
]

_SERVER: Final[dict[str, tuple[Any, Any]]] = {"target": (Target, None), "data_dir": (DataDir, None)}
_SET: Final[dict[str, tuple[Any, Any]]] = {
    "kind": (Kind, inspect.Parameter.empty),
    "days": (Days, None),
    "license_id": (License, ""),
    "remove": (Remove, False),
    "as_json": (AsJson, False),
}


def _show(**given: Any) -> None:
    from fernando_telemetry.cli.retaining import show

    show(**given)


def _set(*, days: int | None, remove: bool, **given: Any) -> None:
    from fernando_telemetry.cli.retaining import set_policy

    if (days is None) is not remove:
        raise typer.BadParameter("give either the days or --remove", param_hint="DAYS")
    set_policy(days=days or 0, remove=remove, **given)


def _clean_up(**given: Any) -> None:
    from fernando_telemetry.cli.retaining import clean_up

    clean_up(**given)


add_command(
    app,
    "show",
    "Show how long records of each kind, and of licences with policies of their own, are kept.",
    {"as_json": (AsJson, False)} | _SERVER,
    _show,
)
add_command(app, "set", "Set or remove the policy of a kind or of a licence.", _SET | _SERVER, _set)
add_command(
    app,
    "clean-up",
    "Take what is older than it is kept now, and wait for it.",
    {"dry_run": (DryRun, False), "as_json": (AsJson, False), "local": (Local, False)} | _SERVER,
    _clean_up,
)
