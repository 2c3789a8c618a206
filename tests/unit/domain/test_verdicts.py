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


def test_a_record_refused_after_all_has_one_verdict_in_its_place() -> None:
    tally = Tally(accepted=2)
    tally.add(verdict(1, kept=True))
    tally.add(verdict(2))
    tally.add(verdict(3, kept=True))
    refusal = Verdict("event", 1, "refused_by_database", "", "refused")
    tally.refuse(refusal)
    assert (tally.accepted, tally.rejected, tally.adjusted) == (1, 2, 1)
    assert tally.verdicts == [refusal, verdict(2), verdict(3, kept=True)]


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


def test_what_is_taken_back_leaves_the_other_verdicts_and_counts() -> None:
    tally = Tally()
    tally.add(verdict(5))
    for index in range(150):
        tally.add(Verdict("span", index, "label_cardinality", "", "x", kept=True))
    tally.add_kept(3)
    assert tally.truncated
    tally.take_back("label_cardinality", 153)
    assert (tally.rejected, tally.adjusted, tally.truncated) == (1, 0, False)
    assert [one.index for one in tally.verdicts] == [5]


def test_verdicts_stand_by_kind_and_index() -> None:
    tally = Tally()
    for kind, index in (("metric_columns", 0), ("system_metric", 2), ("event", 9)):
        tally.add(Verdict(kind, index, "x", "", ""))  # type: ignore[arg-type]
    tally.add(Verdict("system_metric", 1, "x", "", ""))
    tally.sort()
    assert [(one.kind, one.index) for one in tally.verdicts] == [
        ("event", 9),
        ("system_metric", 1),
        ("system_metric", 2),
        ("metric_columns", 0),
    ]


def test_a_rejection_says_field_and_reason() -> None:
    rejection = Rejection("text_too_long", "labels.region", "at most 256 bytes")
    assert str(rejection) == "labels.region: text_too_long: at most 256 bytes"
