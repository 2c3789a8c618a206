from __future__ import annotations

from fernando_telemetry.domain.verdicts import Rejection, Tally, Verdict


def verdict(index: int, *, kept: bool = False) -> Verdict:
    return Verdict("event", index, "invalid_ip", "source_ip", "not an address", kept=kept)


def test_a_tally_counts_what_was_rejected_and_what_was_adjusted() -> None:
    tally = Tally(accepted=3)
    tally.add(verdict(0))
    tally.add(verdict(1, kept=True))
    assert (tally.accepted, tally.rejected, tally.adjusted) == (3, 1, 1)
    assert [one.index for one in tally.verdicts] == [0, 1]
    assert not tally.truncated


def test_a_tally_keeps_the_first_hundred_verdicts_and_all_counts() -> None:
    tally = Tally()
    for index in range(100):
        tally.add(verdict(index))
    assert not tally.truncated
    tally.add(verdict(100))
    tally.add(verdict(101, kept=True))
    assert [one.index for one in tally.verdicts] == list(range(100))
    assert tally.truncated
    assert (tally.rejected, tally.adjusted) == (101, 1)


def test_a_rejection_says_field_and_reason() -> None:
    rejection = Rejection("text_too_long", "labels.region", "at most 256 bytes")
    assert str(rejection) == "labels.region: text_too_long: at most 256 bytes"
