"""Commands whose flags come from a table instead of being written out again for each."""

from __future__ import annotations

import inspect
from collections.abc import Callable, Mapping
from typing import Any

import typer


def add_command(
    app: typer.Typer,
    name: str,
    help_text: str,
    flags: Mapping[str, tuple[Any, Any]],
    command: Callable[..., None],
) -> None:
    """Add a command; typer reads its flags from a signature, which is made here.

    Args:
        app: Where it is added.
        name: The command.
        help_text: What `--help` says of it.
        flags: Annotation and default by parameter; `inspect.Parameter.empty` as a default makes
            an argument that must be given.
        command: Called with all of them by name.
    """

    def added(**given: Any) -> None:
        command(**given)

    added.__annotations__ = {parameter: kind for parameter, (kind, _) in flags.items()}
    vars(added)["__signature__"] = inspect.Signature(
        [
            inspect.Parameter(
                parameter, inspect.Parameter.KEYWORD_ONLY, default=default, annotation=kind
            )
            for parameter, (kind, default) in flags.items()
        ]
    )
    app.command(name=name, help=help_text)(added)
