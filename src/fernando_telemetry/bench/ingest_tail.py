"""TailEvents: from an ack until a tail has its events, and the rate beside open tails.

The clock runs from the ack of a call of 100 events until the last of them has come: on the idle
server, where calls follow each other, and beside one stream at half and at full rate, where the
tail has a filter that takes the events of the calls only. With many tails each takes those of one
user of the call, and each has its own time.

The rate of one stream is taken in turns: without a tail, with one that asks for every event, with
one that asks for one name of forty, and with many tails of a user each.
"""

from __future__ import annotations

import asyncio
import contextlib
import time
from collections.abc import Sequence
from typing import Final

from grpc import aio

from fernando.telemetry.client import CHANNEL_OPTIONS
from fernando_telemetry.bench.failure import BenchFailed
from fernando_telemetry.bench.figures import Figures, Report, percentile, quotient
from fernando_telemetry.bench.ingest_latency import PAUSE_SECONDS, RECORDS, UnaryCalls
from fernando_telemetry.bench.load import Load, LoadSlice, generating, median_rate
from fernando_telemetry.bench.memory import MemoryWatch
from fernando_telemetry.bench.open_tail import OpenTail, following_all
from fernando_telemetry.bench.stand import IngestOptions, Stand, standing

WARM_UP_SECONDS: Final = 1.0
# The source of the events whose way is timed.
MARK: Final = "bench-tail"
OF_ONE_NAME: Final = "event_name = page_view_7"


async def measure_tail(options: IngestOptions, report: Report) -> Figures:
    """Measure how late events come to a tail, and what tails cost ingest.

    Raises:
        BenchFailed: Events did not come, or were not stored as acknowledged.
    """
    if options.kind != "events":
        raise BenchFailed("A tail is one of events: leave --records at its default.")
    async with (
        standing(options, report) as stand,
        aio.insecure_channel(stand.server.address, options=CHANNEL_OPTIONS) as channel,
    ):
        calls, idle = UnaryCalls(channel, MARK), OpenTail()
        async with idle.following(channel):
            late = await _late(calls, [(idle, RECORDS)], options.seconds)
        report(f"{len(late)} calls, their events {percentile(late, 50):.1f} ms behind the ack")
        async with generating(stand.plan("tailed", 1, options.batch_records)) as load:
            await load.run(WARM_UP_SECONDS)
            costs = await _costs(stand, load, channel, report)
            loaded = await _under_load(stand, load, channel, calls, report)
            many = await _to_many(stand, load, channel, calls, report)
        return {
            "figure": "tail",
            "seconds": options.seconds,
            "p50_ms": round(percentile(late, 50), 3),
            "p99_ms": round(percentile(late, 99), 3),
            "calls": len(late),
            **costs,
            **loaded,
            **many,
            "rows_stored": await stand.require_rows(calls.records + load.acknowledged),
            **stand.surroundings(),
        }


async def _late(
    calls: UnaryCalls, tails: Sequence[tuple[OpenTail, int]], seconds: float
) -> list[float]:
    """Make calls one at a time; gives milliseconds from each ack to the last event of each tail.

    Args:
        calls: The calls.
        tails: Each with how many events of a call it takes.
        seconds: How long; one call at least.
    """
    late: list[float] = []
    deadline = time.monotonic() + seconds
    while time.monotonic() < deadline or not late:
        before = [tail.came + tail.dropped for tail, _ in tails]
        await calls.make()
        acknowledged = time.perf_counter()
        for (tail, events), had in zip(tails, before, strict=True):
            await tail.until(had + events)
            late.append(max(0.0, (tail.came_at - acknowledged) * 1000))
    for tail, _ in tails:
        if tail.dropped:
            raise BenchFailed(f"The tail has {tail.came} events, {tail.dropped} were dropped.")
    return late


# What tails cost ---------------------------------------------------------------------------------


async def _costs(stand: Stand, load: Load, channel: aio.Channel, report: Report) -> Figures:
    """Take the rate in turns, without a tail and with others."""
    whole, of_name = OpenTail(), OpenTail(OF_ONE_NAME)
    many = [OpenTail(f"user_id = user-{number:06d}") for number in range(stand.options.tails)]
    watch = MemoryWatch(stand.server.pid)
    turns: dict[str, tuple[Sequence[OpenTail], list[LoadSlice]]] = {
        "": ([], []),
        "tailed_": ([whole], []),
        "filtered_": ([of_name], []),
        "many_": (many, []),
    }
    for number in range(stand.options.rounds):
        # There and back, so that no turn always follows the same one.
        for name in list(turns)[:: -1 if number % 2 else 1]:
            tails, slices = turns[name]
            await stand.settle()
            weighing = watch if name == "many_" else contextlib.nullcontext()
            async with following_all(tails, channel), weighing:
                slices.append(await load.run(stand.options.slice_seconds))
                if whole in tails:
                    await whole.until(sum(part.records for part in slices))
        shown = ", ".join(f"{slices[-1].rate:,.0f}" for _, slices in turns.values())
        report(f"rows/s without a tail, with one, a filter, {len(many)} filters: {shown}")
    followed = sum(part.records for part in turns["tailed_"][1])
    if whole.came + whole.dropped != followed:
        raise BenchFailed(
            f"Of {followed} events the tail has {whole.came}, and {whole.dropped} were dropped."
        )
    rates = {name: median_rate(slices) for name, (_, slices) in turns.items()}
    return {
        **{f"{name}rows_per_second": round(rate) for name, rate in rates.items()},
        "ratio": quotient(rates["tailed_"], rates[""]),
        "filtered_ratio": quotient(rates["filtered_"], rates[""]),
        "many_ratio": quotient(rates["many_"], rates[""]),
        "events_came": whole.came,
        "events_dropped": whole.dropped,
        "filtered_events_came": of_name.came,
        "filtered_events_dropped": of_name.dropped,
        "age_p50_ms": round(percentile(whole.ages_ms, 50), 1),
        "age_p99_ms": round(percentile(whole.ages_ms, 99), 1),
        "tails": len(many),
        "many_events_came": sum(tail.came for tail in many),
        "many_events_dropped": sum(tail.dropped for tail in many),
        "many_age_p99_ms": round(percentile([ms for one in many for ms in one.ages_ms], 99), 1),
        "many_server_rss_mb": watch.highest_mb,
    }


# How late events are under load ------------------------------------------------------------------


async def _under_load(
    stand: Stand, load: Load, channel: aio.Channel, calls: UnaryCalls, report: Report
) -> Figures:
    """Time calls beside a stream at full rate, and at half of that."""
    figures: Figures = {}
    rate: float | None = None
    for name in ("full", "half"):
        await stand.settle()
        late, part = await _beside(load, channel, calls, stand.options.seconds, rate)
        report(f"{len(late)} calls beside {part.rate:,.0f} rows/s: {percentile(late, 50):.1f} ms")
        figures |= {
            f"{name}_p50_ms": round(percentile(late, 50), 3),
            f"{name}_p99_ms": round(percentile(late, 99), 3),
            f"{name}_calls": len(late),
            f"{name}_rows_per_second": round(part.rate),
        }
        rate = part.rate / 2
    return figures


async def _to_many(
    stand: Stand, load: Load, channel: aio.Channel, calls: UnaryCalls, report: Report
) -> Figures:
    """Time calls that many tails have a share of: alone, and beside a stream at full rate."""
    takers = []
    for number in range(stand.options.tails):
        user = calls.users[number % len(calls.users)]
        tail = OpenTail(f'source = {MARK} AND user_id = "{user}"')
        takers.append((tail, calls.users.count(user)))
    seconds = stand.options.seconds
    await stand.settle()
    async with following_all([tail for tail, _ in takers], channel):
        idle = await _late(calls, takers, seconds)
        full, part = await _in_turn(load, calls, takers, seconds, None)
    report(
        f"{len(takers)} tails: {percentile(idle, 50):.1f} ms behind the ack, "
        f"{percentile(full, 50):.1f} ms beside {part.rate:,.0f} rows/s"
    )
    return {
        "many_idle_p50_ms": round(percentile(idle, 50), 3),
        "many_idle_p99_ms": round(percentile(idle, 99), 3),
        "many_idle_deliveries": len(idle),
        "many_full_p50_ms": round(percentile(full, 50), 3),
        "many_full_p99_ms": round(percentile(full, 99), 3),
        "many_full_deliveries": len(full),
        "many_full_rows_per_second": round(part.rate),
    }


async def _beside(
    load: Load, channel: aio.Channel, calls: UnaryCalls, seconds: float, rate: float | None
) -> tuple[list[float], LoadSlice]:
    """Time calls by a tail that takes their events, beside a stream."""
    tail = OpenTail(f"source = {MARK}")
    async with tail.following(channel):
        return await _in_turn(load, calls, [(tail, RECORDS)], seconds, rate)


async def _in_turn(
    load: Load,
    calls: UnaryCalls,
    tails: Sequence[tuple[OpenTail, int]],
    seconds: float,
    rate: float | None,
) -> tuple[list[float], LoadSlice]:
    """Make calls with pauses between them, beside a stream of a rate; None: as fast as it can."""
    late: list[float] = []
    streaming = asyncio.create_task(load.run(seconds, rate))
    try:
        while not streaming.done():
            late += await _late(calls, tails, 0)
            await asyncio.sleep(PAUSE_SECONDS)
        return late, await streaming
    finally:
        streaming.cancel()
        await asyncio.gather(streaming, return_exceptions=True)
