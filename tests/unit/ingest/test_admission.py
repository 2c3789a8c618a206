"""The byte budget and the grants: bounded, first come first served, nothing lost to cancelling."""

from __future__ import annotations

import asyncio
import random
from itertools import pairwise

import pytest

from fernando_telemetry.ingest.admission import (
    LARGEST_GRANT,
    SMALLEST_GRANT,
    ByteBudget,
    Grants,
)
from fernando_telemetry.ingest.batch_queue import SMALL_BYTES

MIB = 1024 * 1024


async def _settle() -> None:
    """Let every task that can run do so; a turn of the loop starts what the one before woke."""
    for _turn in range(5):
        await asyncio.sleep(0)


def _queue(budget: ByteBudget, *amounts: int) -> list[asyncio.Task[int]]:
    return [asyncio.create_task(budget.acquire(amount)) for amount in amounts]


async def test_room_is_taken_at_once_and_given_back() -> None:
    budget = ByteBudget(10)
    assert await budget.acquire(4) == 4
    assert await budget.acquire(6) == 6
    assert budget.used == 10
    budget.release(4)
    budget.release(6)
    assert budget.used == 0


async def test_no_bytes_need_no_room() -> None:
    budget = ByteBudget(10)
    await budget.acquire(10)
    assert await budget.acquire(0) == 0


async def test_who_waits_gets_room_in_the_order_of_arrival() -> None:
    budget = ByteBudget(10)
    await budget.acquire(10)
    first, second, third = _queue(budget, 8, 1, 2)
    await _settle()
    budget.release(5)
    await _settle()
    # 5 bytes are free, and still the small ones do not overtake the large one.
    assert not any(task.done() for task in (first, second, third))
    budget.release(5)
    await _settle()
    assert (first.done(), second.done(), third.done()) == (True, True, False)
    budget.release(8)
    assert await third == 2
    assert budget.used == 3


async def test_a_newcomer_does_not_overtake_who_waits() -> None:
    budget = ByteBudget(10)
    await budget.acquire(8)
    (waiting,) = _queue(budget, 5)
    await _settle()
    assert budget.take_at_once(1) is None
    (newcomer,) = _queue(budget, 1)
    await _settle()
    assert not newcomer.done()
    budget.release(8)
    assert (await waiting, await newcomer) == (5, 1)


async def test_more_than_all_waits_for_all_and_takes_all() -> None:
    budget = ByteBudget(10)
    await budget.acquire(1)
    (large,) = _queue(budget, 25)
    await _settle()
    assert not large.done()
    budget.release(1)
    assert await large == 10
    assert budget.used == 10
    budget.release(await large)
    assert budget.used == 0


async def test_a_cancelled_wait_takes_nothing_and_lets_the_next_one_in() -> None:
    budget = ByteBudget(10)
    await budget.acquire(5)
    large, small = _queue(budget, 9, 3)
    await _settle()
    large.cancel()
    await _settle()
    assert large.cancelled()
    assert await small == 3
    assert budget.used == 8


async def test_a_wait_cancelled_in_the_moment_of_its_turn_gives_the_room_back() -> None:
    budget = ByteBudget(10)
    await budget.acquire(10)
    first, second = _queue(budget, 10, 4)
    await _settle()
    budget.release(10)  # the turn is given …
    first.cancel()  # … and its owner goes before it learns of it
    await _settle()
    assert first.cancelled()
    assert await second == 4
    assert budget.used == 4


@pytest.mark.parametrize("seed", range(5))
async def test_any_course_of_takes_gives_and_cancels_ends_at_zero(seed: int) -> None:
    chance = random.Random(seed)
    budget = ByteBudget(100)
    highest = 0

    async def one() -> None:
        nonlocal highest
        taken = await budget.acquire(chance.randint(0, 130))
        highest = max(highest, budget.used)
        try:
            for _turn in range(chance.randint(0, 6)):
                await asyncio.sleep(0)
        finally:
            budget.release(taken)

    tasks = [asyncio.create_task(one()) for _ in range(300)]
    while not all(task.done() for task in tasks):
        await asyncio.sleep(0)
        if chance.random() < 0.3:
            chance.choice(tasks).cancel()
    assert 0 < highest <= 100
    assert any(task.cancelled() for task in tasks)
    assert budget.used == 0
    assert budget.take_at_once(100) == 100


def test_each_grant_is_an_eighth_of_what_is_left() -> None:
    grants = Grants(64 * MIB)
    given = [grants.grant() for _ in range(200)]
    assert given[0] == 8 * MIB
    assert given[1] == 7 * MIB
    left = 64 * MIB
    for amount in given:
        assert amount == min(max(max(left, 0) // 8, SMALLEST_GRANT), LARGEST_GRANT)
        left -= amount
    assert all(before >= after for before, after in pairwise(given))
    assert given[-1] == SMALLEST_GRANT
    # What 200 streams may send at once: the total, and the least for those that came late.
    assert grants.granted == sum(given) < 64 * MIB + 200 * SMALLEST_GRANT


def test_a_large_total_grants_no_more_than_a_batch_may_have() -> None:
    assert Grants(1024 * MIB).grant() == LARGEST_GRANT


def test_a_grant_given_back_is_granted_anew() -> None:
    grants = Grants(64 * MIB)
    given = [grants.grant() for _ in range(50)]
    for amount in given:
        grants.give_back(amount)
    assert grants.granted == 0
    assert grants.grant() == 8 * MIB


async def test_small_batches_have_a_line_and_a_part_of_their_own() -> None:
    budget = ByteBudget(10 * MIB, reserve=MIB)
    assert await budget.acquire(9 * MIB) == 9 * MIB
    (large,) = _queue(budget, MIB)
    await _settle()
    # The large one waits although there is a megabyte: it is not for it.
    assert not large.done()
    small = _queue(budget, *[SMALL_BYTES] * 17)
    await _settle()
    assert [task.done() for task in small] == [True] * 16 + [False]
    budget.release(SMALL_BYTES)
    await _settle()
    assert small[-1].done()
    assert not large.done()
    budget.release(9 * MIB)
    assert await large == MIB


async def test_a_large_batch_takes_no_more_than_its_part() -> None:
    budget = ByteBudget(10 * MIB, reserve=MIB)
    assert await budget.acquire(20 * MIB) == 9 * MIB
    assert await budget.acquire(SMALL_BYTES) == SMALL_BYTES


async def test_small_batches_do_not_starve_a_large_one() -> None:
    budget = ByteBudget(10 * MIB, reserve=MIB)
    held = [await budget.acquire(SMALL_BYTES) for _ in range(160)]
    (large,) = _queue(budget, 4 * MIB)
    await _settle()
    for _ in range(80):
        budget.release(held.pop())
        small = _queue(budget, SMALL_BYTES)
        await _settle()
        if small[0].done():
            held.append(small[0].result())
        else:
            small[0].cancel()
        if large.done():
            break
    assert await large == 4 * MIB
