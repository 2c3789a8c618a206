"""Gaps: rows of an hour that a roll-up lacks, since they were stored without their deltas.

A server without roll-ups notes in each flush, in the rows' own transaction, which hours it stores
rows of: by roll-up, hour and lane, from the lane's first such flush to its last one. A lane either
appends deltas or does not, for as long as it lives, so a gap's rows are those of its hour and
flushes.

    readers    add a gap's rows from the raw table to what is folded and what is not
    closing    appends their deltas and takes the gap away, in one transaction

So an answer does not depend on whether a gap is closed, and nothing is folded twice. A gap whose
raw rows are gone is closed by what is left of them.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Final

from fernando_telemetry.domain.rollup_cover import HOUR
from fernando_telemetry.domain.time_range import TimeRange
from fernando_telemetry.storage.list_statement import Parameters, filtered
from fernando_telemetry.storage.rollup import Rollup
from fernando_telemetry.storage.sessions import Connection
from fernando_telemetry.storage.statements import load

sql = load("rollup_gaps")

# Each is a part of the statement; of more, one part has all that lies between, too.
MOST_PARTS: Final = 24


@dataclass(frozen=True, slots=True)
class Gaps:
    """The gaps of one roll-up in a range, as a snapshot shows them; false where there are none.

    Args:
        hours: The hour of each, in order.
        firsts: Its first flush.
        lasts: Its last one.
    """

    hours: tuple[datetime, ...] = ()
    firsts: tuple[int, ...] = ()
    lasts: tuple[int, ...] = ()

    def __bool__(self) -> bool:
        """Tell whether there are some."""
        return bool(self.hours)

    def statements(
        self, base: str, column: str, within: Iterable[TimeRange], parameters: Parameters
    ) -> list[str]:
        """Give the statements of what the gaps have in some ranges.

        Args:
            base: A statement on the raw table that ends in a WHERE clause; its rows have flush_id.
            column: The rows' time.
            within: Whole minutes or hours, none of which overlap.
            parameters: Of the statement; what is asked for is added.
        """
        ranges = [part for one in within for part in self._ranges(one)]
        if not ranges:
            return []
        if len(ranges) > MOST_PARTS:
            ranges = [TimeRange(min(one.start for one in ranges), max(one.end for one in ranges))]
        hours = parameters.add(self.hours, "timestamptz[]")
        firsts = parameters.add(self.firsts, "bigint[]")
        lasts = parameters.add(self.lasts, "bigint[]")
        is_of_gap = f"""EXISTS (SELECT FROM unnest({hours}, {firsts}, {lasts})
            AS gap (hour, first, last)
        WHERE gap.hour = date_trunc('hour', {column}, 'UTC')
            AND flush_id >= gap.first AND flush_id <= gap.last)"""
        found = []
        for one in ranges:
            start = parameters.add(one.start, "timestamptz")
            end = parameters.add(one.end, "timestamptz")
            found.append(filtered(base, [f"{column} >= {start}", f"{column} < {end}", is_of_gap]))
        return found

    def _ranges(self, within: TimeRange) -> list[TimeRange]:
        """Give the parts of a range that lie in hours with gaps."""
        parts: list[TimeRange] = []
        for hour in dict.fromkeys(self.hours):
            start, end = max(hour, within.start), min(hour + HOUR, within.end)
            if start >= end:
                continue
            if parts and parts[-1].end == start:
                parts[-1] = TimeRange(parts[-1].start, end)
            else:
                parts.append(TimeRange(start, end))
        return parts


NO_GAPS: Final = Gaps()


async def gaps_of(connection: Connection, rollup: Rollup, time_range: TimeRange) -> Gaps:
    """Find the gaps of a roll-up.

    Args:
        connection: Inside the transaction that reads the roll-up: both have to be of one snapshot.
        rollup: The roll-up.
        time_range: The range.
    """
    rows = await connection.fetch(sql.gaps_of_range, rollup.name, time_range.start, time_range.end)
    if not rows:
        return NO_GAPS
    hours, firsts, lasts = zip(*rows, strict=True)
    return Gaps(hours, firsts, lasts)


async def close_gaps(connection: Connection, rollup: Rollup, hour: datetime) -> bool:
    """Make up what a roll-up lacks of an hour; flushes that go on leave the hour open.

    Its deltas' partition of now has to be there.

    Args:
        connection: Outside of a transaction.
        rollup: The roll-up.
        hour: The hour.

    Returns:
        Whether there were gaps.
    """
    async with connection.transaction():
        await connection.execute(sql.hold_gaps)
        gaps = await connection.fetch(sql.gaps_of_hour, rollup.name, hour)
        if not gaps:
            return False
        lanes, firsts, lasts = (list(column) for column in zip(*gaps, strict=True))
        await connection.execute(rollup.make_up, hour, hour + HOUR, firsts, lasts)
        # Last, since a flush that notes the same gap waits for the end of this.
        if await connection.fetchval(sql.close_gaps, rollup.name, hour, lanes, lasts) < len(gaps):
            await connection.execute(sql.shorten_gaps, rollup.name, hour, lanes, lasts)
    return True


def hours_noted(
    left_out: Sequence[Rollup], hours: dict[str, list[datetime]]
) -> tuple[list[str], list[datetime]]:
    """Give what a flush has to note: roll-ups and hours, pair by pair.

    Args:
        left_out: The roll-ups that it appends no deltas for.
        hours: The hours of its rows by raw table.
    """
    noted = [(one.name, hour) for one in left_out for hour in hours[one.proof.raw]]
    return [name for name, _ in noted], [hour for _, hour in noted]
