"""The gRPC server: options, port, health, reflection, start and stop."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import grpc
from grpc import aio
from grpc_health.v1 import health_pb2, health_pb2_grpc
from grpc_health.v1.health import aio as health
from grpc_reflection.v1alpha import reflection

from fernando_telemetry.domain import limits
from fernando_telemetry.domain.errors import PortTaken
from fernando_telemetry.transport.interceptors import ErrorInterceptor
from fernando_telemetry.transport.listening import require_safe_host

# What HTTP/2 may hold of a stream that is not being read, in bytes.
STREAM_WINDOW_BYTES = 64 * 1024

Registration = Callable[[aio.Server], None]


@dataclass(frozen=True, slots=True)
class ServerOptions:
    """Where and how to listen; times in seconds.

    Attributes:
        shares_port: The port is held by the parent of workers, which all listen on it.
    """

    host: str
    port: int
    insecure_bind: bool
    keepalive_seconds: float
    shares_port: bool = False


class GrpcServer:
    """One listening server with all services.

    Args:
        options: Where and how.
        services: Full names of the services, for health and reflection.
        registrations: Each adds a servicer.
    """

    def __init__(
        self, options: ServerOptions, services: Sequence[str], registrations: Sequence[Registration]
    ) -> None:
        require_safe_host(options.host, insecure_bind=options.insecure_bind)
        self._options = options
        self._services = services
        self._health = health.HealthServicer()
        self._server = aio.server(
            interceptors=[ErrorInterceptor()], options=_channel_options(options)
        )
        for register in registrations:
            register(self._server)
        health_pb2_grpc.add_HealthServicer_to_server(self._health, self._server)
        names = [*services, health_pb2.DESCRIPTOR.services_by_name["Health"].full_name]
        reflection.enable_server_reflection([*names, reflection.SERVICE_NAME], self._server)
        self.address = ""
        self.port = 0

    async def start(self) -> None:
        """Bind, listen and report SERVING.

        Raises:
            StartupError: The address cannot be bound.
        """
        host = f"[{self._options.host}]" if ":" in self._options.host else self._options.host
        try:
            self.port = self._server.add_insecure_port(f"{host}:{self._options.port}")
        except RuntimeError:
            raise PortTaken(self._options.host, self._options.port) from None
        self.address = f"{host}:{self.port}"
        await self._server.start()
        await self._report(health_pb2.HealthCheckResponse.SERVING)

    async def report_not_serving(self) -> None:
        """Tell health watchers to go elsewhere; calls still work."""
        await self._report(health_pb2.HealthCheckResponse.NOT_SERVING)

    async def stop(self, grace_seconds: float) -> None:
        """Stop listening; calls that run may end within the grace."""
        await self._server.stop(grace_seconds)

    async def _report(self, status: Any) -> None:
        for name in ("", *self._services):
            await self._health.set(name, status)


def _channel_options(options: ServerOptions) -> list[tuple[str, Any]]:
    return [
        ("grpc.max_receive_message_length", limits.MESSAGE_BYTES),
        ("grpc.max_send_message_length", limits.MESSAGE_BYTES),
        # Without these two every stream's HTTP/2 window grows to many megabytes: 200 streams that
        # nobody reads would hold more than a gigabyte (tests/load).
        ("grpc.http2.bdp_probe", 0),
        ("grpc.http2.lookahead_bytes", STREAM_WINDOW_BYTES),
        # With it on, a forgotten old server would silently take half of the connections; the
        # parent of workers has made sure that there is none (workers/held_port.py).
        ("grpc.so_reuseport", int(options.shares_port)),
        ("grpc.keepalive_time_ms", int(options.keepalive_seconds * 1000)),
        ("grpc.keepalive_permit_without_calls", 1),
        # Clients may ping as often as every 5 s, also without a call.
        ("grpc.http2.min_ping_interval_without_data_ms", 5_000),
        ("grpc.http2.max_ping_strikes", 0),
        ("grpc.default_compression_algorithm", grpc.Compression.NoCompression.value),
    ]
