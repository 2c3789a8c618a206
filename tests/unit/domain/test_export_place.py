"""Tokens of exports: what is written comes back, and nothing else is taken."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from uuid import UUID, uuid4

import pytest
from hypothesis import given
from hypothesis import strategies as some

from fernando_telemetry.domain.cursor import Cursor, write_cursor
from fernando_telemetry.domain.errors import CursorInvalid
from fernando_telemetry.domain.export_place import (
    ExportTokens,
    FlushPlace,
    Last,
    Place,
    RangePlace,
)
from fernando_telemetry.domain.time_range import ALL_TIME, TimeRange

HERE = UUID(int=7)
NOON = datetime(2026, 1, 31, 12, tzinfo=UTC)
CURSOR = Cursor(9, {3: 5, 9: 0})
SPAN = TimeRange(NOON, NOON + timedelta(microseconds=1))
LAST = Last((NOON, uuid4()))


def tokens(kind: str = "event", text: str = "") -> ExportTokens:
    return ExportTokens(HERE, kind, text, ("time", "uuid"), ("int8", "uuid"))


PLACES: list[Place] = [
    CURSOR,
    Cursor(),
    RangePlace(CURSOR, ALL_TIME),
    RangePlace(CURSOR, SPAN, LAST),
    FlushPlace(CURSOR, Last((3 << 40 | 6, uuid4()), 4)),
    FlushPlace(CURSOR, Last((3 << 40 | 6, uuid4())), 1 << 40, 7),
]


@pytest.mark.parametrize("place", PLACES)
def test_a_place_comes_back(place: Place) -> None:
    assert tokens().read(tokens().write(place)) == place


def test_at_the_end_of_an_export_it_is_a_plain_cursor() -> None:
    assert tokens().write(CURSOR) == write_cursor(CURSOR, HERE)


@pytest.mark.parametrize("place", PLACES[2:])
def test_within_an_export_it_is_bound(place: Place) -> None:
    token = tokens().write(place)
    for other in (tokens("span"), tokens(text="a = 1")):
        with pytest.raises(CursorInvalid, match="another installation, kind or filter"):
            other.read(token)
    elsewhere = ExportTokens(UUID(int=8), "event", "", ("time", "uuid"), ("int8", "uuid"))
    with pytest.raises(CursorInvalid):
        elsewhere.read(token)


@pytest.mark.parametrize("place", PLACES)
def test_a_changed_token_is_refused(place: Place) -> None:
    token = tokens().write(place)
    for at in range(len(token)):
        changed = token[:at] + ("A" if token[at] != "A" else "B") + token[at + 1 :]
        try:
            found = tokens().read(changed)
        except CursorInvalid:
            continue
        assert found == place  # bits that only pad the text
    for cut in range(len(token)):
        with pytest.raises(CursorInvalid):
            tokens().read(token[:cut])


@given(some.text(max_size=200))
def test_texts_that_are_no_token(text: str) -> None:
    with pytest.raises(CursorInvalid):
        tokens().read(text)
