"""A wire between server and PostgreSQL that can be cut at one exact moment.

The COMMIT of a writer's flush is recognised in the bytes, so what is cut and when is no matter of
luck.
"""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncIterator, Callable
from dataclasses import dataclass, field
from enum import Enum, auto

from tests.faults.wire import Session, Wire, listening, socket_of, through

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
class Proxy(Wire):
    """Forwards sessions; `cuts` are used up by the COMMITs of writers, one each."""

    cuts: list[Cut] = field(default_factory=list)
    done: list[Cut] = field(default_factory=list)
    commit_delay: Callable[[], float] | None = None  # seconds that a writer's COMMIT is held up

    async def _send_on(self, session: Session) -> None:
        is_writer = False
        while data := await session.from_client.read(1 << 16):
            is_writer = is_writer or WRITER in data
            if is_writer and data.endswith(COMMIT):
                cut = self.cuts.pop(0) if self.cuts else Cut.NONE
                if self.commit_delay is not None:
                    await asyncio.sleep(self.commit_delay())
                if cut is not Cut.NONE:
                    session.back.cancel()
                    await asyncio.gather(session.back, return_exceptions=True)
                    await self._cut(cut, data, session)
                    return
            session.to_target.write(data)
            await session.to_target.drain()

    async def _cut(self, cut: Cut, data: bytes, session: Session) -> None:
        """Nothing is forwarded to the client any more, so the answer is lost for sure."""
        self.done.append(cut)
        if cut is Cut.BEFORE:
            return
        session.to_target.write(data)
        await session.to_target.drain()
        if cut is Cut.RACE:
            return
        answer = await session.from_target.read(1 << 16)
        assert b"COMMIT\0" in answer, answer
        if cut is Cut.SILENCE:
            await asyncio.Event().wait()


@contextlib.asynccontextmanager
async def proxied(dsn: str) -> AsyncIterator[tuple[Proxy, str]]:
    """Open a proxy; gives it and the DSN that leads through it."""
    proxy = Proxy(socket_of(dsn))
    async with listening(proxy):
        yield proxy, through(proxy, dsn)
