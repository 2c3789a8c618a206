"""Flags of `query spans` and `query traces` as a filter's conditions."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from datetime import timedelta

import typer

from fernando_telemetry.cli.times import parse_duration


def span_filter(
    *,
    filter: str,  # noqa: A002 - called as its flag
    service_name: str,
    operation_name: str,
    min_duration: str | None,
    max_duration: str | None,
    status: str,
    tags: Sequence[str] | None,
) -> str:
    """Give one filter that asks for all of it; the given one alone stays as it was typed.

    Raises:
        typer.BadParameter: A duration or a tag is none.
    """
    parts = [
        f"{name} = {quoted(value)}"
        for name, value in (
            ("service_name", service_name),
            ("operation_name", operation_name),
            ("status", status),
        )
        if value
    ]
    parts += _durations(min_duration, max_duration)
    parts += [_tag(text) for text in tags or ()]
    if not parts:
        return filter
    # What is typed goes first, so that a mistake in it is pointed at where it stands.
    return " AND ".join([f"({filter})", *parts] if filter.strip() else parts)


def quoted(text: str) -> str:
    """Give a text as a filter's literal."""
    return '"' + text.replace("\\", "\\\\").replace('"', '\\"') + '"'


def _durations(shortest: str | None, longest: str | None) -> Iterator[str]:
    for option, operator, text in (
        ("--min-duration", ">=", shortest),
        ("--max-duration", "<=", longest),
    ):
        if text is None:
            continue
        try:
            duration = parse_duration(text)
        except ValueError as error:
            raise typer.BadParameter(str(error), param_hint=option) from None
        yield f"duration_ms {operator} {duration / timedelta(milliseconds=1)!r}"


def _tag(text: str) -> str:
    key, equals, value = text.partition("=")
    if not key or not equals:
        raise typer.BadParameter(f"{text!r} is no key=value", param_hint="--tags")
    return f"tags.{quoted(key)} = {quoted(value)}"
