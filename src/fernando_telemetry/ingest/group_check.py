"""Checks the batches of a group together: columns where they can be had, record by record else.

Batches are parsed one by one, which is quick and decides what is decodable. Those that parse are
decoded to columns in one go; suspects of the columnar checks are judged from their messages. A
batch that does not parse, and a group of few records, goes through the record checks alone.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Sequence
from typing import Final

from fernando_telemetry.domain.digests import bytes_digest
from fernando_telemetry.domain.verdicts import Tally
from fernando_telemetry.ingest import columnar
from fernando_telemetry.ingest.columnar.checking import ColumnarChecker
from fernando_telemetry.ingest.columnar.decoding import GivenBatch, ParsedBatch
from fernando_telemetry.ingest.decode import (
    Lists,
    check_lists,
    lists_of,
    lists_of_unparsed,
    parsed,
)
from fernando_telemetry.ingest.record_check import CheckedBatch, Refusal

# Setting columns up costs about what the record checks take for so many records.
FEWEST_RECORDS: Final = 200


class GroupChecker:
    """Checks groups of batches.

    Args:
        use_columns: False: the record checks do all.
        fewest_records: Groups of fewer records are left to the record checks; FEWEST_RECORDS by
            default.
    """

    def __init__(self, *, use_columns: bool = True, fewest_records: int | None = None) -> None:
        self._use_columns = use_columns and columnar.is_available()
        self._fewest_records = FEWEST_RECORDS if fewest_records is None else fewest_records
        self._columnar = ColumnarChecker()

    @property
    def uses_columns(self) -> bool:
        """Whether the columnar checks are in use."""
        return self._use_columns

    async def check(
        self, batches: Sequence[GivenBatch], new_tally: Callable[[], Tally] = Tally
    ) -> list[CheckedBatch]:
        """Check the batches of a group; gives what became of each, in order.

        Args:
            batches: The group.
            new_tally: Makes an empty tally; it may note more than an ack tells.
        """
        results: list[CheckedBatch] = []
        waiting: list[ParsedBatch] = []
        for given in batches:
            try:
                records = parsed(given.data)
                if records is None:
                    lists = await lists_of_unparsed(given.data)
                    results.append(await _check_plain(given, lists, new_tally()))
                    continue
            except Refusal as refused:
                # Not this very exception: its traceback leads to the batch's bytes.
                refusal = Refusal(refused.reason, refused.detail)
                results.append(CheckedBatch(digest=bytes_digest(given.data), refused=refusal))
                continue
            one = ParsedBatch(given, records, CheckedBatch(tally=new_tally()))
            results.append(one.checked)
            waiting.append(one)
            await asyncio.sleep(0)
        if self._use_columns and sum(one.count for one in waiting) >= self._fewest_records:
            waiting = await self._columnar.check(waiting)
        for one in waiting:
            plain = await _check_plain(one.given, lists_of(one.records), one.checked.tally)
            one.checked.rows, one.checked.digest = plain.rows, plain.digest
        return results


async def _check_plain(given: GivenBatch, lists: Lists, tally: Tally) -> CheckedBatch:
    checked = await check_lists(lists, given.context, len(given.data), tally)
    if given.with_digest:
        checked.digest = await lists.digest(given.data)
    return checked
