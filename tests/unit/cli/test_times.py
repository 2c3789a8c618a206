"""Times and durations as typed."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta

import pytest

from fernando_telemetry.cli.times import Moment, parse_duration, parse_time

NOW = datetime(2026, 5, 17, 9, 30, tzinfo=UTC)


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("5m", timedelta(minutes=5)),
        ("90s", timedelta(seconds=90)),
        ("250ms", timedelta(milliseconds=250)),
        ("1h30m", timedelta(hours=1, minutes=30)),
        ("1.5h", timedelta(minutes=90)),
        ("2w", timedelta(days=14)),
    ],
)
def test_duration(text: str, expected: timedelta) -> None:
    assert parse_duration(text) == expected


@pytest.mark.parametrize("text", ["", "5", "m", "5x", "-5m", "5m ", "5 m", "999999999999w", "1e3s"])
def test_no_duration(text: str) -> None:
    with pytest.raises(ValueError, match=r"no duration|too long"):
        parse_duration(text)


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("now", Moment(NOW)),
        ("-5m", Moment(NOW - timedelta(minutes=5))),
        ("now-5m", Moment(NOW - timedelta(minutes=5))),
        ("+1h", Moment(NOW + timedelta(hours=1))),
        ("2026-05-17T09:30:00Z", Moment(NOW)),
        ("2026-05-17t09:30:00z", Moment(NOW)),
        ("2026-05-17T11:30+02:00", Moment(NOW)),
        (
            "2026-05-17T09:30:00.123456789Z",
            Moment(NOW.replace(microsecond=123456)),
        ),
        ("2026-05-17T09:30:00", Moment(NOW, assumed_utc=True)),
        ("2026-05-17 09:30", Moment(NOW, assumed_utc=True)),
        ("2026-05-17", Moment(datetime(2026, 5, 17, tzinfo=UTC), assumed_utc=True)),
    ],
)
def test_time(text: str, expected: Moment) -> None:
    assert parse_time(text, NOW) == expected


@pytest.mark.parametrize(
    "text",
    [
        "",
        "yesterday",
        "20260517",
        "2026-W20",
        "2026-13-01",
        "2026-05-17T25:00:00Z",
        "2026-05-17T09:30:60Z",
        "4611686018427387904",
        "0001-01-01T00:00:00+05:00",
        "-999999999w",
        "+" + "999999999w" * 9,
    ],
)
def test_no_time(text: str) -> None:
    with pytest.raises(ValueError, match=r"no time|outside the years"):
        parse_time(text, NOW)
