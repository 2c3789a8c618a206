"""Checks the batches of a group together: columns where they can be had, record by record else.

Batches are parsed one by one, which is quick and decides what is decodable. Those that parse are
decoded to columns in one go; suspects of the columnar checks are judged from their messages. A
batch that does not parse, and a group of few records, goes through the record checks alone.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Sequence
from typing import Final

import structlog

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

log = structlog.get_logger(__name__)

# Messages of more records are not held at once: a record of two bytes is parsed to 260.
MOST_RECORDS: Final = 100_000
# One group is decoded at a time, but for small ones, which shall not wait.
SMALL_GROUP_BYTES: Final = 64 * 1024
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
        self._turn = asyncio.Lock()

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
        if sum(len(given.data) for given in batches) <= SMALL_GROUP_BYTES:
            return await self._check(batches, new_tally)
        async with self._turn:
            return await self._check(batches, new_tally)

    async def _check(
        self, batches: Sequence[GivenBatch], new_tally: Callable[[], Tally]
    ) -> list[CheckedBatch]:
        results: list[CheckedBatch] = []
        waiting: list[ParsedBatch] = []
        held = 0
        for given in batches:
            try:
                records = parsed(given.data)
                if records is None:
                    checked = CheckedBatch(tally=new_tally())
                    await _check_plain(given, await lists_of_unparsed(given.data), checked)
                    results.append(checked)
                    continue
            except Refusal as refused:
                # Not this very exception: its traceback leads to the batch's bytes.
                refusal = Refusal(refused.reason, refused.detail)
                results.append(CheckedBatch(digest=bytes_digest(given.data), refused=refusal))
                continue
            one = ParsedBatch(given, records, CheckedBatch(tally=new_tally()))
            results.append(one.checked)
            waiting.append(one)
            held += one.count + len(records.business_metrics)
            del records, one
            if held >= MOST_RECORDS:
                await self._judge(waiting, new_tally)
                waiting, held = [], 0
            await asyncio.sleep(0)
        await self._judge(waiting, new_tally)
        return results

    async def _judge(self, batches: list[ParsedBatch], new_tally: Callable[[], Tally]) -> None:
        """Fill in what becomes of parsed batches."""
        if self._use_columns and sum(one.count for one in batches) >= self._fewest_records:
            try:
                batches = await self._columnar.check(batches)
            except Exception:
                # Whatever it is, the record checks are the truth, and these batches would come
                # again and meet it again.
                log.exception("columns_not_checked", batches=len(batches))
                for one in batches:
                    one.checked.begin_anew(new_tally())
        for one in batches:
            await _check_plain(one.given, lists_of(one.records), one.checked)


async def _check_plain(given: GivenBatch, lists: Lists, checked: CheckedBatch) -> None:
    await check_lists(lists, given.context, len(given.data), checked)
    if given.with_digest:
        checked.digest = await lists.digest(given.data)
