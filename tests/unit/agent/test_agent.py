"""The agent's loop against a real gRPC server, every 50 ms."""

from __future__ import annotations

import asyncio
import itertools
from collections.abc import AsyncIterator, Callable
from pathlib import Path
from typing import Any

import grpc
import pytest
from structlog.testing import capture_logs

from fernando.telemetry.client import Backoff
from fernando.telemetry.v1 import MetricType, SystemMetric
from fernando_telemetry.agent.agent import (
    AgentOutcome,
    HostAgent,
    run_agent,
    seconds_to_next_tick,
)
from fernando_telemetry.agent.collection import CollectorSet
from fernando_telemetry.agent.host_lock import HostLock
from fernando_telemetry.agent.samples import Sample, counter
from fernando_telemetry.settings import load_settings
from tests.unit.client.scripted_server import Act, ScriptedServer

QUICK = Backoff(initial_seconds=0.01, maximum_seconds=0.05)
PATIENCE_SECONDS = 20.0


@pytest.fixture
async def server() -> AsyncIterator[ScriptedServer]:
    async with ScriptedServer() as running:
        yield running


class Ticks:
    """A collector that counts its readings."""

    name = "ticks"

    def __init__(self) -> None:
        self.count = 0

    def collect(self) -> list[Sample]:
        self.count += 1
        return [counter("ticks", float(self.count), "count", {"of": "x\udcff"})]


class Broken:
    name = "broken"

    def __init__(self) -> None:
        self.mended = False

    def collect(self) -> list[Sample]:
        if not self.mended:
            raise PermissionError(13, "no", "/proc/x")
        return [Sample("mended", 1.0, "count")]


def samples(server: ScriptedServer, producer_id: str = "agent/web-1") -> list[SystemMetric]:
    batches = sorted(server.ingest.stored(producer_id).batches.items())
    return [metric for _, batch in batches for metric in batch.system_metrics]


def values(server: ScriptedServer, name: str) -> list[float]:
    return [metric.metric_value for metric in samples(server) if metric.metric_name == name]


async def until(condition: Callable[[], bool]) -> None:
    async with asyncio.timeout(PATIENCE_SECONDS):
        while not condition():  # noqa: ASYNC110 - the server's state has no event
            await asyncio.sleep(0.005)


def agent(server: ScriptedServer, *collectors: Any, **options: Any) -> HostAgent:
    options.setdefault("interval_seconds", 0.05)
    return HostAgent(server.target, "web-1", collectors=collectors, backoff=QUICK, **options)


async def test_real_collectors_arrive_as_the_contract_says(server: ScriptedServer) -> None:
    stop = asyncio.Event()
    one = HostAgent(server.target, "web-1", interval_seconds=0.05, backoff=QUICK)
    running = asyncio.create_task(one.run(stop))
    await until(lambda: len(values(server, "cpu_usage")) >= 2)
    stop.set()
    assert await running == AgentOutcome("stopped")
    (hello,) = server.ingest.hellos
    assert hello.producer_id == "agent/web-1"
    assert (hello.defaults.service_name, hello.defaults.host_name) == ("host", "web-1")
    found = samples(server)
    assert all(metric.HasField("metric_value") for metric in found)
    assert all(metric.HasField("metric_timestamp") for metric in found)
    units = {metric.metric_name: metric.metric_unit for metric in found}
    assert {units[name] for name in ("cpu_usage", "memory_usage", "disk_usage")} == {"percentage"}
    assert set(units.values()) <= {"percentage", "bytes", "count", "seconds"}
    types = {metric.metric_name: metric.metric_type for metric in found}
    assert types["cpu_usage"] == MetricType.METRIC_TYPE_GAUGE
    assert types["process_cpu_time"] == MetricType.METRIC_TYPE_COUNTER


async def test_readings_are_aligned_and_neither_doubled_nor_lost(server: ScriptedServer) -> None:
    stop = asyncio.Event()
    one = agent(server, Ticks())
    running = asyncio.create_task(one.run(stop))
    await until(lambda: len(values(server, "ticks")) >= 12)
    stop.set()
    await running
    seen = values(server, "ticks")
    # Reading 1 is the baseline, which is not sent.
    assert seen == [float(number) for number in range(2, len(seen) + 2)]
    ticks = [metric for metric in samples(server) if metric.metric_name == "ticks"]
    assert ticks[0].labels["of"] == "x?"
    times = [metric.metric_timestamp.ToMicroseconds() / 1e6 for metric in ticks]
    for before, at in itertools.pairwise(times):
        # Never before the multiple that follows the one before; how much later is the machine's.
        assert at > before + seconds_to_next_tick(before, 0.05) - 0.0025


@pytest.mark.parametrize(
    ("now", "tick"),
    [(150.0, 165), (150.001, 165), (157.5, 165), (164.2, 165), (164.26, 180), (164.999, 180)],
)
def test_readings_are_at_multiples_of_the_interval(now: float, tick: float) -> None:
    assert now + seconds_to_next_tick(now, 15.0) == pytest.approx(tick, abs=1e-9)


async def test_stop_does_not_wait_for_the_next_reading(server: ScriptedServer) -> None:
    stop = asyncio.Event()
    one = agent(server, Ticks(), interval_seconds=3600.0)
    running = asyncio.create_task(one.run(stop))
    await until(lambda: one.collected_count == 1)
    stop.set()
    async with asyncio.timeout(PATIENCE_SECONDS):
        assert (await running).reason == "stopped"
    assert values(server, "ticks") == [2.0]


async def test_stop_before_the_first_reading(server: ScriptedServer) -> None:
    stop = asyncio.Event()
    stop.set()
    async with asyncio.timeout(PATIENCE_SECONDS):
        assert (await agent(server, Ticks()).run(stop)).reason == "stopped"


async def test_cancel_ends_it_at_once(server: ScriptedServer) -> None:
    running = asyncio.create_task(agent(server, Ticks()).run(asyncio.Event()))
    await until(lambda: values(server, "ticks") != [])
    running.cancel()
    async with asyncio.timeout(PATIENCE_SECONDS):
        with pytest.raises(asyncio.CancelledError):
            await running


async def test_short_absence_of_the_server_loses_nothing(server: ScriptedServer) -> None:
    stop = asyncio.Event()
    one = agent(server, Ticks())
    running = asyncio.create_task(one.run(stop))
    await until(lambda: values(server, "ticks") != [])
    await server.stop()
    before = one.collected_count
    await until(lambda: one.collected_count >= before + 5)
    await server.start()
    await until(lambda: len(values(server, "ticks")) >= before + 6)
    stop.set()
    await running
    seen = values(server, "ticks")
    assert seen == [float(number) for number in range(2, len(seen) + 2)]
    assert one.dropped_count == 0


async def test_long_absence_drops_the_oldest_and_counts_them(server: ScriptedServer) -> None:
    await server.stop()
    stop = asyncio.Event()
    one = agent(server, Ticks(), max_held_collections=3)
    running = asyncio.create_task(one.run(stop))
    with capture_logs() as logs:
        await until(lambda: one.dropped_count >= 4)
    assert [entry["event"] for entry in logs].count("agent_drops_collections") == 1
    await server.start()
    await until(lambda: len(values(server, "ticks")) >= 6)
    stop.set()
    await running
    seen = values(server, "ticks")
    # The first was with the producer, which drops nothing; then a gap, then all.
    assert seen[0] == 2.0
    gaps = [after - before for before, after in itertools.pairwise(seen)]
    assert gaps[0] == one.dropped_count + 1
    assert set(gaps[1:]) == {1.0}
    assert values(server, "agent_dropped_collections")[-1] == one.dropped_count


async def test_stop_with_the_server_away_takes_seconds_not_for_ever(
    server: ScriptedServer,
) -> None:
    await server.stop()
    stop = asyncio.Event()
    one = agent(server, Ticks())
    running = asyncio.create_task(one.run(stop))
    await until(lambda: one.collected_count >= 2)
    stop.set()
    async with asyncio.timeout(PATIENCE_SECONDS):
        assert (await running).reason == "stopped"


@pytest.mark.parametrize(
    ("code", "error", "reason"),
    [
        (grpc.StatusCode.ABORTED, "PRODUCER_FENCED", "fenced"),
        (grpc.StatusCode.UNAUTHENTICATED, "UNAUTHENTICATED", "refused"),
    ],
)
async def test_final_answer_of_the_server_ends_it(
    server: ScriptedServer, code: grpc.StatusCode, error: str, reason: str
) -> None:
    server.ingest.script.append(Act(refuse_hello=True, code=code, reason=error))
    async with asyncio.timeout(PATIENCE_SECONDS):
        outcome = await agent(server, Ticks()).run(asyncio.Event())
    assert outcome.reason == reason
    assert error in outcome.detail


def test_failing_collector_costs_its_own_samples_and_is_logged_once() -> None:
    broken, ticks = Broken(), Ticks()
    collectors = CollectorSet([broken, ticks], clock=lambda: 5)
    with capture_logs() as logs:
        for _ in range(3):
            names = {sample.metric_name for sample in collectors.collect().samples}
            assert "ticks" in names
        assert [entry["collector"] for entry in logs] == ["broken"]
        broken.mended = True
        collection = collectors.collect()
        broken.mended = False
        collectors.collect()
    assert "mended" in {sample.metric_name for sample in collection.samples}
    assert collection.time_unix_nanos == 5
    assert len(logs) == 2


async def test_host_with_an_agent_gets_no_second_one(
    server: ScriptedServer, tmp_path: Path
) -> None:
    settings = load_settings(
        data_dir=tmp_path, agent_target=server.target, agent_interval_seconds=0.05, host_name="h 1"
    )
    path = tmp_path / "agent.lock"
    stop = asyncio.Event()
    first = asyncio.create_task(run_agent(settings, stop, lock_path=path, owner="serve"))
    await until(lambda: len(samples(server, "agent/h-1")) > 0)
    second = await run_agent(settings, stop, lock_path=path)
    assert second.reason == "lock_held"
    assert "serve, pid" in second.detail
    assert not first.done()
    stop.set()
    assert (await first).reason == "stopped"
    free = HostLock.acquire(path, "test")
    assert isinstance(free, HostLock)
    free.release()
