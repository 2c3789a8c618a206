"""What `rollups verify` and `rebuild` do, and what they print."""

from __future__ import annotations

import asyncio
import json
import sys
from collections.abc import AsyncIterator, Iterable
from contextlib import asynccontextmanager
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any, Final

import typer

from fernando_telemetry.cli.database import opened_database
from fernando_telemetry.cli.listing import moment_of
from fernando_telemetry.domain.calendar import EPOCH
from fernando_telemetry.domain.rollup_cover import HOUR
from fernando_telemetry.domain.time_range import TimeRange
from fernando_telemetry.settings import Settings, load_settings
from fernando_telemetry.storage.migrating import migrate
from fernando_telemetry.storage.partitions import Partitions
from fernando_telemetry.storage.rollup import RollupTerms
from fernando_telemetry.storage.rollup_proof import Finding, RollupProof, Step
from fernando_telemetry.storage.rollups import ROLLUPS
from fernando_telemetry.storage.sessions import ControlPool, SessionSettings
from fernando_telemetry.upkeep import default_retention

DIFFERING_HOURS: Final = 100
# Records may be a day ahead.
_AHEAD: Final = timedelta(days=1)


@dataclass(slots=True)
class _Total:
    """What was found in one table."""

    table: str
    proved_by: str = ""
    hours: int = 0
    raw_rows: int = 0
    groups: int = 0
    differences: int = 0
    differing_hours: list[datetime] = field(default_factory=list)
    # With rows that have no deltas: found so, or made up.
    open_hours: list[datetime] = field(default_factory=list)
    made_up_hours: list[datetime] = field(default_factory=list)
    # Differing ones that could not be written anew, as a server without roll-ups writes to them.
    unmended: int = 0

    def add(self, found: Finding) -> None:
        self.hours += 1
        self.raw_rows += found.raw_rows
        self.groups += found.groups
        self.differences += found.differences
        if found.differences:
            self.differing_hours.append(found.hour)
            self.unmended += found.is_open
        if found.is_open:
            self.open_hours.append(found.hour)
        if found.is_made_up:
            self.made_up_hours.append(found.hour)

    def as_object(self) -> dict[str, Any]:
        """Give it as JSON; of many hours the first ones."""
        return {
            "rollup": self.table,
            "hours": self.hours,
            "raw_rows": self.raw_rows,
            "groups": self.groups,
            "differences": self.differences,
            "differing_hours": [_word(hour) for hour in self.differing_hours[:DIFFERING_HOURS]],
            "open_hours": [_word(hour) for hour in self.open_hours[:DIFFERING_HOURS]],
            "made_up_hours": [_word(hour) for hour in self.made_up_hours[:DIFFERING_HOURS]],
        }

    def sentence(self, *, mends: bool) -> str:
        """Say it to a person."""
        source = f"by {self.proved_by}" if self.proved_by else f"{self.raw_rows:,} raw rows"
        read = f"{self.table}: {self.hours:,} hours, {source}, {self.groups:,} groups"
        found = "equal"
        if self.differences:
            is_mended = mends and not self.unmended
            found = f"{self.differences:,} differ, in {_hours(self.differing_hours)}, "
            found += "mended" if is_mended else "not mended"
        if self.open_hours:
            found += f"; open, read from raw rows: {_hours(self.open_hours)}"
        if self.made_up_hours:
            found += f"; made up: {_hours(self.made_up_hours)}"
        return f"{read}: {found}."


def _hours(hours: list[datetime]) -> str:
    first = ", ".join(_word(hour) for hour in hours[:3])
    return f"{len(hours):,} hours ({first}{', …' if len(hours) > 3 else ''})"


def prove(
    *,
    start: str | None,
    end: str | None,
    as_json: bool,
    data_dir: Path | None,
    dsn: str | None,
    mends: bool,
) -> int:
    """Compare roll-ups with raw rows and print what was found.

    Args:
        start: `--start` as typed.
        end: `--end` as typed.
        as_json: One JSON line.
        data_dir: Of the embedded database.
        dsn: Of another one.
        mends: Write anew what differs.

    Returns:
        The exit code: 1 where something differs and is not mended, or could not be.

    Raises:
        StartupError: The database does not answer, or its schema is another.
        DatabaseUnavailable: It was lost meanwhile.
    """
    settings = load_settings(data_dir=data_dir, dsn=dsn)
    now = datetime.now(UTC)
    first = EPOCH if start is None else moment_of("--start", start, now)
    until = now + _AHEAD if end is None else moment_of("--end", end, now)
    if first >= until:
        raise typer.BadParameter("the end is not after the start", param_hint="--end")
    totals = asyncio.run(_prove(settings, TimeRange(first, until), now, mends=mends))
    is_fine = not any(total.unmended if mends else total.differences for total in totals)
    if as_json:
        found = [total.as_object() for total in totals]
        print(json.dumps({"ok": is_fine, "mended": mends, "rollups": found}))
    else:
        for total in totals:
            print(total.sentence(mends=mends))
    return 0 if is_fine else 1


async def _prove(
    settings: Settings, wanted: TimeRange, now: datetime, *, mends: bool
) -> list[_Total]:
    terms = RollupTerms(settings.rollup_minutely_days, settings.rollup_hourly_days)
    totals = {
        one.table: _Total(one.table, one.proved_by)
        for each in ROLLUPS
        for one in each.proof.comparisons
    }
    async with opened_database(settings) as dsn:
        session = SessionSettings.of(settings, dsn, "rollups", settings.rollup_step_timeout_seconds)
        await migrate(session, allowed=False)
        stepping = replace(session, command_timeout_seconds=settings.rollup_step_timeout_seconds)
        async with (
            _partitions(session) as partitions,
            RollupProof.opened(stepping, terms.oldest(now)) as proof,
        ):
            steps = await proof.steps(ROLLUPS, wanted, now, default_retention(settings))
            for step in _shown(steps):
                if mends:
                    await _ready_for_deltas(partitions)
                for found in await proof.take(step, mends=mends):
                    totals[found.table].add(found)
    return list(totals.values())


@asynccontextmanager
async def _partitions(session: SessionSettings) -> AsyncIterator[Partitions]:
    """Lend what makes the partitions of deltas: there may be no server that does."""
    control = ControlPool(session, 1)
    try:
        yield Partitions(control, ())
    finally:
        await control.close()


async def _ready_for_deltas(partitions: Partitions) -> None:
    now = datetime.now(UTC)
    # A step may last until the next hour.
    await partitions.ensure({one.deltas.name: [now, now + HOUR] for one in ROLLUPS})


def _shown(items: list[Step]) -> Iterable[Step]:
    """Show how far it has come, on a terminal only."""
    if not sys.stderr.isatty():
        return items
    from rich.console import Console
    from rich.progress import track

    return track(items, "hours", console=Console(stderr=True), transient=True)


def _word(time: datetime) -> str:
    return f"{time:%Y-%m-%dT%H:%MZ}"
