"""What is shared out: all of it where it is wanted, and nobody less than another for nothing."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from fernando_telemetry.domain.fair_shares import fair_shares


def test_what_one_does_not_want_is_left_for_the_others() -> None:
    assert fair_shares([1, 100, 100], 61) == [1, 30, 30]
    assert fair_shares([100, 1, 100], 100) == [49, 1, 50]
    assert fair_shares([5, 5], 100) == [5, 5]
    assert fair_shares([5, 5, 5], 0) == [0, 0, 0]
    assert fair_shares([], 7) == []


@given(st.lists(st.integers(0, 50), max_size=12), st.integers(0, 200))
def test_shares_are_fair(wanted: list[int], there: int) -> None:
    shares = fair_shares(wanted, there)
    assert sum(shares) == min(there, sum(wanted))
    assert all(0 <= share <= want for share, want in zip(shares, wanted, strict=True))
    short = [share for share, want in zip(shares, wanted, strict=True) if share < want]
    assert all(share <= min(short) + 1 for share in shares if short)
