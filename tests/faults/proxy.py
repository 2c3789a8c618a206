"""A wire between server and PostgreSQL that can be cut at one exact moment.

Listens on loopback and forwards to PostgreSQL's unix socket. The COMMIT of a writer's flush is
recognised in the bytes, so what is cut and when is no matter of luck.
"""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncIterator, Callable
from dataclasses import dataclass, field
from enum import Enum, auto
from urllib.parse import parse_qs, urlsplit

WRITER = b"fernando-telemetry writer"
COMMIT = b"COMMIT;\0"


class Cut(Enum):
    """What happens to a writer's COMMIT."""

    NONE = auto()
    BEFORE = auto()  # it never reaches PostgreSQL
    RACE = auto()  # both ends are cut as soon as it was sent on
    AFTER = auto()  # it is done, and the answer never comes back
    SILENCE = auto()  # the same, and the connection stays open without a word


@dataclass
class Proxy:
    """Forwards sessions; `cuts` are used up by the COMMITs of writers, one each."""

    target: str
    port: int = 0
    cuts: list[Cut] = field(default_factory=list)
    done: list[Cut] = field(default_factory=list)
    refusing: bool = False
    commit_delay: Callable[[], float] | None = None  # seconds that a writer's COMMIT is held up
    _tasks: set[asyncio.Task[None]] = field(default_factory=set)

    async def serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        task = asyncio.current_task()
        assert task is not None
        self._tasks.add(task)
        try:
            if not self.refusing:
                await self._session(reader, writer)
        except (OSError, asyncio.CancelledError):
            pass
        finally:
            self._tasks.discard(task)
            writer.transport.abort()

    async def _session(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        from_server, to_server = await asyncio.open_unix_connection(self.target)
        back = asyncio.create_task(_forward(from_server, writer))
        is_writer = False
        try:
            while data := await reader.read(1 << 16):
                is_writer = is_writer or WRITER in data
                cut = Cut.NONE
                if is_writer and data.endswith(COMMIT) and self.cuts:
                    cut = self.cuts.pop(0)
                if is_writer and data.endswith(COMMIT) and self.commit_delay is not None:
                    await asyncio.sleep(self.commit_delay())
                if cut is not Cut.NONE:
                    back.cancel()
                    await asyncio.gather(back, return_exceptions=True)
                    await self._cut(cut, data, from_server, to_server)
                    return
                to_server.write(data)
                await to_server.drain()
        finally:
            back.cancel()
            await asyncio.gather(back, return_exceptions=True)
            to_server.transport.abort()

    async def _cut(
        self,
        cut: Cut,
        data: bytes,
        from_server: asyncio.StreamReader,
        to_server: asyncio.StreamWriter,
    ) -> None:
        """Nothing is forwarded to the client any more, so the answer is lost for sure."""
        self.done.append(cut)
        if cut is Cut.BEFORE:
            return
        to_server.write(data)
        await to_server.drain()
        if cut is Cut.RACE:
            return
        answer = await from_server.read(1 << 16)
        assert b"COMMIT\0" in answer, answer
        if cut is Cut.SILENCE:
            await asyncio.Event().wait()

    def close(self) -> None:
        for task in self._tasks:
            task.cancel()


async def _forward(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    with contextlib.suppress(OSError):
        while data := await reader.read(1 << 16):
            writer.write(data)
            await writer.drain()
    writer.transport.abort()


@contextlib.asynccontextmanager
async def proxied(dsn: str) -> AsyncIterator[tuple[Proxy, str]]:
    """Open a proxy; gives it and the DSN that leads through it."""
    parts = urlsplit(dsn)
    options = parse_qs(parts.query)
    proxy = Proxy(f"{options['host'][0]}/.s.PGSQL.{options['port'][0]}")
    listening = await asyncio.start_server(proxy.serve, "127.0.0.1", 0)
    port = listening.sockets[0].getsockname()[1]
    try:
        yield proxy, f"postgresql://postgres@127.0.0.1:{port}{parts.path}?sslmode=disable"
    finally:
        listening.close()
        proxy.close()
        await listening.wait_closed()
