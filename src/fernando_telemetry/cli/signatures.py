"""Commands whose flags come from a table instead of being written out again for each."""

from __future__ import annotations

import inspect
from collections.abc import Callable, Mapping
from typing import Any, Final

import typer
from typer.core import TyperCommand

# No filter is one: all is taken.
_MAY_BE_EMPTY: Final = frozenset({"--filter"})


class Command(TyperCommand):
    """A command whose help has no type behind switches: they take no value.

    A value that is given and empty is a mistake: a variable of a script that is not set must not
    make the policy of a licence that of all.

    Attributes:
        takes_empty: It does what it does without the flag, where a value is empty.
    """

    takes_empty = False

    def parse_args(self, ctx: Any, args: list[str]) -> list[str]:
        """Read the arguments.

        Raises:
            typer.BadParameter: One is empty. Later an empty path is the folder one is in.
        """
        if not self.takes_empty:
            self._refuse_empty(ctx, args)
        rest: list[str] = super().parse_args(ctx, args)
        return rest

    def _refuse_empty(self, ctx: Any, args: list[str]) -> None:
        flags = {flag for param in self.get_params(ctx) for flag in param.opts}
        for before, word in zip(["", *args], args, strict=False):
            name, equals, value = word.partition("=")
            if name in flags and equals and not value:
                flag = name
            elif not word:
                flag = before if before in flags else "an argument"
            else:
                continue
            if flag not in _MAY_BE_EMPTY:
                raise typer.BadParameter("the value is empty; leave it out", param_hint=flag)

    def get_params(self, ctx: Any) -> list[Any]:
        """Give its parameters."""
        params = super().get_params(ctx)
        for param in params:
            if getattr(param, "is_flag", False):
                param.metavar = ""
        return params


class CommandOfFields(Command):
    """A command whose flags are fields of a record: an empty one is not set."""

    takes_empty = True


def add_command(
    app: typer.Typer,
    name: str,
    help_text: str,
    flags: Mapping[str, tuple[Any, Any]],
    command: Callable[..., None],
    kind: type[Command] = Command,
) -> None:
    """Add a command; typer reads its flags from a signature, which is made here.

    Args:
        app: Where it is added.
        name: The command.
        help_text: What `--help` says of it.
        flags: Annotation and default by parameter; `inspect.Parameter.empty` as a default makes
            an argument that must be given.
        command: Called with all of them by name.
        kind: What it is as a command.
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
    app.command(name=name, help=help_text, cls=kind)(added)
