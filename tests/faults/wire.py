"""A wire that can be cut, slowed down and led elsewhere: between client and server, or behind it.

Forwards bytes without looking into them; proxy.py has the one that knows a COMMIT when it sees it.
"""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncIterator
from dataclasses import dataclass, field
from urllib.parse import parse_qs, urlsplit


@dataclass(frozen=True)
class Session:
    """One connection; `back` is what forwards the target's answers to the client."""

    from_client: asyncio.StreamReader
    to_target: asyncio.StreamWriter
    from_target: asyncio.StreamReader
    back: asyncio.Task[None]


@dataclass
class Wire:
    """Listens on loopback; every new connection goes to `target` as it is then.

    Attributes:
        target: `host:port`, or the path of a unix socket; "": connections are refused.
        delay_seconds: Every piece of data, in both directions, comes this much later.
    """

    target: str = ""
    delay_seconds: float = 0.0
    port: int = 0
    _open: set[asyncio.StreamWriter] = field(default_factory=set)
    _tasks: set[asyncio.Task[None]] = field(default_factory=set)

    @property
    def address(self) -> str:
        return f"127.0.0.1:{self.port}"

    def cut(self) -> None:
        """End all connections at once, without a word."""
        for writer in list(self._open):
            writer.transport.abort()

    async def serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        task = asyncio.current_task()
        assert task is not None
        self._tasks.add(task)
        self._open.add(writer)
        try:
            await self._forward_both(reader, writer)
        except (OSError, asyncio.CancelledError):
            pass
        finally:
            self._tasks.discard(task)
            self._open.discard(writer)
            writer.transport.abort()

    async def _forward_both(
        self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter
    ) -> None:
        if not self.target:
            return
        if self.target.startswith("/"):
            from_target, to_target = await asyncio.open_unix_connection(self.target)
        else:
            host, _, port = self.target.rpartition(":")
            from_target, to_target = await asyncio.open_connection(host, int(port))
        back = asyncio.create_task(self._forward(from_target, writer))
        try:
            await self._send_on(Session(reader, to_target, from_target, back))
        finally:
            back.cancel()
            await asyncio.gather(back, return_exceptions=True)
            to_target.transport.abort()

    async def _send_on(self, session: Session) -> None:
        """Forward what comes from the client, until it ends."""
        await self._forward(session.from_client, session.to_target)

    async def _forward(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        with contextlib.suppress(OSError):
            while data := await reader.read(1 << 16):
                if self.delay_seconds:
                    await asyncio.sleep(self.delay_seconds)
                writer.write(data)
                await writer.drain()
        writer.transport.abort()

    def close(self) -> None:
        for task in self._tasks:
            task.cancel()


@contextlib.asynccontextmanager
async def wired(target: str = "") -> AsyncIterator[Wire]:
    """Open a wire to a target."""
    wire = Wire(target)
    async with listening(wire):
        yield wire


@contextlib.asynccontextmanager
async def listening(wire: Wire) -> AsyncIterator[None]:
    """Let a wire take connections."""
    server = await asyncio.start_server(wire.serve, "127.0.0.1", 0)
    wire.port = server.sockets[0].getsockname()[1]
    try:
        yield
    finally:
        server.close()
        wire.close()
        await server.wait_closed()


def socket_of(dsn: str) -> str:
    """Give the path of a DSN's unix socket."""
    options = parse_qs(urlsplit(dsn).query)
    return f"{options['host'][0]}/.s.PGSQL.{options['port'][0]}"


def through(wire: Wire, dsn: str) -> str:
    """Give the DSN that leads to a database through a wire."""
    return f"postgresql://postgres@{wire.address}{urlsplit(dsn).path}?sslmode=disable"
