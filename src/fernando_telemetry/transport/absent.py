"""Services whose methods come with later issues: they answer, and say so."""

from __future__ import annotations

from collections.abc import AsyncIterator
from typing import Any

from google.protobuf.descriptor import MethodDescriptor, ServiceDescriptor

from fernando_telemetry.domain.errors import NotImplementedYet


def _sentence(method: MethodDescriptor) -> str:
    return f"{method.full_name} is part of the contract; this version of the server lacks it."


def _unary(method: MethodDescriptor) -> Any:
    async def call(self: Any, request: Any, context: Any) -> Any:  # noqa: ARG001
        raise NotImplementedYet(_sentence(method))

    return call


def _streaming(method: MethodDescriptor) -> Any:
    async def call(self: Any, request: Any, context: Any) -> AsyncIterator[Any]:  # noqa: ARG001
        raise NotImplementedYet(_sentence(method))
        yield  # makes it a generator, as a streaming method has to be

    return call


def absent_servicer(base: type[Any], service: ServiceDescriptor) -> Any:
    """Make a servicer of `base` whose methods all raise NotImplementedYet."""
    methods = {
        method.name: _streaming(method) if method.server_streaming else _unary(method)
        for method in service.methods
    }
    return type(f"Absent{service.name}", (base,), methods)()
