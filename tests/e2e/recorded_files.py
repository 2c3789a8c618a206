"""Reads back what the loader of recorded data stored, and holds it against the files.

What the files hold is computed here once more, without the loader's code.
"""

from __future__ import annotations

import csv
import json
import math
import re
from collections import Counter
from collections.abc import Awaitable, Callable
from datetime import UTC, date, datetime, timedelta
from decimal import Decimal
from ipaddress import ip_address
from pathlib import Path
from typing import Any

from grpc import aio

from fernando.telemetry.v1 import (
    BusinessMetric,
    Event,
    EventServiceStub,
    EventType,
    GetTraceRequest,
    ListBusinessMetricsRequest,
    ListEventsRequest,
    ListSpansRequest,
    ListSystemMetricsRequest,
    MetricServiceStub,
    MetricType,
    Span,
    SpanKind,
    SpanStatus,
    SystemMetric,
    TimeRange,
    TraceServiceStub,
)

SERIES = {
    "ec2_cpu_utilization_5f5533": ("ec2", "cpu_utilization", "percentage", "5f5533"),
    "ec2_cpu_utilization_ac20cd": ("ec2", "cpu_utilization", "percentage", "ac20cd"),
    "ec2_cpu_utilization_fe7f93": ("ec2", "cpu_utilization", "percentage", "fe7f93"),
    "ec2_network_in_5abac7": ("ec2", "network_in", "bytes", "5abac7"),
    "elb_request_count_8c0756": ("elb", "request_count", "count", "8c0756"),
    "rds_cpu_utilization_cc0c53": ("rds", "cpu_utilization", "percentage", "cc0c53"),
}

Moved = Callable[[list[int]], list[int]]


def time_range() -> TimeRange:
    """Give a range that holds every time of the files, moved or not."""
    given = TimeRange()
    given.start_time.FromDatetime(datetime(2005, 1, 1, tzinfo=UTC))
    given.end_time.FromDatetime(datetime.now(UTC) + timedelta(days=1))
    return given


async def all_pages(call: Callable[[Any], Awaitable[Any]], request: Any, field: str) -> list[Any]:
    request.page_size = 1000
    found: list[Any] = []
    while True:
        response = await call(request)
        found += getattr(response, field)
        if not response.next_page_token:
            return found
        request.page_token = response.next_page_token


class Stored:
    """Reads back all there is."""

    def __init__(self, channel: aio.Channel) -> None:
        self._events = EventServiceStub(channel)
        self._metrics = MetricServiceStub(channel)
        self._traces = TraceServiceStub(channel)

    async def events(self, comparison: str) -> list[Event]:
        request = ListEventsRequest(time_range=time_range(), filter=comparison)
        return await all_pages(self._events.ListEvents, request, "events")

    async def samples(self, comparison: str = "") -> list[SystemMetric]:
        request = ListSystemMetricsRequest(time_range=time_range(), filter=comparison)
        return await all_pages(self._metrics.ListSystemMetrics, request, "system_metrics")

    async def kpis(self, *, include_superseded: bool) -> list[BusinessMetric]:
        request = ListBusinessMetricsRequest(
            time_range=time_range(), include_superseded=include_superseded
        )
        return await all_pages(self._metrics.ListBusinessMetrics, request, "business_metrics")

    async def spans(self) -> list[Span]:
        request = ListSpansRequest(time_range=time_range())
        return await all_pages(self._traces.ListSpans, request, "spans")

    async def trace(self, trace_id: str) -> tuple[Any, list[Span]]:
        summary = (await self._traces.GetTrace(GetTraceRequest(trace_id=trace_id))).summary
        request = GetTraceRequest(trace_id=trace_id)
        return summary, [
            placed.span for placed in await all_pages(self._traces.GetTrace, request, "spans")
        ]


def micros(at: datetime) -> int:
    return (at - datetime(1970, 1, 1, tzinfo=UTC)) // timedelta(microseconds=1)


def mover(last_day: date | None) -> Moved:
    """Give what moves the times of a file (in microseconds) to `last_day`, by whole days."""

    def moved(times: list[int]) -> list[int]:
        if last_day is None:
            return times
        day = 86_400_000_000
        target = micros(datetime(last_day.year, last_day.month, last_day.day, tzinfo=UTC))
        return [time + target - max(times) // day * day for time in times]

    return moved


def csv_rows(path: Path, moved: Moved) -> list[tuple[int, str]]:
    rows = list(csv.reader(path.read_text().splitlines()))[1:]
    times = [micros(datetime.fromisoformat(f"{at}+00:00")) for at, _ in rows]
    return list(zip(moved(times), (value for _, value in rows), strict=True))


async def check_samples(stored: Stored, data: Path, moved: Moved) -> None:
    paths = sorted((data / "metrics").glob("*.csv"))
    assert {path.stem for path in paths} == set(SERIES)
    total = 0
    for path in paths:
        service, metric, unit, instance = SERIES[path.stem]
        found = await stored.samples(
            f'service_name = "{service}" AND metric_name = "{metric}" '
            f'AND instance_id = "{instance}"'
        )
        expected = [(at, float(value)) for at, value in csv_rows(path, moved)]
        assert len(found) == len(expected)
        assert math.fsum(sample.metric_value for sample in found) == math.fsum(
            value for _, value in expected
        )
        assert sorted(
            (sample.metric_timestamp.ToMicroseconds(), sample.metric_value) for sample in found
        ) == sorted(expected)
        assert {(sample.metric_unit, sample.metric_type) for sample in found} == {
            (unit, MetricType.METRIC_TYPE_GAUGE)
        }
        assert len({sample.series_id for sample in found}) == 1
        total += len(found)
    assert len(await stored.samples()) == total == 24_890


async def check_kpis(stored: Stored, data: Path, moved: Moved) -> None:
    versions = await stored.kpis(include_superseded=True)
    current = await stored.kpis(include_superseded=False)
    superseded_count = 0
    for exchange in ("exchange-2", "exchange-3"):
        rows = csv_rows(data / "business" / f"{exchange}_cpc_results.csv", moved)
        found = [kpi for kpi in versions if kpi.dimensions["exchange"] == exchange]
        assert len(found) == len(rows)
        assert sum(Decimal(kpi.metric_value) for kpi in found) == sum(
            Decimal(value) for _, value in rows
        )
        assert Counter((kpi.period_start.ToMicroseconds(), kpi.metric_value) for kpi in found) == (
            Counter(rows)
        )
        # Of two rows of one hour the later one in the file counts.
        assert {
            kpi.period_start.ToMicroseconds(): kpi.metric_value
            for kpi in current
            if kpi.dimensions["exchange"] == exchange
        } == dict(rows)
        superseded_count += len(rows) - len(dict(rows))
        for kpi in found:
            assert kpi.period_end.seconds - kpi.period_start.seconds == 3600
            assert (kpi.metric_name, kpi.currency) == ("cost_per_click", "USD")
    assert sum(kpi.superseded for kpi in versions) == superseded_count == 1
    assert len(current) == len(versions) - 1
    assert max(len(kpi.metric_value.partition(".")[2]) for kpi in versions) == 13


async def check_nova(stored: Stored, data: Path, moved: Moved) -> None:
    lines = (data / "logs" / "openstack_nova.log").read_text().splitlines()
    times = moved(
        [micros(datetime.fromisoformat("T".join(line.split()[1:3]) + "+00:00")) for line in lines]
    )
    wanted = []
    for at, line in zip(times, lines, strict=True):
        parts = re.search(r'"(\S+) (\S+) HTTP/1.1" status: (\d+) len: \d+ time: (\S+)', line)
        if parts:
            method, path, status, seconds = parts.groups()
            wanted.append((at, method, path, int(status), float(Decimal(seconds) * 1000)))
    requests = await stored.events('event_type = "api_event"')
    found = []
    for event in requests:
        data_of = json.loads(event.event_data)
        at = event.event_timestamp.ToMicroseconds()
        found.append((at, data_of["method"], data_of["path"], data_of["status"], event.duration_ms))
        assert event.event_name.startswith(f"{data_of['method']} /")
        assert not re.search(r"[0-9a-f]{20}|\?", event.event_name)
        assert ip_address(event.source_ip)
    assert len(found) == len(wanted) == 1017
    assert math.fsum(row[-1] for row in found) == math.fsum(row[-1] for row in wanted)
    assert Counter(found) == Counter(wanted)
    # The ids are in the payload, so the names stay a small vocabulary.
    assert len({event.event_name for event in requests}) < 30
    others = await stored.events('event_type = "system_event" AND source != "apache"')
    assert len(others) == len(lines) - len(wanted)
    assert not any(event.HasField("duration_ms") for event in others)


async def check_apache(stored: Stored, data: Path, moved: Moved) -> None:
    lines = (data / "logs" / "apache_error.log").read_text().splitlines()
    times = moved(
        [micros(datetime.strptime(line[5:25] + "+0000", "%b %d %H:%M:%S %Y%z")) for line in lines]
    )
    expected = Counter(
        (at, "error_event" if "] [error] " in line else "system_event", line.count("[client "))
        for at, line in zip(times, lines, strict=True)
    )
    found = await stored.events('source = "apache"')
    assert expected == Counter(
        (
            event.event_timestamp.ToMicroseconds(),
            EventType.Name(event.event_type).removeprefix("EVENT_TYPE_").lower(),
            int(bool(event.source_ip)),
        )
        for event in found
    )


def first_address(message: str) -> str:
    for word in re.split(r"[\s\[\]=]+", message):
        try:
            return str(ip_address(word.rstrip(":")))
        except ValueError:
            continue
    return ""


async def check_openssh(stored: Stored, data: Path, moved: Moved, year: int) -> None:
    lines = (data / "logs" / "openssh.log").read_text().splitlines()
    times = moved(
        [
            micros(datetime.strptime(f"{year} {line[:15]} +0000", "%Y %b %d %H:%M:%S %z"))
            for line in lines
        ]
    )
    messages = [line.split("]: ", 1)[1].rstrip() for line in lines]
    found = await stored.events('event_type = "security_event"')
    assert Counter(
        (event.event_timestamp.ToMicroseconds(), data_of["message"], event.source_ip)
        for event in found
        for data_of in [json.loads(event.event_data)]
    ) == Counter(
        (at, message, first_address(message)) for at, message in zip(times, messages, strict=True)
    )
    tried = re.compile(r"Failed password for (?:invalid user )?\s*(\S+) from")
    assert Counter(
        json.loads(event.event_data)["user"]
        for event in found
        if event.event_name == "password_failed"
    ) == Counter(match[1] for match in map(tried.search, messages) if match)


async def check_traces(stored: Stored, data: Path, moved: Moved) -> None:
    added = {"peer.service", "peer.address", "peer.port", "zipkin.shared"}
    found: Counter[Any] = Counter()
    spans = await stored.spans()
    for span in spans:
        found[
            span.trace_id,
            span.span_id,
            span.parent_span_id,
            span.service_name,
            span.operation_name,
            SpanKind.Name(span.kind).removeprefix("SPAN_KIND_"),
            span.start_time.ToMicroseconds(),
            span.duration_ms if span.HasField("duration_ms") else None,
            frozenset((key, value) for key, value in span.tags.items() if key not in added),
            tuple((note.time.ToMicroseconds(), note.name) for note in span.events),
            span.status == SpanStatus.SPAN_STATUS_ERROR,
            span.http_method,
            span.http_url,
            span.http_status_code if span.HasField("http_status_code") else None,
        ] += 1
    expected: Counter[Any] = Counter()
    for path in (data / "traces").glob("*.json"):
        given_spans = json.loads(path.read_text())
        assert not any(added & given.get("tags", {}).keys() for given in given_spans)
        starts = moved([given["timestamp"] for given in given_spans])
        for start, given in zip(starts, given_spans, strict=True):
            tags, shift = given.get("tags", {}), start - given["timestamp"]
            status = tags.get("http.status_code")
            expected[
                "0" * 16 + given["traceId"],
                given["id"],
                given.get("parentId", ""),
                given["localEndpoint"]["serviceName"],
                given.get("name", ""),
                given.get("kind", "UNSPECIFIED"),
                start,
                given["duration"] / 1000 if "duration" in given else None,
                frozenset(tags.items()),
                tuple(
                    (note["timestamp"] + shift, note["value"])
                    for note in given.get("annotations", ())
                ),
                "error" in tags,
                tags.get("http.method", ""),
                tags.get("http.url", ""),
                int(status) if status else None,
            ] += 1
    assert found == expected
    assert sum(not span.HasField("duration_ms") for span in spans) == 19
    assert sum(not span.operation_name for span in spans) == 6
    assert max(len(value.encode()) for span in spans for value in span.tags.values()) == 752

    for trace_id, count in Counter(span.trace_id for span in spans).items():
        summary, of_trace = await stored.trace(trace_id)
        listed = [span for span in spans if span.trace_id == trace_id]
        assert len(of_trace) == summary.span_count == count
        assert Counter(span.SerializeToString(deterministic=True) for span in of_trace) == Counter(
            span.SerializeToString(deterministic=True) for span in listed
        )
        assert dict(summary.spans_by_service) == Counter(span.service_name for span in listed)
