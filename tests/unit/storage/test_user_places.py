"""A user's bit is the same whether the user is known, new, pushed out or too long to be kept."""

from __future__ import annotations

import random

import numpy as np
import pyarrow as pa
import pytest

from fernando_telemetry.storage.user_places import MOST_BYTES, UserPlaces

USERS = [
    "",
    "u",
    "ü" * (MOST_BYTES // 2),
    *("a" * length for length in (7, 8, 9, MOST_BYTES - 1, MOST_BYTES, MOST_BYTES + 1, 256)),
    "a" * (MOST_BYTES - 1) + "b",
    "a\x00",
    "a",
    *(f"00000000-0000-4000-8000-{number:012d}" for number in range(200)),
]


def fresh(users: list[str]) -> list[int]:
    """Give the bits, each from a table that knows nobody."""
    return [int(UserPlaces(4)(pa.array([user]))[0]) for user in users]


@pytest.mark.parametrize("slot_bits", [1, 4, 18], ids=["two", "few", "many"])
def test_bits_are_those_of_an_empty_table(slot_bits: int) -> None:
    chance = random.Random(slot_bits)
    expected = dict(zip(USERS, fresh(USERS), strict=True))
    places_of = UserPlaces(slot_bits)
    for _ in range(30):
        users = chance.choices(USERS, k=chance.randrange(300))
        places = places_of(pa.array(users, pa.string()))
        assert places.tolist() == [expected[user] for user in users]


def test_a_slice_of_a_column_will_do() -> None:
    column = pa.array(USERS)
    places_of = UserPlaces(4)
    whole = places_of(column)
    assert np.array_equal(places_of(column.slice(5, 20)), whole[5:25])
