"""When there is too little room, and that it does not flap."""

from __future__ import annotations

import pytest

from fernando_telemetry.domain.disk_room import MIB, Room, RoomLimits, shortage

LIMITS = RoomLimits(free_stop_percent=5, budget_bytes=0)
BUDGET = RoomLimits(free_stop_percent=0, budget_bytes=1000 * MIB)


def room(free_percent: float) -> Room:
    return Room("/data", int(free_percent * MIB), 100 * MIB)


@pytest.mark.parametrize(
    ("free_percent", "refusing", "is_short"),
    [
        (50, False, False),
        (5.0, False, False),
        (4.9, False, True),
        (0, False, True),
        (5.5, False, False),
        (5.5, True, True),
        (5.99, True, True),
        (6.0, True, False),
    ],
)
def test_free_space(free_percent: float, refusing: bool, is_short: bool) -> None:
    assert (shortage(room(free_percent), LIMITS, refusing=refusing) is not None) == is_short


@pytest.mark.parametrize(
    ("mib", "refusing", "is_short"),
    [(1000, False, False), (1001, False, True), (960, True, True), (950, True, False)],
)
def test_budget(mib: int, refusing: bool, is_short: bool) -> None:
    found = shortage(Room(database_bytes=mib * MIB), BUDGET, refusing=refusing)
    assert (found is not None) == is_short


def test_what_is_missing_ends_the_refusal() -> None:
    short = shortage(room(3), LIMITS, refusing=False)
    assert short is not None
    more = Room("/data", 3 * MIB + short.missing_bytes, 100 * MIB)
    assert shortage(more, LIMITS, refusing=True) is None
    over = shortage(Room(database_bytes=1200 * MIB), BUDGET, refusing=False)
    assert over is not None
    less = Room(database_bytes=1200 * MIB - over.missing_bytes)
    assert shortage(less, BUDGET, refusing=True) is None


def test_the_sentence_names_place_and_figures() -> None:
    short = shortage(room(3), LIMITS, refusing=False)
    assert short is not None
    assert short.sentence == "3.0 % (3 MiB) of the disk of /data is free, less than 5 %"


@pytest.mark.parametrize("limits", [RoomLimits(0, 0), RoomLimits(5, 1)])
def test_what_is_not_watched_or_not_known_is_not_short(limits: RoomLimits) -> None:
    unknown = Room() if limits.budget_bytes else room(0)
    assert shortage(unknown, limits, refusing=False) is None
