"""The likeliest count of users by the bits of a sketch."""

from __future__ import annotations

import random

import pytest

from fernando_telemetry.domain.user_sketch import (
    COMPONENT_BITS,
    COMPONENTS,
    MOST_USERS,
    estimate,
)


def bits_of(users: int, seed: int) -> list[int]:
    """Set the bits of so many users, drawn as hashes are."""
    chance = random.Random(seed)
    met: set[tuple[int, int]] = set()
    for _ in range(users):
        component = 0
        while component < COMPONENTS - 1 and chance.random() < 0.5:
            component += 1
        met.add((component, chance.randrange(COMPONENT_BITS)))
    counts = [0] * COMPONENTS
    for component, _ in met:
        counts[component] += 1
    return counts


def test_none_and_all() -> None:
    assert estimate([0] * COMPONENTS) == 0
    assert estimate([COMPONENT_BITS] * COMPONENTS) == MOST_USERS


@pytest.mark.parametrize("users", [1, 2, 10, 25])
def test_few_users_are_wrong_by_one_at_most(users: int) -> None:
    for seed in range(20):
        assert abs(estimate(bits_of(users, seed)) - users) <= 1


@pytest.mark.parametrize(("users", "seeds"), [(1_000, 20), (20_000, 10), (200_000, 3)])
def test_the_standard_error_is_below_two_percent(users: int, seeds: int) -> None:
    errors = [estimate(bits_of(users, seed)) / users - 1 for seed in range(seeds)]
    assert (sum(error**2 for error in errors) / seeds) ** 0.5 < 0.02
    assert max(abs(error) for error in errors) < 0.05


def test_a_count_rises_with_every_bit() -> None:
    counts = [0] * COMPONENTS
    found = [estimate(counts)]
    for component in range(COMPONENTS):
        counts[component] = COMPONENT_BITS // 2
        found.append(estimate(counts))
    assert found == sorted(found)
