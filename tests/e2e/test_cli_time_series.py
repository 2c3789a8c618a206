"""`query metrics --align` as a person runs it, against a real server."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta

import pytest
from grpc import aio

from fernando.telemetry import v1
from fernando_telemetry.app import Application
from tests.e2e.test_cli_send_query import run

END = datetime.now(UTC).replace(second=0, microsecond=0)
MINUTE = timedelta(minutes=1)


@pytest.fixture
async def target(server: Application, channel: aio.Channel) -> tuple[str, ...]:
    """Name a server that has two hosts' counters, the second of which starts a minute later."""
    records = v1.TelemetryRecords()
    for host in range(2):
        for step in range(host * 4, 12):
            metric = records.system_metrics.add(
                metric_name="requests",
                metric_type=v1.MetricType.METRIC_TYPE_COUNTER,
                metric_value=step * 30.0,
                host_name=f"h{host}",
                labels={"region": "eu"},
            )
            metric.metric_timestamp.FromDatetime(END - 3 * MINUTE + step * timedelta(seconds=15))
    await v1.IngestServiceStub(channel).IngestTelemetry(v1.IngestTelemetryRequest(records=records))
    window = ("--start", (END - 3 * MINUTE).isoformat(), "--end", END.isoformat())
    return ("--target", server.address, "--metric-name", "requests", *window)


async def test_a_table_has_a_row_for_each_bucket(target: tuple[str, ...]) -> None:
    shown = (await run("query", "metrics", "--align", "1m", *target)).checked()
    rows = [line.split() for line in shown.out.splitlines()]
    assert rows[0] == [
        *("bucket_start", "value", "samples", "host_name", "labels", "metric_type"),
        *("temporality", "metric_name"),
    ]
    first = (END - 3 * MINUTE).isoformat().replace("+00:00", "Z")
    assert [first, *["45", "4", "h0", "region=eu", "counter", "cumulative", "requests"]] in rows
    # Which of two new series of one call is the older one is not said.
    assert sorted(row[3] for row in rows[1:]) == ["h0"] * 3 + ["h1"] * 2
    assert [rows.index(row) for row in sorted(rows[1:], key=lambda row: row[3])] in (
        [1, 2, 3, 4, 5],
        [3, 4, 5, 1, 2],
    )
    assert shown.err.startswith("2 series from ")


async def test_reduced_and_filled_as_json(target: tuple[str, ...]) -> None:
    flags = ("--aggregation", "rate", "--reduce", "sum", "--group-by", "labels.region")
    shown = await run(
        *("query", "metrics", "--align", "1m", "--gap-fill", "nan", "--json", *flags, *target),
        *("--start", (END - 4 * MINUTE).isoformat()),
    )
    [row] = shown.checked().rows
    assert row == {
        "series": {"labels": {"region": "eu"}},
        "bucket_start_unix_micros": [
            int((END - place * MINUTE).timestamp()) * 1_000_000 for place in (4, 3, 2, 1)
        ],
        "values": ["NaN", 2.0, 4.0, 4.0],
        "sample_counts": [0, 4, 8, 8],
    }
    assert shown.err.startswith("1 series from ")


@pytest.mark.parametrize(
    ("flags", "words"),
    [
        (("--reduce", "sum"), "it needs --align"),
        (("--align", "1m", "--metric-name", "x", "--aggregation", "mean"), "there is no 'mean'"),
        (("--align", "1m"), "--align needs it"),
        (("--align", "soon", "--metric-name", "x"), "--align"),
        (("--align", "1m", "--metric-name", "x", "--oldest-first"), "in the order of time"),
    ],
)
async def test_mistakes_of_usage(flags: tuple[str, ...], words: str) -> None:
    ended = await run("query", "metrics", *flags)
    assert ended.code == 2
    assert words in " ".join(ended.err.replace("│", " ").split())


async def test_a_refusal_is_told(target: tuple[str, ...]) -> None:
    ended = await run("query", "metrics", "--align", "1m", "--aggregation", "p95", *target)
    assert ended.code == 1
    assert "AGGREGATION_NOT_APPLICABLE" in ended.err


@pytest.mark.parametrize(
    ("flags", "words"),
    [
        (("--group-by", "host_name"), "--group-by: it needs a reduce"),
        (("--reduce", "sum", "--group-by", "align"), "--group-by: allowed are "),
        (("--reduce", "rate"), "use it as --aggregation"),
        (("--align", "1ms", "--start", "-1d", "--end", "now"), "buckets of this --align and"),
    ],
)
async def test_a_refusal_names_what_was_typed(
    target: tuple[str, ...], flags: tuple[str, ...], words: str
) -> None:
    ended = await run("query", "metrics", "--align", "1m", *target, *flags)
    assert ended.code == 1
    assert words in ended.err


async def test_an_unknown_name_is_told(target: tuple[str, ...]) -> None:
    asked = ("query", "metrics", "--align", "1m", *target)
    unknown = (await run(*asked, "--metric-name", "request")).checked()
    assert "no series is called 'request'" in unknown.err
    assert "0 series" in unknown.err
    known = (await run(*asked, "--start", "-9d", "--end", "-8d", "--align", "1h")).checked()
    assert known.err.startswith("0 series")
