"""How a command reaches a server: which one, one channel, and how troubles end the command."""

from __future__ import annotations

import asyncio
import contextlib
import os
import sys
from collections.abc import Callable, Coroutine, Mapping
from pathlib import Path
from typing import Any, Final, TypeVar

import typer
from grpc import aio

from fernando.telemetry.client import CHANNEL_OPTIONS, decode_error
from fernando_telemetry.cli.failures import explain
from fernando_telemetry.domain.errors import NoServerRuns

_T = TypeVar("_T")

DEFAULT_PORT: Final = 4317
# The server gives a query 30 s and a batch with the database away as long; then it answers.
CALL_TIMEOUT_SECONDS: Final = 40.0
_LOOPBACK: Final = ("127.", "localhost:", "[::1]:", "0.0.0.0:", "[::]:")


def complain(sentence: str) -> None:
    """Print to standard error what went wrong or is worth knowing."""
    sys.stdout.flush()  # in the order of writing, where both go to one place
    print(f"fernando-telemetry: {sentence}", file=sys.stderr, flush=True)


def find_address(target: str | None, data_dir: Path | None) -> str:
    """Give host:port of the server to call.

    Args:
        target: As given on the command line; without a port it means 4317.
        data_dir: Its running server is taken where there is no target, and no other one: what
            was meant for it must not reach another. None: the settings' folder, else their
            address.

    Raises:
        NoServerRuns: None does on `data_dir`.
        StartupError: The settings cannot be read.
        typer.BadParameter: The target is no address.
    """
    if target is not None:
        return _address(target)
    # Slow to import, so only where they are asked.
    from fernando_telemetry.embedded import effective_data_dir, running_server
    from fernando_telemetry.settings import load_settings

    settings = load_settings(data_dir=data_dir)
    running = running_server(effective_data_dir(settings))
    if running is not None and running.grpc_address:
        return running.grpc_address
    if data_dir is not None:
        raise NoServerRuns(settings.data_dir)
    host = f"[{settings.host}]" if ":" in settings.host else settings.host
    return f"{host}:{settings.port}"


def _address(target: str) -> str:
    host, colon, port = target.rpartition(":")
    if not colon or target.endswith("]"):
        host, port = target, str(DEFAULT_PORT)
    bare_v6 = ":" in host and not host.startswith("[")
    if not host or bare_v6 or "/" in host or not port.isdecimal() or int(port) > 65_535:
        raise typer.BadParameter(
            f"{target!r} is no address: write host:port or [::1]:port", param_hint="--target"
        )
    return f"{host}:{port}"


def call(
    address: str,
    work: Callable[[aio.Channel], Coroutine[Any, Any, _T]],
    filter_text: str = "",
    flags: Mapping[str, str] | None = None,
) -> _T:
    """Run some work over a channel to the server.

    Args:
        address: host:port.
        work: What is done.
        filter_text: The filter in it, for the sentence.
        flags: What fields were typed as, for the sentence, where that is not their name.

    Raises:
        typer.Exit: Code 1 after a sentence on standard error, because a call failed; 130 for
            Ctrl-C; 0 where the reader of standard output has gone, which wants no words.
    """

    async def run() -> _T:
        # A proxy of the environment is meant for the world, not for this machine.
        proxy = (("grpc.enable_http_proxy", 0),) if address.startswith(_LOOPBACK) else ()
        options = (*CHANNEL_OPTIONS, *proxy)
        async with aio.insecure_channel(address, options=options) as channel:
            return await work(channel)

    try:
        result = asyncio.run(run())
        sys.stdout.flush()
    except aio.AioRpcError as error:
        complain(explain(decode_error(error), address, filter_text, flags))
        raise typer.Exit(1) from None
    except BrokenPipeError:
        _drop_output()
        raise typer.Exit(0) from None
    except KeyboardInterrupt:
        raise typer.Exit(130) from None
    return result


def _drop_output() -> None:
    """Send what is still buffered nowhere: the interpreter flushes once more when it ends."""
    with contextlib.suppress(OSError, ValueError):
        nowhere = os.open(os.devnull, os.O_WRONLY)
        os.dup2(nowhere, sys.stdout.fileno())
        os.close(nowhere)
