"""The status the server ended a call with, kept from being overwritten.

A write that meets the end of its call makes grpc.aio (seen with 1.85) replace the call's status
by INTERNAL "Internal error from Core", before or after the real one arrives. In a third of the
tries a fence under full writing was lost that way, and a fenced producer that reconnects fences
the other one. So the first status is read in the done callback, and if that is the stand-in,
the call is asked again until the real one is there. gRPC gives it only once every message before
it was taken: read such a call with `async for`, as `read()` gives nothing more after the stand-in.
"""

from __future__ import annotations

import asyncio
from collections.abc import Coroutine
from typing import Any, Final, Protocol, TypeVar

import grpc

_T = TypeVar("_T")

_STAND_IN: Final = "Internal error from Core"
_POLL_SECONDS: Final = 0.01


class EndingCall(Protocol):
    """The part of a grpc.aio call that tells how it ended."""

    def add_done_callback(self, callback: Any) -> None:
        """Call back once, with the call, when a status is set."""

    def code(self) -> Coroutine[Any, Any, grpc.StatusCode]:
        """Wait for the status."""

    def details(self) -> Coroutine[Any, Any, str]:
        """Wait for the status text."""

    def trailing_metadata(self) -> Coroutine[Any, Any, grpc.aio.Metadata]:
        """Wait for the trailer."""


class CallStatus:
    """Watches one call from its start."""

    def __init__(self, call: EndingCall) -> None:
        self._call = call
        self._first: grpc.aio.AioRpcError | None = None
        call.add_done_callback(self._on_done)

    async def real(
        self, error: grpc.aio.AioRpcError, timeout_seconds: float = 5.0
    ) -> grpc.aio.AioRpcError:
        """Give what the server sent where `error` is grpc.aio's stand-in, else `error`."""
        if not _is_stand_in(error):
            return error
        if self._first is not None and not _is_stand_in(self._first):
            return self._first
        loop = asyncio.get_running_loop()
        deadline = loop.time() + timeout_seconds
        # There is nothing to wait on: the call tells its status once, and that was the stand-in.
        while _is_stand_in(error) and loop.time() < deadline:
            await asyncio.sleep(_POLL_SECONDS)
            error = grpc.aio.AioRpcError(
                await self._call.code(),
                grpc.aio.Metadata(),
                await self._call.trailing_metadata(),
                details=await self._call.details(),
            )
        return error

    def _on_done(self, _: object) -> None:
        # The status is set, so these coroutines end without suspending; a task would read it
        # later, when it may have been overwritten.
        code, details = _result(self._call.code()), _result(self._call.details())
        trailer = _result(self._call.trailing_metadata())
        if code is not None and trailer is not None:
            error = grpc.aio.AioRpcError(code, grpc.aio.Metadata(), trailer, details=details or "")
            # Called again where a status is replaced: the stand-in must not take this place too.
            if self._first is None or _is_stand_in(self._first):
                self._first = error


def _result(coroutine: Coroutine[Any, Any, _T]) -> _T | None:
    """Run a coroutine that need not wait; None if it would."""
    try:
        coroutine.send(None)
    except StopIteration as ended:
        value: _T = ended.value
        return value
    coroutine.close()
    return None


def _is_stand_in(error: grpc.aio.AioRpcError) -> bool:
    return error.code() is grpc.StatusCode.INTERNAL and error.details() == _STAND_IN
