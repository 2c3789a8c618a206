"""What a new series of a metric at its limit becomes, step by step."""

from __future__ import annotations

from datetime import date
from typing import Any

from hypothesis import given
from hypothesis import strategies as st

from fernando_telemetry.domain.series import EVERY_LABEL, ResolvedSeries, SeriesIdentity
from fernando_telemetry.domain.series_overflow import OVERFLOW, overflow_steps, window_start


def identity(labels: dict[str, str], **fields: Any) -> SeriesIdentity:
    given: dict[str, Any] = {
        "metric_name": "requests",
        "metric_type": "gauge",
        "metric_unit": "",
        "service_name": "api",
        "host_name": "h1",
        "instance_id": "i1",
        "license_id": "",
        "temporality": "",
    }
    return SeriesIdentity(**(given | fields), labels=tuple(sorted(labels.items())))


def test_the_label_with_most_values_goes_first_then_all_then_everything() -> None:
    one, two, three = overflow_steps(identity({"user": "u1", "region": "eu"}), ["user", "region"])
    assert (one.identity, one.label) == (identity({"user": OVERFLOW, "region": "eu"}), "user")
    without = identity({"user": OVERFLOW, "region": OVERFLOW}, instance_id=OVERFLOW)
    assert (two.identity, two.label) == (without, EVERY_LABEL)
    assert three.identity.labels == ((OVERFLOW, OVERFLOW),)
    assert three.identity.service_name == three.identity.host_name == OVERFLOW
    assert three.identity.metric_name == "requests"
    assert [step.level for step in (one, two, three)] == [1, 2, 3]


def test_a_label_the_identity_lacks_or_that_is_replaced_already_is_passed_over() -> None:
    steps = overflow_steps(identity({"region": "eu", "user": OVERFLOW}), ["user", "path", "region"])
    assert steps[0].label == "region"


def test_labels_the_ranking_does_not_know_go_by_name() -> None:
    assert overflow_steps(identity({"b": "1", "a": "1"}), [])[0].label == "a"


def test_without_labels_the_instance_is_what_can_go() -> None:
    one, two = overflow_steps(identity({}), ["user"])
    assert (one.level, one.identity) == (2, identity({}, instance_id=OVERFLOW))
    assert two.level == 3


def test_a_field_path_is_in_the_contracts_words() -> None:
    assert ResolvedSeries(1, "user").field_path == "labels.user"
    assert ResolvedSeries(1, EVERY_LABEL).field_path == "labels"


def test_seven_days_count_today_included() -> None:
    assert window_start(date(2026, 5, 17)) == date(2026, 5, 10)


@given(
    st.lists(
        st.builds(
            identity,
            st.dictionaries(st.text(max_size=3), st.text(max_size=3), max_size=4),
            service_name=st.text(max_size=3),
            host_name=st.text(max_size=3),
            instance_id=st.text(max_size=3),
            metric_unit=st.text(max_size=3),
            metric_type=st.sampled_from(["gauge", "timer"]),
            temporality=st.sampled_from(["", "delta"]),
        )
    ),
    st.lists(st.text(max_size=3)),
)
def test_the_last_step_is_one_of_few_whatever_is_sent(
    given: list[SeriesIdentity], ranking: list[str]
) -> None:
    last = {overflow_steps(one, ranking)[-1].identity for one in given}
    assert len(last) <= 2 * 2
