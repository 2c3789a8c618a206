"""What a failed call says to a person: one sentence, and where a filter is to blame its place."""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Final

import grpc

from fernando.telemetry.client import RpcFailed

_FILTER_WINDOW: Final = 72
_INDENT: Final = "  "


def explain(
    failed: RpcFailed,
    address: str,
    filter_text: str = "",
    flags: Mapping[str, str] | None = None,
) -> str:
    """Give the sentence, with the filter and a caret below it for INVALID_FILTER.

    Args:
        failed: How the call ended.
        address: The server that was called.
        filter_text: The filter that was sent.
        flags: What fields were typed as, where that is not their name.
    """
    if failed.reason:
        message = _typed(failed.message, flags or {}).rstrip(".")
        sentence = f"{message} ({failed.reason})."
        if failed.reason == "INVALID_FILTER" and filter_text:
            return "\n".join([sentence, *_pointed(filter_text, failed.metadata.get("position"))])
        return sentence
    cause = failed.message.rpartition(": ")[2].rstrip(".]") or failed.code.name
    match failed.code:
        case grpc.StatusCode.UNAVAILABLE:
            from fernando_telemetry.cli.serving import program_path

            return (
                f"No server answers at {address} ({cause}): start one with "
                f"`{program_path()} serve`, "
                "or name another with --target."
            )
        case grpc.StatusCode.DEADLINE_EXCEEDED:
            return f"The server at {address} did not answer in time."
        case grpc.StatusCode.UNIMPLEMENTED:
            return f"The server at {address} does not know this call ({cause})."
        case _:
            return f"The call of {address} ended with {failed.code.name}: {failed.message}"


def _typed(message: str, flags: Mapping[str, str]) -> str:
    """Put flags in the place of fields and of their elements."""
    if not flags:
        return message
    names = "|".join(map(re.escape, flags))
    # Neither a part of a longer word nor a value that was typed.
    pattern = rf"(?<![\w.'\"-])({names})(?:\[\d+\])?(?![\w'\"])"
    return re.sub(pattern, lambda found: flags[found[1]], message)


def _pointed(filter_text: str, position_text: str | None) -> list[str]:
    """Give the filter, cut to a window around the position, and a caret below it."""
    from rich.cells import cell_len

    try:
        position = min(int(position_text or ""), len(filter_text))
    except ValueError:
        return []
    # One character each, so that positions stay.
    shown = "".join(c if c.isprintable() else " " for c in filter_text)
    begin = max(0, min(position - _FILTER_WINDOW // 2, len(shown) - _FILTER_WINDOW))
    window = shown[begin : begin + _FILTER_WINDOW]
    lead = "…" if begin else ""
    tail = "…" if begin + _FILTER_WINDOW < len(shown) else ""
    blank = cell_len(lead + shown[begin:position])
    return [f"{_INDENT}{lead}{window}{tail}", f"{_INDENT}{' ' * blank}^"]
