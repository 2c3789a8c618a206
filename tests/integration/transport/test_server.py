"""The listening side: health, reflection, limits of gRPC itself, ports and hosts."""

from __future__ import annotations

import asyncio
import re
import socket
import struct
from contextlib import suppress
from pathlib import Path
from typing import Any

import grpc
import pytest
from grpc import StatusCode, aio
from grpc_health.v1 import health_pb2, health_pb2_grpc
from grpc_reflection.v1alpha import reflection_pb2, reflection_pb2_grpc

from fernando_telemetry.app import Application
from fernando_telemetry.domain import limits
from fernando_telemetry.domain.errors import StartupError
from fernando_telemetry.settings import Settings
from fernando_telemetry.transport.listening import require_safe_host
from tests.conftest import Serving
from tests.integration.ingest.ingest_call import IngestCall, batch, ingest, ingest_failure, request
from tests.integration.ingest.records import event
from tests.integration.transport.failures import failure_of

PROTOS = Path(__file__).parents[3] / "protos" / "fernando" / "telemetry" / "v1"
NAMES = [
    f"fernando.telemetry.v1.{name}"
    for path in sorted(PROTOS.glob("*_service.proto"))
    for name in re.findall(r"^service (\w+)", path.read_text(), re.MULTILINE)
]


async def test_health_is_known_per_service(channel: aio.Channel) -> None:
    stub: Any = health_pb2_grpc.HealthStub(channel)
    assert len(NAMES) == 9
    for service in ("", *NAMES):
        answer = await stub.Check(health_pb2.HealthCheckRequest(service=service))
        assert answer.status == health_pb2.HealthCheckResponse.SERVING


async def test_health_of_an_unknown_service(channel: aio.Channel) -> None:
    stub: Any = health_pb2_grpc.HealthStub(channel)
    with pytest.raises(aio.AioRpcError) as caught:
        await stub.Check(health_pb2.HealthCheckRequest(service="nonsense"))
    assert caught.value.code() is StatusCode.NOT_FOUND


async def test_reflection_lists_and_describes_all_services(channel: aio.Channel) -> None:
    stub: Any = reflection_pb2_grpc.ServerReflectionStub(channel)
    asked = reflection_pb2.ServerReflectionRequest
    calls = stub.ServerReflectionInfo(
        iter(
            [
                asked(list_services=""),
                *(asked(file_containing_symbol=name) for name in NAMES),
                asked(file_containing_symbol="nonsense"),
            ]
        )
    )
    listed, *described, unknown = [answer async for answer in calls]
    found = {service.name for service in listed.list_services_response.service}
    assert found == {
        *NAMES,
        "grpc.health.v1.Health",
        "grpc.reflection.v1alpha.ServerReflection",
    }
    assert all(answer.file_descriptor_response.file_descriptor_proto for answer in described)
    assert unknown.error_response.error_code == StatusCode.NOT_FOUND.value[0]


@pytest.mark.parametrize(
    "method",
    ["fernando.telemetry.v1.EventService/Nonsense", "nonsense/Nonsense", "fernando.telemetry.v1"],
)
async def test_a_method_nobody_knows(channel: aio.Channel, method: str) -> None:
    call: Any = channel.unary_unary(f"/{method}")
    with pytest.raises(aio.AioRpcError) as caught:
        await call(b"")
    assert failure_of(caught.value).code is StatusCode.UNIMPLEMENTED


async def test_a_message_above_16_mib_ends_its_call_alone(
    channel: aio.Channel, connection: Any
) -> None:
    """gRPC itself answers: RESOURCE_EXHAUSTED without ErrorInfo, and other streams go on."""
    large = request(b"x" * limits.MESSAGE_BYTES)
    failure = await ingest_failure(channel, large)
    assert (failure.code, failure.reason) == (StatusCode.RESOURCE_EXHAUSTED, "")
    async with IngestCall(channel) as calm, IngestCall(channel) as stream:
        await calm.welcome("calm")
        await stream.welcome("loud")
        await stream.commit(1, event())
        await stream.send(batch(2, b"x" * limits.MESSAGE_BYTES))
        failure = await stream.failure()
        assert (failure.code, failure.reason) == (StatusCode.RESOURCE_EXHAUSTED, "")
        await calm.commit(1, event())
        await calm.end()
    assert await connection.fetchval("SELECT count(*) FROM telemetry_events") == 2


async def test_compressed_bombs_stop_at_the_limit(server: Application, connection: Any) -> None:
    compression = grpc.Compression.Gzip
    async with aio.insecure_channel(server.address, compression=compression) as zipped:
        failure = await ingest_failure(zipped, request(b"\0" * (4 * limits.MESSAGE_BYTES)))
        assert failure.code is StatusCode.RESOURCE_EXHAUSTED
        assert (await ingest(zipped, request(event()))).result.accepted_count == 1


async def test_pings_are_answered_however_often(server: Application) -> None:
    """A server that counts strikes would say GOAWAY (ENHANCE_YOUR_CALM) to the third ping."""
    pings, frame = 30, struct.Struct(">BHBBI")
    ping, go_away, settings = 6, 7, 4
    reader, writer = await asyncio.open_connection("127.0.0.1", server.port)
    writer.write(b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n" + frame.pack(0, 0, settings, 0, 0))
    answered = 0
    async with asyncio.timeout(20):
        for number in range(pings):
            writer.write(frame.pack(0, 8, ping, 0, 0) + number.to_bytes(8, "big"))
            await writer.drain()
        while answered < pings:
            high, low, kind, flags, _ = frame.unpack(await reader.readexactly(frame.size))
            payload = await reader.readexactly(high << 16 | low)
            assert kind != go_away
            if kind == ping and flags & 1:
                assert payload == answered.to_bytes(8, "big")
                answered += 1
    writer.close()
    await writer.wait_closed()


async def test_bytes_that_are_no_http2_harm_nobody(
    server: Application, channel: aio.Channel
) -> None:
    for rubbish in (b"GET / HTTP/1.1\r\n\r\n", b"\x16\x03\x01" + b"\0" * 100, b"\xff" * 1000):
        reader, writer = await asyncio.open_connection("127.0.0.1", server.port)
        writer.write(rubbish)
        writer.write_eof()
        async with asyncio.timeout(20):
            with suppress(ConnectionResetError):
                await reader.read()
        writer.close()
    assert (await ingest(channel, request(event()))).result.accepted_count == 1


async def test_a_port_in_use_is_one_sentence(settings: Settings, server: Application) -> None:
    taken = settings.model_copy(update={"port": server.port})
    with pytest.raises(StartupError, match=rf"Port {server.port} on 127\.0\.0\.1 cannot be bound"):
        await Application(taken).start()


async def test_a_port_of_another_program_is_one_sentence(settings: Settings) -> None:
    with socket.create_server(("127.0.0.1", 0)) as other:
        taken = settings.model_copy(update={"port": other.getsockname()[1]})
        with pytest.raises(StartupError, match="cannot be bound"):
            await Application(taken).start()


@pytest.mark.parametrize("host", ["0.0.0.0", "::", "192.0.2.1", "example.org", ""])
async def test_a_host_beyond_loopback_needs_insecure_bind(settings: Settings, host: str) -> None:
    with pytest.raises(StartupError, match="--insecure-bind"):
        await Application(settings.model_copy(update={"host": host})).start()
    require_safe_host(host, insecure_bind=True)


@pytest.mark.parametrize("host", ["127.0.0.1", "127.1.2.3", "::1", "localhost"])
async def test_loopback_needs_nothing(settings: Settings, serving: Serving, host: str) -> None:
    if host == "::1" and not _has_ipv6():
        pytest.skip("this machine has no IPv6 loopback")
    own = settings.model_copy(update={"host": host})
    async with serving(own) as app, aio.insecure_channel(app.address) as channel:
        assert (await ingest(channel, request(event()))).result.accepted_count == 1


def _has_ipv6() -> bool:
    try:
        with socket.create_server(("::1", 0), family=socket.AF_INET6):
            return True
    except OSError:
        return False
