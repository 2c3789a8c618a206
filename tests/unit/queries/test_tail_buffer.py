"""A tail's buffer: sizes, rates, and how much is still of use to it."""

from __future__ import annotations

from fernando_telemetry.queries.allowance import Allowance
from fernando_telemetry.queries.tail_buffer import FRAME_BYTES, TailBuffer

EVENT = b"x" * (100 - FRAME_BYTES)


def test_an_allowance_grows_to_that_of_a_second() -> None:
    allowance = Allowance(10, 0.0)
    assert allowance.left(0.0) == 10
    allowance.use(25)
    assert allowance.left(0.0) == -15
    assert allowance.left(2.0) == 5
    assert allowance.left(100.0) == 10


def test_what_does_not_fit_is_counted_and_room_comes_with_taking() -> None:
    buffer = TailBuffer(0, 0.0)
    assert buffer.most_events(0.0) is None
    buffer.add([EVENT] * 5, 7, room_bytes=300, now=0.0)
    # Full: nothing more need be read for it.
    assert buffer.most_events(0.0) == 0
    buffer.add([], 2, room_bytes=300, now=0.0)
    taken = buffer.take("c")
    assert (len(taken.events), taken.dropped, taken.cursor) == (3, 11, "c")
    assert not buffer.has_news
    assert buffer.most_events(0.0) is None


def test_an_event_larger_than_the_room_fits_into_an_empty_buffer() -> None:
    buffer = TailBuffer(0, 0.0)
    buffer.add([EVENT, EVENT], 0, room_bytes=10, now=0.0)
    assert (len(buffer), buffer.take("").dropped) == (1, 1)


def test_a_rate_bounds_what_is_of_use() -> None:
    buffer = TailBuffer(4, 0.0)
    assert buffer.most_events(0.0) == 4
    buffer.add([EVENT] * 10, 0, room_bytes=10_000, now=0.0)
    assert (len(buffer), buffer.most_events(0.0)) == (4, 0)
    assert buffer.most_events(0.5) == 2
    assert buffer.take("").dropped == 6
