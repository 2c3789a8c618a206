"""The tree of a trace, on trees made by hand."""

from __future__ import annotations

import time
from dataclasses import replace

import pytest

from fernando_telemetry.domain.trace_summary import summarized
from fernando_telemetry.domain.trace_tree import PlacedSpan, TraceSpan, TraceTree


def span(
    name: str,
    parent: str = "",
    start: int = 0,
    duration: int | None = 100,
    *,
    service: str = "a",
    host: str = "",
    kind: str | None = None,
    ordinal: int = 0,
) -> TraceSpan:
    return TraceSpan(name, parent, service, "", host, kind, False, start, duration, 1, ordinal)


def placed(*spans: TraceSpan) -> list[PlacedSpan]:
    return TraceTree(reversed(spans)).placed(0, len(spans))


def shape(*spans: TraceSpan) -> list[tuple[str, str, int]]:
    return [(one.span.span_id, one.span.service_name, one.depth) for one in placed(*spans)]


def critical(*spans: TraceSpan) -> list[str]:
    return [one.span.span_id for one in placed(*spans) if one.is_critical]


def test_spans_come_depth_first_and_siblings_by_start() -> None:
    assert shape(
        span("root", start=0),
        span("late", "root", 50),
        span("early", "root", 10),
        span("below", "early", 60),
        span("other root", start=5),
    ) == [
        ("root", "a", 0),
        ("early", "a", 1),
        ("below", "a", 2),
        ("late", "a", 1),
        ("other root", "a", 0),
    ]


def test_an_orphan_is_a_root_and_says_so() -> None:
    found = placed(span("root"), span("lost", "gone", 5), span("child of lost", "lost", 6))
    assert [(one.span.span_id, one.depth, one.is_orphan) for one in found] == [
        ("root", 0, False),
        ("lost", 0, True),
        ("child of lost", 1, False),
    ]


def test_two_sides_of_one_id_are_parent_and_child() -> None:
    spans = (
        span("root", start=0, service="web"),
        span("call", "root", 10, service="web", kind="client"),
        span("call", "root", 12, 80, service="shop", kind="server"),
        # Each hangs below the side of its own service, and a stranger below the calling side.
        span("in shop", "call", 20, 10, service="shop"),
        span("in web", "call", 30, 10, service="web"),
        span("elsewhere", "call", 40, 10, service="db"),
    )
    assert shape(*spans) == [
        ("root", "web", 0),
        ("call", "web", 1),
        ("call", "shop", 2),
        ("in shop", "shop", 3),
        ("in web", "web", 2),
        ("elsewhere", "db", 2),
    ]
    assert [one.has_shared_id for one in placed(*spans)] == [False, True, True, False, False, False]


def test_the_receiving_side_of_a_call_to_oneself_has_the_children() -> None:
    assert shape(
        span("call", "", 0, service="a", kind="client"),
        span("call", "", 1, 90, service="a", kind="server"),
        span("work", "call", 2, 10, service="a"),
    ) == [("call", "a", 0), ("call", "a", 1), ("work", "a", 2)]


def test_a_receiving_side_whose_parent_is_lost_is_no_orphan_with_its_caller_there() -> None:
    tree = TraceTree(
        [
            span("call", "gone", 0, service="a", kind="client"),
            span("call", "gone", 1, 90, service="b", kind="server"),
        ]
    )
    assert [one.is_orphan for one in tree.placed(0, 2)] == [True, False]
    assert tree.orphan_count == 1


def test_spans_that_share_an_id_without_sides_are_siblings() -> None:
    found = placed(
        span("root"), span("twin", "root", 1, ordinal=1), span("twin", "root", 1, ordinal=2)
    )
    assert [(one.depth, one.has_shared_id, one.span.ordinal) for one in found] == [
        (0, False, 0),
        (1, True, 1),
        (1, True, 2),
    ]


@pytest.mark.parametrize("length", [1, 2, 3])
def test_a_cycle_is_cut_at_its_earliest_span(length: int) -> None:
    ring = [span(f"{n}", f"{(n + 1) % length}", start=10 - n) for n in range(length)]
    hanging = span("hanging", "0", start=20)
    found = placed(*ring, hanging)
    assert len(found) == length + 1
    assert [one.span.span_id for one in found if one.is_in_cycle] == [f"{length - 1}"]
    assert [one.span.span_id for one in found if one.depth == 0] == [f"{length - 1}"]
    assert found[-1].span == hanging
    assert not any(one.is_orphan for one in found)


def test_the_critical_path_goes_back_from_the_last_end() -> None:
    spans = (
        span("root", "", 0, 100),
        span("first", "root", 5, 25),
        span("meanwhile", "root", 6, 50),
        span("second", "root", 40, 55),
        span("in second", "second", 60, 20),
        span("instant", "root", 35, None),
    )
    assert critical(*spans) == ["root", "first", "second", "in second"]


def test_work_that_outlives_its_parent_is_on_the_critical_path() -> None:
    spans = (
        span("root", "", 0, 10, kind="producer"),
        span("within", "root", 1, 5),
        span("later", "root", 50, 100, kind="consumer"),
    )
    assert critical(*spans) == ["root", "within", "later"]


def test_the_critical_path_is_that_of_the_root_and_not_of_an_orphan() -> None:
    assert critical(span("lost", "gone", -5, 500), span("root", "", 0, 10)) == ["root"]


def test_self_time_is_what_children_do_not_cover() -> None:
    found = placed(
        span("root", "", 100, 100),
        span("one", "root", 110, 20),
        span("overlapping", "root", 120, 20),
        span("beyond", "root", 190, 50),
        span("before", "root", 50, 55),
        span("unknown", "root", 150, None),
    )
    by_name = {one.span.span_id: one.self_time for one in found}
    assert by_name == {
        "root": 100 - 30 - 10 - 5,
        "one": 20,
        "overlapping": 20,
        "beyond": 50,
        "before": 55,
        "unknown": 0,
    }


CALL = span("call", "", 1_000, 100, service="web", host="h1", kind="client")
SERVING = span("serving", "call", 1_010, 80, service="shop", host="h2", kind="server")


@pytest.mark.parametrize(
    ("parent", "child", "skew"),
    [
        (CALL, SERVING, None),
        # The serving is put into the middle of the call: 1,010 would be right.
        (CALL, replace(SERVING, start=410), -600),
        (CALL, replace(SERVING, start=1_510), 500),
        # One host, or one service where the host is not known, has one clock.
        (CALL, replace(SERVING, start=410, host_name="h1"), None),
        (CALL, replace(SERVING, start=410, host_name="", service_name="web"), None),
        # A serving that is longer than its call: the caller did not wait.
        (CALL, replace(SERVING, duration=500), None),
        (CALL, replace(SERVING, start=990, duration=500), -10),
        (CALL, replace(SERVING, duration=None, start=700), -300),
        (replace(CALL, kind="producer"), replace(SERVING, kind="consumer", start=5_000), None),
        (replace(CALL, kind="producer"), replace(SERVING, kind="consumer", start=900), -100),
    ],
)
def test_clock_skew(parent: TraceSpan, child: TraceSpan, skew: int | None) -> None:
    found = {one.span.span_id: one for one in placed(parent, child)}
    assert found["call"].clock_skew is None
    assert found["serving"].clock_skew == skew
    # What was sent stays as it is.
    assert (found["call"].span, found["serving"].span) == (parent, child)


def test_skew_counts_for_all_that_is_below_on_the_same_clock() -> None:
    behind = replace(SERVING, start=410)
    found = placed(
        CALL,
        behind,
        span("work", "serving", 420, 30, service="shop", host="h2"),
        span("back", "serving", 1_050, 10, service="web", host="h1"),
    )
    by_name = {one.span.span_id: one for one in found}
    assert by_name["work"].clock_skew is None
    # It is on the clock of the call again, in the last 10 of the 80 that were served.
    assert by_name["serving"].self_time == 40
    assert by_name["call"].self_time == 20
    assert [one.span.span_id for one in found if one.is_critical] == [
        "call",
        "serving",
        "work",
        "back",
    ]


@pytest.mark.parametrize("form", ["chain", "ring", "fan", "one id"])
def test_a_hundred_thousand_spans_take_seconds_and_no_recursion(form: str) -> None:
    count = 100_000
    match form:
        case "chain":
            spans = [span(f"{n}", f"{n - 1}" if n else "", n) for n in range(count)]
        case "ring":
            spans = [span(f"{n}", f"{(n or count) - 1}", n) for n in range(count)]
        case "fan":
            spans = [span(f"{n}", "0" if n else "", n) for n in range(count)]
        case _:
            spans = [span("same", "same", n, ordinal=n) for n in range(count)]
    began = time.process_time()
    tree = TraceTree(spans)
    last = tree.placed(count - 1, 5)
    assert time.process_time() - began < 20
    assert len(last) == 1
    assert last[0].depth == {"chain": count - 1, "ring": count - 1, "fan": 1, "one id": 0}[form]


def test_the_summary_counts_and_names_the_earliest_root() -> None:
    tree = TraceTree(
        [
            span("lost", "gone", 1_000, 10, service="queue"),
            replace(span("root", "", 2_000, 9_000), operation_name="checkout"),
            replace(span("child", "root", 3_000, None), is_error=True),
        ]
    )
    summary = summarized("1" * 32, tree)
    assert (summary.root_service_name, summary.root_operation_name) == ("a", "checkout")
    assert (summary.span_count, summary.error_count, summary.orphan_count) == (3, 1, 1)
    assert summary.duration_ms == 10.0
    assert summary.start_time.microsecond == 1_000
    assert summary.spans_by_service == {"queue": 1, "a": 2}
