"""The port of the workers: nobody else's, never free, and open to those who know how."""

from __future__ import annotations

import contextlib
import socket
from collections.abc import Iterator
from typing import Any

import pytest
from grpc import aio

from fernando_telemetry.domain.errors import PortTaken, StartupError
from fernando_telemetry.workers.held_port import HeldPort

HOST = "127.0.0.1"


@pytest.fixture
def held() -> Iterator[HeldPort]:
    port = HeldPort.take(HOST, 0)
    yield port
    port.release()


@contextlib.contextmanager
def listener(port: int, *, shares: bool = False) -> Iterator[socket.socket]:
    with socket.socket() as opened:
        opened.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        opened.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEPORT, int(shares))
        opened.bind((HOST, port))
        opened.listen()
        yield opened


async def grpc_server(port: int, *, shares: bool) -> int:
    server = aio.server(options=[("grpc.so_reuseport", int(shares))])
    try:
        return server.add_insecure_port(f"{HOST}:{port}")
    finally:
        await server.stop(None)


async def test_it_is_taken_for_everybody_else_while_nobody_listens(held: HeldPort) -> None:
    with pytest.raises(OSError, match="in use"), listener(held.port):
        pass
    with pytest.raises(RuntimeError):
        await grpc_server(held.port, shares=False)
    with pytest.raises(PortTaken, match="another server"):
        HeldPort.take(HOST, held.port)


async def test_workers_may_listen_on_it(held: HeldPort) -> None:
    with listener(held.port, shares=True), listener(held.port, shares=True):
        assert await grpc_server(held.port, shares=True) == held.port
        with socket.create_connection((HOST, held.port), timeout=5):
            pass


def test_nobody_is_served_before_a_worker_listens(held: HeldPort) -> None:
    with pytest.raises(ConnectionRefusedError):
        socket.create_connection((HOST, held.port), timeout=5)


@pytest.mark.parametrize("shares", [False, True])
def test_a_port_somebody_listens_on_is_refused(shares: bool) -> None:
    """Also where that one would share it: it may be a forgotten server."""
    with listener(0, shares=shares) as other, pytest.raises(PortTaken) as caught:
        HeldPort.take(HOST, other.getsockname()[1])
    assert "\n" not in str(caught.value)


def test_connections_of_a_former_server_are_no_hindrance() -> None:
    with listener(0) as former:
        port: int = former.getsockname()[1]
        client = socket.create_connection((HOST, port), timeout=5)
        accepted, _ = former.accept()
        # The side that closes first is the one in TIME_WAIT.
        accepted.close()
        assert client.recv(1) == b""
        client.close()
    HeldPort.take(HOST, port).release()


def test_it_can_be_taken_again_after_its_release() -> None:
    port = HeldPort.take(HOST, 0)
    port.release()
    HeldPort.take(HOST, port.port).release()


def test_a_host_without_address_is_one_sentence() -> None:
    with pytest.raises(StartupError, match="no-such-host"):
        HeldPort.take("no-such-host.invalid", 0)


def test_an_address_of_another_machine_is_one_sentence() -> None:
    with pytest.raises(StartupError, match="no address of this machine"):
        HeldPort.take("192.0.2.1", 0)


def test_addresses_that_this_machine_lacks_are_left_out(monkeypatch: pytest.MonkeyPatch) -> None:
    real = socket.getaddrinfo

    def resolve(host: str, *rest: Any, **more: Any) -> list[Any]:
        return [*real("192.0.2.1", *rest, **more), *real(HOST, *rest, **more)]

    monkeypatch.setattr(socket, "getaddrinfo", resolve)
    port = HeldPort.take("some-name", 0)
    try:
        with pytest.raises(PortTaken):
            HeldPort.take("some-name", port.port)
    finally:
        port.release()


def test_all_addresses_of_a_name_get_the_same_port() -> None:
    port = HeldPort.take("localhost", 0)
    try:
        with pytest.raises(PortTaken):
            HeldPort.take(HOST, port.port)
    finally:
        port.release()
