"""Duties: what a server does beside its calls, again and again, whatever befalls it.

What may pass (`DatabaseUnavailable`) a duty puts off in its own rhythm. Anything else is a fault: a
table that somebody renamed, a row that a statement does not foresee. It is logged with its
traceback, counted, and tried again behind a pause that doubles. It neither ends the server nor
stops other duties: ingest must not stop for everybody because one roll-up cannot be folded.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Awaitable, Callable, Hashable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Final, Generic, TypeVar

import structlog

from fernando_telemetry.domain.errors import DatabaseUnavailable
from fernando_telemetry.storage.sessions import is_passing

log = structlog.get_logger(__name__)

FIRST_PAUSE_SECONDS: Final = 1.0
LONGEST_PAUSE_SECONDS: Final = 60.0
# What was worked at is left alone for so long, each time twice as much.
FIRST_REST: Final = timedelta(minutes=1)
LONGEST_REST: Final = timedelta(hours=1)

_K = TypeVar("_K", bound=Hashable)


class DutyFaults:
    """Counts the faults of a process's duties.

    Args:
        tell: Gets a sentence for operators about each.

    Attributes:
        counts: Faults by duty since the start; 0 for a duty that had none.
    """

    def __init__(self, tell: Callable[[str], None] = lambda _: None) -> None:
        self.counts: dict[str, int] = {}
        self._tell = tell

    def expect(self, duty: str) -> None:
        """Know of a duty before its first fault."""
        self.counts.setdefault(duty, 0)

    def note(self, duty: str, error: BaseException) -> None:
        """Log a fault with its traceback and count it."""
        self.counts[duty] = self.counts.get(duty, 0) + 1
        log.error("duty_failed", duty=duty, count=self.counts[duty], exc_info=error)
        # What a database or a driver says stays in the log.
        self._tell(
            f"the duty {duty} failed ({type(error).__name__}) and is tried again;"
            " the server's log has its reason"
        )


def fault_pause_seconds(faults_in_a_row: int, longest: float = LONGEST_PAUSE_SECONDS) -> float:
    """Give the pause behind so many faults, at least one."""
    return min(FIRST_PAUSE_SECONDS * 2.0 ** min(faults_in_a_row - 1, 16), longest)


async def keep_going(
    duty: str,
    run: Callable[[], Awaitable[None]],
    faults: DutyFaults,
    longest_pause_seconds: float = LONGEST_PAUSE_SECONDS,
) -> None:
    """Run what should never end, and begin it anew behind a fault; never ends.

    Args:
        duty: Its name.
        run: The loop; called again it begins where it stands.
        faults: Count.
        longest_pause_seconds: Between two attempts.
    """
    faults.expect(duty)
    in_a_row = 0
    while True:
        begun = time.monotonic()
        try:
            await run()
        except Exception as error:  # noqa: BLE001 - whatever it is, other duties go on
            faults.note(duty, error)
        else:
            faults.note(duty, RuntimeError(f"{duty} ended"))
        if time.monotonic() - begun > 2 * longest_pause_seconds:
            in_a_row = 0
        in_a_row += 1
        await asyncio.sleep(fault_pause_seconds(in_a_row, longest_pause_seconds))


class Apart:
    """Lets the parts of a duty that do not need each other go on past one that fails."""

    def __init__(self) -> None:
        self._found: list[Exception] = []

    @contextmanager
    def part(self) -> Iterator[None]:
        """Keep a fault of this part for `finish`; what may pass is raised, for it meets all."""
        try:
            yield
        except Exception as error:
            if isinstance(error, DatabaseUnavailable) or is_passing(error):
                raise
            self._found.append(error)

    def finish(self) -> None:
        """Raise what was kept.

        Raises:
            ExceptionGroup: All of it.
        """
        found, self._found = self._found, []
        if found:
            raise ExceptionGroup("parts of a duty failed", found)


@dataclass(frozen=True, slots=True)
class _Rest:
    """When something that was worked at may be so again."""

    until: datetime
    length: timedelta


class Rests(Generic[_K]):
    """Which parts of a duty's work are left alone for a while, since they were worked at.

    A part that needs it again at once, or takes too long, must not keep the others waiting.
    """

    def __init__(self) -> None:
        self._rests: dict[_K, _Rest] = {}

    def __contains__(self, part: _K) -> bool:
        """Tell whether it was worked at of late, also if its rest is over."""
        return part in self._rests

    def begin(self, part: _K, now: datetime) -> None:
        """Leave it alone for a minute, twice as long as the last time, an hour at most."""
        rest = self._rests.get(part)
        length = min(rest.length * 2, LONGEST_REST) if rest else FIRST_REST
        self._rests[part] = _Rest(now + length, length)

    def under_way(self, now: datetime) -> set[_K]:
        """Give what is to be left alone."""
        return {part for part, rest in self._rests.items() if now < rest.until}

    def forget_old(self, now: datetime) -> None:
        """Forget those that have been over for an hour."""
        self._rests = {
            part: rest for part, rest in self._rests.items() if now < rest.until + LONGEST_REST
        }
