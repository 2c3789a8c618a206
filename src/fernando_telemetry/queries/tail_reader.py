"""One reader of committed data for all tails of a server.

It looks when a commit is told (storage/notices.py) and every second, and hands what a look found
(queries/tail_look.py) to all tails at once, with the cursor behind it, so that what a tail was sent
and its cursor always belong together.
"""

from __future__ import annotations

import asyncio
import contextlib
import time
from collections.abc import Callable
from typing import Final

import structlog

from fernando_telemetry.domain.cursor import Cursor
from fernando_telemetry.domain.errors import DatabaseUnavailable
from fernando_telemetry.domain.limits import TAIL_LOOK_SECONDS
from fernando_telemetry.queries.allowance import Allowance
from fernando_telemetry.queries.open_tails import OpenTails
from fernando_telemetry.queries.tail_look import Look
from fernando_telemetry.storage.committed import CommittedReading
from fernando_telemetry.storage.event_tail import TailedEvents
from fernando_telemetry.storage.lists import Row
from fernando_telemetry.storage.notices import CommitListener
from fernando_telemetry.storage.sessions import ReaderPool

log = structlog.get_logger(__name__)

# Between two looks; four times as long as the last one took, so that looking stays cheap.
SHORTEST_PAUSE_SECONDS: Final = 0.02
LONGEST_PAUSE_SECONDS: Final = 0.15


class TailReader:
    """Reads for all tails of a server.

    Args:
        tails: The open ones.
        readers: Sessions of the database that is written.
        listener: Hears of commits.
        encode: Gives an event's bytes.
        events_per_second: Most events that are read.
    """

    def __init__(
        self,
        tails: OpenTails,
        readers: ReaderPool,
        listener: CommitListener,
        encode: Callable[[Row], bytes],
        events_per_second: int,
    ) -> None:
        self._tails = tails
        self._readers = readers
        self._listener = listener
        self._encode = encode
        self._allowance = Allowance(events_per_second, time.monotonic())
        self._events = TailedEvents()
        # Of the level tails.
        self._position: Cursor | None = None
        self._apart = False

    async def run(self) -> None:
        """Read while there are tails; never ends."""
        while True:
            await self._tails.some.wait()
            listening = asyncio.create_task(
                self._listener.run(self._tails.woken.set), name="commit-listener"
            )
            try:
                await self._read_on()
            finally:
                listening.cancel()
                await asyncio.gather(listening, return_exceptions=True)

    async def _read_on(self) -> None:
        """Look again and again, until there is no tail."""
        while len(self._tails):
            begun = time.monotonic()
            self._tails.woken.clear()
            has_more = await self._look()
            taken = time.monotonic() - begun
            await asyncio.sleep(min(max(SHORTEST_PAUSE_SECONDS, 4 * taken), LONGEST_PAUSE_SECONDS))
            if not has_more:
                with contextlib.suppress(TimeoutError):
                    async with asyncio.timeout(TAIL_LOOK_SECONDS):
                        await self._tails.woken.wait()
        self._position = None
        self._tails.some.clear()

    async def _look(self) -> bool:
        """Read what is new and hand it out; tells whether there is more already."""
        tails = self._tails.reading()
        if not tails:
            return False
        look = Look(
            self._events,
            self._encode,
            self._allowance,
            self._tails.room_bytes,
            filters_apart=self._apart,
        )
        try:
            async with self._readers.snapshot() as connection:
                reading = await CommittedReading.begin(connection)
                await look.read(reading, connection, tails, self._position)
                # Before the snapshot ends: nobody has to wait for that.
                self._hand_out(look)
        except DatabaseUnavailable as error:
            log.warning("tails_not_read", cause=repr(error.__cause__ or error))
            self._tails.end(DatabaseUnavailable(str(error), error.retry_after_seconds), tails)
            self._position = None
            return False
        except Exception as error:  # noqa: BLE001 - each of them ends with it
            self._blame(look, error)
            return True
        self._apart = False
        return look.has_more

    def _blame(self, look: Look, error: Exception) -> None:
        """End the tails that a look failed for: one filter's trouble is no other tail's."""
        guilty = look.asking
        if len({tail.filter for tail in guilty}) > 1:
            # Read one by one they show whose it is.
            self._apart = True
            return
        log.warning("tails_broke", tails=len(guilty), cause=repr(error))
        if guilty:
            self._tails.end(error, guilty)
            return
        self._tails.end(error)
        self._position = None

    def _hand_out(self, look: Look) -> None:
        """Give all tails what the look found. Nothing else runs meanwhile."""
        now, room = time.monotonic(), self._tails.room_bytes
        self._position = look.position
        if look.skipped:
            log.warning("tails_skipped", events=look.skipped)
        for found in look.found:
            for tail in found.tails:
                if tail.error is None:
                    tail.buffer.add(found.events, found.dropped, room, now)
        for tail, position, cursor in look.moved:
            if tail.error is not None:
                continue
            is_first = not tail.cursor
            tail.position, tail.cursor, tail.is_level = position, cursor, position is None
            if is_first or tail.buffer.has_news:
                tail.news.set()
