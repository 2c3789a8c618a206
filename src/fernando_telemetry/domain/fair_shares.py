"""Shares something out among those who want of it."""

from __future__ import annotations

from collections.abc import Sequence


def fair_shares(wanted: Sequence[int], there: int) -> list[int]:
    """Give each its share: what one does not want is left for the others.

    Args:
        wanted: How much each wants, 0 or more.
        there: How much there is, 0 or more.

    Returns:
        A share each, at most what it wants, together at most what is there. Whoever gets less
        than it wants gets as much as any other, one more or less.
    """
    shares = [0] * len(wanted)
    for done, place in enumerate(sorted(range(len(wanted)), key=lambda place: wanted[place])):
        shares[place] = min(wanted[place], there // (len(wanted) - done))
        there -= shares[place]
    return shares
