"""Mutated bytes to every method of every service: a client's mistake is never the server's."""

from __future__ import annotations

import random
from collections.abc import AsyncIterator
from typing import Any

import grpc
import pytest
from google.protobuf.descriptor import MethodDescriptor
from google.protobuf.message import Message
from google.protobuf.message_factory import GetMessageClass
from grpc import aio
from hypothesis import HealthCheck, example, given, settings
from hypothesis import strategies as st
from structlog.testing import capture_logs

from fernando.telemetry.v1 import (
    admin_service_pb2,
    alert_rule_service_pb2,
    alert_service_pb2,
    event_service_pb2,
    export_service_pb2,
    ingest_service_pb2,
    metric_service_pb2,
    notification_channel_service_pb2,
    trace_service_pb2,
)

MODULES = (
    ingest_service_pb2,
    event_service_pb2,
    metric_service_pb2,
    trace_service_pb2,
    alert_rule_service_pb2,
    alert_service_pb2,
    notification_channel_service_pb2,
    export_service_pb2,
    admin_service_pb2,
)
METHODS: list[MethodDescriptor] = [
    method
    for module in MODULES
    for service in module.DESCRIPTOR.services_by_name.values()
    for method in service.methods
]
# Their first message tells that the request was taken; only the caller ends them.
ENDLESS = {"TailEvents"}
BROKEN = {grpc.StatusCode.INTERNAL, grpc.StatusCode.UNKNOWN}


def filled(message: Message, chance: random.Random, depth: int = 0) -> Message:
    """Set random fields to random values of their type."""
    for field in message.DESCRIPTOR.fields:
        if chance.random() < 0.4 or depth > 3:
            continue
        if field.message_type is not None:
            if field.message_type.GetOptions().map_entry:
                continue
            inner = getattr(message, field.name)
            target = inner.add() if field.is_repeated else inner
            if not field.is_repeated:
                target.SetInParent()
            filled(target, chance, depth + 1)
            continue
        value: Any
        if field.cpp_type == field.CPPTYPE_STRING:
            words = ["", "a", "x" * 300, "2026-01-01", "\0", "{}", "event_name = 'a'", "ff" * 16]
            value = chance.choice(words)
            if field.type == field.TYPE_BYTES:
                value = value.encode()
        elif field.cpp_type in {field.CPPTYPE_DOUBLE, field.CPPTYPE_FLOAT}:
            value = chance.choice([0.0, 1.5, float("nan"), float("inf"), -1e308])
        elif field.cpp_type == field.CPPTYPE_BOOL:
            value = chance.random() < 0.5
        else:
            value = chance.choice([0, 1, 2, 5, 2**31 - 1])
        if field.is_repeated:
            getattr(message, field.name).append(value)
        else:
            setattr(message, field.name, value)
    return message


def mutated(data: bytes, chance: random.Random) -> bytes:
    """Flip, cut, insert and repeat bytes."""
    changed = bytearray(data)
    for _ in range(chance.randrange(4)):
        place = chance.randrange(len(changed) + 1)
        match chance.randrange(4):
            case 0 if place < len(changed):
                changed[place] ^= 1 << chance.randrange(8)
            case 1:
                del changed[place : place + chance.randrange(1, 9)]
            case 2:
                changed[place:place] = chance.randbytes(chance.randrange(1, 9))
            case _:
                changed += changed[place : place + 40]
    return bytes(changed)


async def answer(
    channel: aio.Channel, method: MethodDescriptor, requests: list[bytes]
) -> grpc.StatusCode:
    """Send raw requests to a method and give the status it ends with."""
    service = method.containing_service
    assert service is not None
    path = f"/{service.full_name}/{method.name}"
    # Without serializers a channel carries bytes; its stubs do not know that.
    raw: Any = channel

    async def stream() -> AsyncIterator[bytes]:
        for request in requests:
            yield request

    try:
        if method.client_streaming:
            async for _ in raw.stream_stream(path)(stream(), timeout=20):
                pass
        elif method.server_streaming:
            call = raw.unary_stream(path)(requests[0], timeout=20)
            async for _ in call:
                if method.name in ENDLESS:
                    call.cancel()
                    break
        else:
            await raw.unary_unary(path)(requests[0], timeout=20)
    except aio.AioRpcError as error:
        return error.code()
    return grpc.StatusCode.OK


@pytest.mark.fuzz
@pytest.mark.timeout(1200)
@settings(deadline=None, database=None, suppress_health_check=list(HealthCheck))
@given(seed=st.integers(0, 2**32), method=st.sampled_from(METHODS))
@example(
    seed=329,
    method=event_service_pb2.DESCRIPTOR.services_by_name["EventService"].methods_by_name[
        "TailEvents"
    ],
)
async def test_mutated_bytes_never_break_the_server(
    channel: aio.Channel, seed: int, method: MethodDescriptor
) -> None:
    chance = random.Random(seed)
    kind = GetMessageClass(method.input_type)
    requests = [
        mutated(filled(kind(), chance).SerializeToString(), chance)
        for _ in range(chance.randrange(1, 4))
    ]
    if method.client_streaming and chance.random() < 0.7:
        hello = ingest_service_pb2.StreamHello(producer_id=f"fuzz/{seed}")
        first = ingest_service_pb2.StreamTelemetryRequest(hello=hello)
        requests.insert(0, first.SerializeToString())
    with capture_logs() as lines:
        code = await answer(channel, method, requests)
    assert code not in BROKEN
    assert code is not grpc.StatusCode.DEADLINE_EXCEEDED
    assert not [line for line in lines if "exc_info" in line]


@pytest.mark.fuzz
@pytest.mark.parametrize("method", METHODS, ids=lambda method: method.full_name)
async def test_bytes_that_are_no_message_get_an_answer(
    channel: aio.Channel, method: MethodDescriptor
) -> None:
    with capture_logs() as lines:
        code = await answer(channel, method, [b"\xff\xff\xff"])
    expected = grpc.StatusCode.INVALID_ARGUMENT
    assert code is expected
    assert not [line for line in lines if "exc_info" in line]
