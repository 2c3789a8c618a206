"""Decodes requests and turns errors into statuses; but for stalls the only place that aborts.

Requests are decoded here and not by gRPC, so that bytes which are no message get INVALID_ARGUMENT
UNDECODABLE instead of an INTERNAL with a traceback in the server's log.
"""

from __future__ import annotations

import asyncio
import inspect
from collections.abc import AsyncIterator, Awaitable, Callable
from typing import Any, NoReturn

import grpc
import structlog
from google.protobuf.message import DecodeError
from grpc import aio

from fernando_telemetry.domain.errors import TelemetryError, Undecodable
from fernando_telemetry.transport.status import DETAILS_TRAILER, status_of

log = structlog.get_logger(__name__)

Decoder = Callable[[bytes], Any] | None


def _decode(decoder: Decoder, data: Any) -> Any:
    if decoder is None:
        return data
    try:
        return decoder(data)
    except DecodeError:
        raise Undecodable("the request does not parse as this method's message") from None


async def _decoded(decoder: Decoder, requests: AsyncIterator[Any]) -> AsyncIterator[Any]:
    async for data in requests:
        yield _decode(decoder, data)


class ErrorInterceptor(aio.ServerInterceptor):
    """Wraps every method, unary and streaming, of every service."""

    async def intercept_service(
        self,
        continuation: Callable[[grpc.HandlerCallDetails], Awaitable[Any]],
        handler_call_details: grpc.HandlerCallDetails,
    ) -> Any:
        """Give the method's handler, wrapped."""
        handler = await continuation(handler_call_details)
        if handler is None:
            return None
        method = handler_call_details.method
        decoder: Decoder = handler.request_deserializer
        if handler.request_streaming:

            def prepare(requests: Any) -> Any:
                return _decoded(decoder, requests)
        else:

            def prepare(requests: Any) -> Any:
                return _decode(decoder, requests)

        behavior = (
            (handler.stream_stream or handler.unary_stream)
            if handler.response_streaming
            else (handler.stream_unary or handler.unary_unary)
        )
        wrapped = (
            _streaming(behavior, prepare, method)
            if inspect.isasyncgenfunction(behavior)
            else _single(behavior, prepare, method)
        )
        make = {
            (False, False): grpc.unary_unary_rpc_method_handler,
            (False, True): grpc.unary_stream_rpc_method_handler,
            (True, False): grpc.stream_unary_rpc_method_handler,
            (True, True): grpc.stream_stream_rpc_method_handler,
        }[bool(handler.request_streaming), bool(handler.response_streaming)]
        return make(wrapped, None, handler.response_serializer)


def _single(behavior: Any, prepare: Callable[[Any], Any], method: str) -> Any:
    async def call(request: Any, context: Any) -> Any:
        try:
            return await behavior(prepare(request), context)
        except (aio.AbortError, asyncio.CancelledError):
            raise
        except Exception as error:  # noqa: BLE001 - the last rung: it is logged and hidden
            await _abort(context, error, method)

    return call


def _streaming(behavior: Any, prepare: Callable[[Any], Any], method: str) -> Any:
    async def call(request: Any, context: Any) -> AsyncIterator[Any]:
        responses: Any = None
        try:
            responses = behavior(prepare(request), context)
            async for response in responses:
                yield response
        except (aio.AbortError, asyncio.CancelledError):
            raise
        except Exception as error:  # noqa: BLE001 - the last rung: it is logged and hidden
            await _abort(context, error, method)
        finally:
            # A generator left half-way would keep what it holds until the collector comes.
            if responses is not None:
                await responses.aclose()

    return call


async def _abort(context: Any, error: Exception, method: str) -> NoReturn:
    code, text, details = status_of(error)
    if isinstance(error, TelemetryError):
        log.info("call_failed", method=method, code=code.name, error=type(error).__name__)
    else:
        log.error("call_broke", method=method, exc_info=error)
    await context.abort(code, text, trailing_metadata=((DETAILS_TRAILER, details),))
    raise AssertionError("abort returned")
