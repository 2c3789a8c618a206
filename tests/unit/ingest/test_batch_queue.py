"""The queue of batches: order of arrival for those who take all, small ones apart."""

from __future__ import annotations

import asyncio
from dataclasses import dataclass

import pytest

from fernando_telemetry.ingest.batch_queue import SMALL_BYTES, BatchQueue

MIB = 1024 * 1024


@dataclass(eq=False)
class Batch:
    name: str
    admitted_bytes: int


@pytest.fixture
def queue() -> BatchQueue[Batch]:
    return BatchQueue()


def put(queue: BatchQueue[Batch], *names: str) -> None:
    """Queue batches: upper case is large."""
    for name in names:
        queue.put(Batch(name, MIB if name.isupper() else SMALL_BYTES))


def take(queue: BatchQueue[Batch], most: int = 64 * MIB, *, small_only: bool = False) -> str:
    return "".join(batch.name for batch in queue.take(most, 256, small_only=small_only))


def test_who_takes_all_takes_in_the_order_of_arrival(queue: BatchQueue[Batch]) -> None:
    put(queue, "a", "B", "c", "D", "e")
    assert len(queue) == 5
    assert take(queue) == "aBcDe"
    assert len(queue) == 0
    assert take(queue) == ""


def test_who_takes_small_ones_leaves_the_large(queue: BatchQueue[Batch]) -> None:
    put(queue, "A", "b", "C", "d")
    assert take(queue, small_only=True) == "bd"
    assert take(queue, small_only=True) == ""
    assert take(queue) == "AC"


def test_a_group_is_bounded_and_holds_one_at_least(queue: BatchQueue[Batch]) -> None:
    put(queue, "A", "B", "C")
    assert take(queue, 1) == "A"
    assert take(queue, 2 * MIB) == "BC"
    put(queue, "a", "b", "c")
    assert "".join(one.name for one in queue.take(MIB, 2, small_only=False)) == "ab"


async def test_each_waits_for_what_it_takes(queue: BatchQueue[Batch]) -> None:
    every = asyncio.create_task(queue.wait(small_only=False))
    small = asyncio.create_task(queue.wait(small_only=True))
    put(queue, "A")
    await asyncio.wait({every}, timeout=20)
    assert every.done()
    assert not small.done()
    put(queue, "a")
    await asyncio.wait({small}, timeout=20)
    assert small.done()
    take(queue)
    for small_only in (False, True):
        with pytest.raises(TimeoutError):
            await asyncio.wait_for(queue.wait(small_only=small_only), 0.01)


def test_what_is_removed_is_not_taken(queue: BatchQueue[Batch]) -> None:
    put(queue, "a", "B", "c", "D")
    assert {batch.name for batch in queue.remove(lambda batch: batch.name in "aD")} == {"a", "D"}
    assert take(queue) == "Bc"
