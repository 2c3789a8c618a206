"""Terms by kind and licence: which is whose, the shortest and the longest."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta, timezone

import pytest

from fernando_telemetry.domain.retention import (
    KindRetention,
    Retention,
    RetentionPolicy,
    kept_from,
)


def test_policies_replace_the_settings_kind_by_kind() -> None:
    settings = Retention.of_days(90, 180, 181, 30)
    held = settings.with_policies(
        [
            RetentionPolicy("event", "", 10),
            RetentionPolicy("event", "acme", 365),
            RetentionPolicy("span", "acme", 0),
        ]
    )
    assert held.events == KindRetention(10, {"acme": 365})
    assert held.traces == KindRetention(30, {"acme": 0})
    assert (held.metrics, held.business) == (settings.metrics, settings.business)
    assert settings == Retention.of_days(90, 180, 181, 30)
    assert held.policies() == [
        RetentionPolicy("event", "", 10),
        RetentionPolicy("event", "acme", 365),
        RetentionPolicy("system_metric", "", 180),
        RetentionPolicy("business_metric", "", 181),
        RetentionPolicy("span", "", 30),
        RetentionPolicy("span", "acme", 0),
    ]


@pytest.mark.parametrize(
    ("general", "licenses", "shortest", "longest"),
    [
        (90, {}, 90, 90),
        (90, {"a": 30, "b": 60}, 30, 90),
        (30, {"a": 365}, 30, 365),
        (90, {"a": 0}, 90, 0),
        (0, {"a": 30}, 30, 0),
        (0, {}, 0, 0),
        (0, {"a": 0}, 0, 0),
    ],
)
def test_the_shortest_and_the_longest_term(
    general: int, licenses: dict[str, int], shortest: int, longest: int
) -> None:
    terms = KindRetention(general, licenses)
    assert (terms.shortest_days, terms.longest_days) == (shortest, longest)
    assert terms.days_of("a") == licenses.get("a", general)
    assert terms.days_of("") == general


def test_records_go_by_midnight_utc() -> None:
    late = datetime(2026, 5, 2, 1, 30, tzinfo=timezone(timedelta(hours=2)))
    assert kept_from(late, 1) == datetime(2026, 4, 30, tzinfo=UTC)
