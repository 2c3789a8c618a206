"""Sketches of sets of users: how many different ones there are, within 3 %, merged by OR.

A multi-resolution bitmap (Estan, Varghese, Fisk, 2003): a user's hash sets one bit, always the
same. The first component of the bits takes half of all users, the next a quarter, and so on, so
that some component is neither empty nor full for any count up to six million. All components
together give the likeliest count: its standard error is 1.3 %, and where there are few it is seldom
wrong by more than one. Kept as the 64-bit words that are not 0.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Final

import numpy as np

COMPONENTS: Final = 10
WORD_BITS: Final = 64
WORDS_PER_COMPONENT: Final = 52
COMPONENT_BITS: Final = WORD_BITS * WORDS_PER_COMPONENT
# A hash has 48 bits: these say which component, the lower 38 which of its bits.
COMPONENT_HASH_BITS: Final = 10
PLACE_HASH_BITS: Final = 38

_RATES: Final = np.array(
    [2.0 ** -min(number + 1, COMPONENTS - 1) / COMPONENT_BITS for number in range(COMPONENTS)]
)
# Where all bits are set there is no likeliest count; this is where almost all would be.
MOST_USERS: Final = 20_000_000
# Halving it so often leaves less than a ten-thousandth of a user.
_STEPS: Final = 40


def estimate(bits: Sequence[int]) -> int:
    """Give the likeliest number of users.

    Args:
        bits: How many are set, by component.
    """
    return estimates([bits])[0]


def estimates(sketches: Sequence[Sequence[int]]) -> list[int]:
    """Give the likeliest number of users of each of some sketches.

    Args:
        sketches: How many bits are set, by component.
    """
    found = np.array(sketches, np.float64).reshape(-1, COMPONENTS)
    low = np.zeros(len(found))
    high = np.full(len(found), float(MOST_USERS))
    for _ in range(_STEPS):
        middle = (low + high) / 2
        # The likelihood's slope: falls as the count rises.
        grown = found / -np.expm1(np.outer(middle, -_RATES)) - COMPONENT_BITS
        is_low = grown @ _RATES > 0
        low, high = np.where(is_low, middle, low), np.where(is_low, high, middle)
    counts = np.where(found.any(axis=1), (low + high) / 2, 0.0)
    return [round(count) for count in counts.tolist()]
