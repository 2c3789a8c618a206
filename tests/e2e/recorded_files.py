"""Reads back what the loader of recorded data stored, and holds it against the files.

What the files hold is computed here once more, without the loader's code.
"""

from __future__ import annotations

import csv
import json
import math
import re
from collections import Counter, defaultdict
from collections.abc import Awaitable, Callable
from datetime import UTC, date, datetime, timedelta
from decimal import Decimal
from ipaddress import ip_address
from pathlib import Path
from typing import Any

import pytest
from grpc import aio

from fernando.telemetry.v1 import (
    Aggregation,
    BusinessMetric,
    Event,
    EventServiceStub,
    EventSummary,
    EventType,
    GetServiceGraphRequest,
    GetServiceGraphResponse,
    GetTraceRequest,
    ListBusinessMetricsRequest,
    ListEventsRequest,
    ListSpansRequest,
    ListSystemMetricsRequest,
    MetricServiceStub,
    MetricType,
    QuerySystemMetricsRequest,
    Span,
    SpanFlag,
    SpanKind,
    SpanStatus,
    SummarizeEventsRequest,
    SystemMetric,
    TimeRange,
    TraceServiceStub,
    TraceSpan,
)

HOUR_MICROS = 3_600_000_000
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

    async def summary(self, comparison: str) -> list[EventSummary]:
        request = SummarizeEventsRequest(
            time_range=time_range(), filter=comparison, group_by=["event_name"]
        )
        return await all_pages(self._events.SummarizeEvents, request, "summaries")

    async def samples(self, comparison: str = "") -> list[SystemMetric]:
        request = ListSystemMetricsRequest(time_range=time_range(), filter=comparison)
        return await all_pages(self._metrics.ListSystemMetrics, request, "system_metrics")

    async def hourly(
        self, comparison: str, metric: str, align: int, first: int
    ) -> dict[int, float]:
        """Give a metric's value by hour (in microseconds) of the 400 days that begin at `first`."""
        request = QuerySystemMetricsRequest(metric_name=metric, filter=comparison)
        request.align = align  # type: ignore[assignment]
        request.time_range.start_time.FromMicroseconds(first)
        request.time_range.end_time.FromMicroseconds(first + 400 * 24 * HOUR_MICROS)
        request.alignment_period.FromMicroseconds(HOUR_MICROS)
        (line,) = await all_pages(self._metrics.QuerySystemMetrics, request, "time_series")
        return dict(zip(line.bucket_start_unix_micros, line.values, strict=True))

    async def kpis(self, *, include_superseded: bool) -> list[BusinessMetric]:
        request = ListBusinessMetricsRequest(
            time_range=time_range(), include_superseded=include_superseded
        )
        return await all_pages(self._metrics.ListBusinessMetrics, request, "business_metrics")

    async def spans(self) -> list[Span]:
        request = ListSpansRequest(time_range=time_range())
        return await all_pages(self._traces.ListSpans, request, "spans")

    async def trace(self, trace_id: str) -> tuple[Any, list[TraceSpan]]:
        summary = (await self._traces.GetTrace(GetTraceRequest(trace_id=trace_id))).summary
        request = GetTraceRequest(trace_id=trace_id)
        return summary, await all_pages(self._traces.GetTrace, request, "spans")

    async def graph(self) -> GetServiceGraphResponse:
        request = GetServiceGraphRequest(time_range=time_range())
        return await self._traces.GetServiceGraph(request)


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
        await check_hours(stored, service, metric, instance, expected)
        total += len(found)
    assert len(await stored.samples()) == total == 24_890


async def check_hours(
    stored: Stored, service: str, metric: str, instance: str, samples: list[tuple[int, float]]
) -> None:
    hours: dict[int, list[float]] = defaultdict(list)
    for at, value in samples:
        hours[at - at % HOUR_MICROS].append(value)
    figures: dict[int, Callable[[list[float]], float]] = {
        Aggregation.AGGREGATION_AVERAGE: lambda values: math.fsum(values) / len(values),
        Aggregation.AGGREGATION_MAX: max,
        Aggregation.AGGREGATION_COUNT: len,
        Aggregation.AGGREGATION_P95: lambda values: sorted(values)[-(-len(values) * 95 // 100) - 1],
    }
    one = f'service_name = "{service}" AND instance_id = "{instance}"'
    for align, figure in figures.items():
        found = await stored.hourly(one, metric, align, min(hours))
        assert found.keys() == hours.keys()
        assert all(math.isclose(found[at], figure(values)) for at, values in hours.items())


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


async def check_nova_summary(stored: Stored, data: Path) -> None:
    """Requests, share of errors and p95 of each path template, ids replaced."""
    durations: dict[str, list[float]] = defaultdict(list)
    failed: Counter[str] = Counter()
    log = (data / "logs" / "openstack_nova.log").read_text()
    for method, path, status, seconds in re.findall(
        r'"(\S+) (\S+) HTTP/1.1" status: (\d+) len: \d+ time: (\S+)', log
    ):
        parts = [
            "{project_id}"
            if re.fullmatch("[0-9a-f]{32}", part)
            else "{id}"
            if re.fullmatch("[0-9a-f-]{36}|[0-9]+", part)
            else part
            for part in path.split("?")[0].split("/")
        ]
        name = f"{method} {'/'.join(parts)}"
        durations[name].append(1000 * float(seconds))
        failed[name] += int(status) >= 400
    found = {
        one.group["event_name"]: one for one in await stored.summary('event_type = "api_event"')
    }
    assert {name: one.event_count for name, one in found.items()} == {
        name: len(values) for name, values in durations.items()
    }
    for name, values in durations.items():
        assert found[name].avg_duration_ms == pytest.approx(math.fsum(values) / len(values))
        nearest_rank = sorted(values)[math.ceil(0.95 * len(values)) - 1]
        assert found[name].p95_duration_ms == pytest.approx(nearest_rank, rel=0.0201), name
    errors = await stored.summary('event_type = "api_event" AND event_data.status >= 400')
    assert sum(failed.values()) > 0
    assert {one.group["event_name"]: one.event_count for one in errors} == +failed


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
        summary, placed = await stored.trace(trace_id)
        of_trace = [one.span for one in placed]
        listed = [span for span in spans if span.trace_id == trace_id]
        assert len(of_trace) == summary.span_count == count
        assert Counter(span.SerializeToString(deterministic=True) for span in of_trace) == Counter(
            span.SerializeToString(deterministic=True) for span in listed
        )
        assert dict(summary.spans_by_service) == Counter(span.service_name for span in listed)


CALLING, RECEIVING = ("CLIENT", "PRODUCER"), ("SERVER", "CONSUMER")


def zipkin_parent(given: dict[str, Any], trace: list[dict[str, Any]]) -> dict[str, Any] | None:
    """Give a span's parent: the calling side of its own id, else the side of its own service.

    `trace` is in the order of the spans' times; the receiving side of a service goes before others.
    """

    def first(spans: list[dict[str, Any]], kinds: tuple[str, ...]) -> dict[str, Any] | None:
        of_kind = (span for span in spans if span.get("kind") in kinds)
        return next(of_kind, spans[0] if spans else None)

    if given.get("kind") in RECEIVING:
        twins = [span for span in trace if span["id"] == given["id"]]
        calling = [span for span in twins if span.get("kind") in CALLING]
        if calling:
            return calling[0]
    named = [span for span in trace if span["id"] == given.get("parentId")]
    service = given["localEndpoint"]["serviceName"]
    own = [span for span in named if span["localEndpoint"]["serviceName"] == service]
    return first(own, RECEIVING) or first(named, CALLING)


async def check_trees_and_graph(stored: Stored, data: Path) -> None:
    """Depth of each span, calls between services, and what is odd, straight from the files."""
    durations: dict[tuple[str, str], list[float | None]] = {}
    failures: Counter[tuple[str, str]] = Counter()
    odd: Counter[str] = Counter()
    for path in (data / "traces").glob("*.json"):
        trace = sorted(json.loads(path.read_text()), key=lambda one: one["timestamp"])
        parents = {id(given): zipkin_parent(given, trace) for given in trace}
        depths: Counter[tuple[str, str, str, int]] = Counter()
        for given in trace:
            depth, above = 0, parents[id(given)]
            while above is not None:
                depth, above = depth + 1, parents[id(above)]
            service = given["localEndpoint"]["serviceName"]
            depths[given["id"], service, given.get("kind", "UNSPECIFIED"), depth] += 1
            odd["shared"] += sum(one["id"] == given["id"] for one in trace) > 1
            odd["missing"] += bool(given.get("parentId")) and parents[id(given)] is None
            parent = parents[id(given)]
            if parent is None or parent["localEndpoint"]["serviceName"] == service:
                continue
            edge = (parent["localEndpoint"]["serviceName"], service)
            duration = given.get("duration")
            durations.setdefault(edge, []).append(None if duration is None else duration / 1000)
            failures[edge] += "error" in given.get("tags", {}) or (
                parent.get("kind") == "CLIENT" and "error" in parent.get("tags", {})
            )
        summary, placed = await stored.trace("0" * 16 + trace[0]["traceId"])
        assert summary.span_count == len(trace)
        assert depths == Counter(
            (
                one.span.span_id,
                one.span.service_name,
                SpanKind.Name(one.span.kind).removeprefix("SPAN_KIND_"),
                one.depth,
            )
            for one in placed
        )
        odd.subtract(
            {
                "shared": sum(SpanFlag.SPAN_FLAG_SHARED_ID in one.flags for one in placed),
                "missing": sum(SpanFlag.SPAN_FLAG_ORPHAN in one.flags for one in placed),
            }
        )
        assert not any(odd.values()), (path, odd)
        if path.stem == "skew":
            # The serving begins 65 ms before its call, and is shorter by 0.962 ms.
            (serving,) = (one for one in placed if SpanFlag.SPAN_FLAG_CLOCK_SKEW in one.flags)
            assert (serving.span.service_name, serving.span.kind) == (
                "serviceb",
                SpanKind.SPAN_KIND_SERVER,
            )
            assert serving.clock_skew_ms == -65.922
    graph = await stored.graph()
    assert {
        (edge.client_service_name, edge.server_service_name): (edge.call_count, edge.error_count)
        for edge in graph.edges
    } == {call: (len(found), failures[call]) for call, found in durations.items()}
    for call in graph.edges:
        given_durations = durations[call.client_service_name, call.server_service_name]
        known = sorted(one for one in given_durations if one is not None)
        for share, figure in ((0.5, call.p50_duration_ms), (0.95, call.p95_duration_ms)):
            exact = known[math.ceil(share * len(known)) - 1] if known else 0.0
            assert math.isclose(figure, exact, rel_tol=0.02), call
    assert {node.service_name: node.span_count for node in graph.nodes} == Counter(
        span.service_name for span in await stored.spans()
    )
