"""The cursor's rules, on lanes that a random history makes, and its text."""

from __future__ import annotations

import base64
import random
from dataclasses import dataclass, field
from uuid import UUID

import pytest
from hypothesis import given
from hypothesis import strategies as st

from fernando_telemetry.domain.cursor import (
    CURSOR_CHARACTERS,
    Cursor,
    LaneState,
    cursor_at,
    read_cursor,
    write_cursor,
)
from fernando_telemetry.domain.errors import CursorInvalid
from fernando_telemetry.domain.flush_ids import (
    LAST_LANE,
    NUMBER_MASK,
    flush_id_of,
    lane_of,
    number_of,
)

HERE, ELSEWHERE = UUID(int=1), UUID(int=2)


@st.composite
def cursors(draw: st.DrawFn) -> Cursor:
    known = draw(st.integers(0, LAST_LANE))
    if not known:
        return Cursor()
    lanes, numbers = st.integers(1, known), st.integers(0, NUMBER_MASK)
    return Cursor(known, draw(st.dictionaries(lanes, numbers, max_size=20)))


@given(cursors())
def test_text_there_and_back(cursor: Cursor) -> None:
    text = write_cursor(cursor, HERE)
    assert text.isascii()
    assert read_cursor(text, HERE) == cursor


@given(cursors(), st.randoms())
def test_a_damaged_text_is_refused(cursor: Cursor, chance: random.Random) -> None:
    text = write_cursor(cursor, HERE)
    place = chance.randrange(len(text))
    other = chance.choice([letter for letter in "ABCxyz019-_%é=" if letter != text[place]])
    damaged = text[:place] + other + text[place + 1 :]
    # Some bits of the last letter belong to no byte.
    if place == len(text) - 1 and _bytes(damaged) == _bytes(text):
        assert read_cursor(damaged, HERE) == cursor
    else:
        with pytest.raises(CursorInvalid, match=r"^cursor: it is damaged"):
            read_cursor(damaged, HERE)


def _bytes(text: str) -> bytes | None:
    try:
        return base64.b64decode(text + "=" * (-len(text) % 4), altchars=b"-_", validate=True)
    except ValueError:
        return None


@given(cursors())
def test_a_cursor_of_another_installation_is_refused(cursor: Cursor) -> None:
    with pytest.raises(CursorInvalid):
        read_cursor(write_cursor(cursor, ELSEWHERE), HERE)


@given(st.text(max_size=50))
def test_any_text_is_refused(text: str) -> None:
    with pytest.raises(CursorInvalid) as caught:
        read_cursor(text, HERE, "after_token")
    assert caught.value.field == "after_token"


@pytest.mark.parametrize("text", ["", "A", "AQ", "A" * (CURSOR_CHARACTERS + 1)])
def test_a_text_of_no_sense_is_refused(text: str) -> None:
    with pytest.raises(CursorInvalid):
        read_cursor(text, HERE)


@pytest.mark.parametrize(
    "cursor", [Cursor(1, {2: 0}), Cursor(LAST_LANE + 1, {}), Cursor(3, {0: 1})]
)
def test_a_cursor_that_cannot_be_is_refused(cursor: Cursor) -> None:
    with pytest.raises(CursorInvalid):
        read_cursor(write_cursor(cursor, HERE), HERE)


def test_a_new_lane_is_looked_at_and_an_old_one_without_a_place_is_not() -> None:
    cursor = Cursor(3, {2: 7})
    assert [lane for lane in range(1, 6) if cursor.looks_at(lane)] == [2, 4, 5]
    assert [cursor.position(lane) for lane in (2, 4)] == [7, 0]


def test_a_dead_lane_leaves_with_its_last_flush() -> None:
    dead, living = LaneState(1, 9, 0), LaneState(2, None, 0)
    cursor = Cursor().advanced([dead, living], [flush_id_of(1, 4), flush_id_of(2, 1)])
    assert cursor == Cursor(2, {1: 4, 2: 1})
    assert cursor.after_ids([dead, living]) == [flush_id_of(1, 4), flush_id_of(2, 1)]
    assert cursor.advanced([dead, living], [flush_id_of(1, 9)]) == Cursor(2, {2: 1})


def test_a_dead_lane_without_flushes_never_takes_a_place() -> None:
    assert Cursor().advanced([LaneState(1, 0, 0)], []) == Cursor(1, {})


def test_what_was_pruned_unread_is_lost() -> None:
    cursor = Cursor(2, {1: 5, 2: 5})
    assert not cursor.is_lost_in([LaneState(1, None, 5), LaneState(2, 9, 4)])
    assert cursor.is_lost_in([LaneState(1, None, 6)])
    assert cursor.is_lost_in([LaneState(3, None, 1)])
    # Consumed and closed long ago.
    assert not Cursor(2, {2: 5}).is_lost_in([LaneState(1, 9, 9)])


def test_a_flush_is_never_taken_again() -> None:
    with pytest.raises(AssertionError, match="behind the cursor"):
        Cursor(1, {1: 5}).advanced([LaneState(1, None, 0)], [flush_id_of(1, 5)])


@dataclass
class History:
    """What a database goes through: lanes open, commit with holes, die and are closed."""

    chance: random.Random
    lanes: dict[int, list[int]] = field(default_factory=dict)
    dead: set[int] = field(default_factory=set)
    closed: dict[int, int] = field(default_factory=dict)

    def happen(self) -> None:
        match self.chance.randrange(10):
            case 0:
                self.lanes[len(self.lanes) + 1] = []
            case 1 if self.living():
                self.dead.add(self.chance.choice(self.living()))
            case 2 if self.dead - self.closed.keys():
                lane = self.chance.choice(sorted(self.dead - self.closed.keys()))
                self.closed[lane] = max(self.lanes[lane], default=0)
            case _ if self.living():
                numbers = self.lanes[self.chance.choice(self.living())]
                numbers.append(max(numbers, default=0) + self.chance.choice([1, 1, 1, 2, 5]))
            case _:
                pass

    def living(self) -> list[int]:
        return [lane for lane in self.lanes if lane not in self.dead]

    def states(self) -> list[LaneState]:
        return [LaneState(lane, self.closed.get(lane), 0) for lane in self.lanes]

    def after(self, flush_id: int) -> list[int]:
        lane = lane_of(flush_id)
        return [flush_id_of(lane, n) for n in self.lanes[lane] if n > number_of(flush_id)]

    def all(self) -> set[int]:
        return {flush_id_of(lane, n) for lane, numbers in self.lanes.items() for n in numbers}


@given(st.randoms(use_true_random=False), st.integers(1, 150))
def test_every_flush_is_seen_once_whatever_happens(chance: random.Random, length: int) -> None:
    history, seen, cursor = History(chance), list[int](), Cursor()
    for _ in range(length):
        history.happen()
        if chance.random() < 0.4:
            cursor = read_cursor(write_cursor(cursor, HERE), HERE)
            cursor = _step(history, cursor, seen, limited=True)
    history.dead |= history.lanes.keys()
    history.closed = {lane: max(numbers, default=0) for lane, numbers in history.lanes.items()}
    cursor = _step(history, cursor, seen, limited=False)
    assert len(seen) == len(set(seen))
    assert set(seen) == history.all()
    # Nothing is left to carry along once all lanes are closed and consumed.
    assert cursor == Cursor(len(history.lanes), {})


def _step(history: History, cursor: Cursor, seen: list[int], *, limited: bool) -> Cursor:
    states = [state for state in history.states() if cursor.looks_at(state.lane)]
    taken = []
    for flush_id in cursor.after_ids(states):
        following = history.after(flush_id)
        taken += following[: history.chance.randint(0, 3)] if limited else following
    seen += taken
    return cursor.advanced(states, taken)


def test_a_cursor_can_begin_anywhere() -> None:
    states = [LaneState(1, 5, 5), LaneState(2, 9, 5), LaneState(3, None, 0)]
    assert cursor_at(states, {1: 5, 2: 5}) == Cursor(3, {2: 5, 3: 0})
    assert cursor_at([], {}) == Cursor(0, {})


@pytest.mark.parametrize(
    ("one", "other", "covers"),
    [
        (Cursor(), Cursor(), True),
        (Cursor(2, {1: 5, 2: 0}), Cursor(), True),
        (Cursor(2, {1: 5, 2: 0}), Cursor(2, {1: 5, 2: 0}), True),
        (Cursor(2, {1: 5, 2: 0}), Cursor(1, {1: 5}), True),
        (Cursor(2, {2: 0}), Cursor(2, {1: 5, 2: 0}), True),  # lane 1 was read to its end
        (Cursor(2, {1: 4, 2: 0}), Cursor(2, {1: 5, 2: 0}), False),
        (Cursor(2, {1: 4, 2: 0}), Cursor(2, {2: 0}), False),
        (Cursor(1, {1: 9}), Cursor(2, {1: 5, 2: 0}), False),
    ],
)
def test_a_cursor_covers_what_consumed_no_more(one: Cursor, other: Cursor, covers: bool) -> None:
    assert one.covers(other) is covers


def test_what_a_cursor_has_consumed() -> None:
    cursor = Cursor(3, {1: 5, 3: 0})
    consumed = [flush_id_of(1, 5), flush_id_of(2, 99), flush_id_of(1, 1)]
    ahead = [flush_id_of(1, 6), flush_id_of(3, 1), flush_id_of(4, 1)]
    assert all(cursor.has_consumed(one) for one in consumed)
    assert not any(cursor.has_consumed(one) for one in ahead)
