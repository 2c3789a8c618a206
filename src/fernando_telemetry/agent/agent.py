"""The agent's loop: read on time, hold what cannot be sent, send, stop when told."""

from __future__ import annotations

import asyncio
import contextlib
import math
import re
import time
from collections import deque
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Final, Literal

import grpc
import structlog

from fernando.telemetry.client import (
    Backoff,
    ProducerClosed,
    ProducerFenced,
    RpcFailed,
    TelemetryProducer,
)
from fernando.telemetry.v1 import RecordDefaults
from fernando_telemetry.agent.collection import Collection, CollectorSet, host_collectors
from fernando_telemetry.agent.host_lock import HostLock, LockHeld, default_lock_path
from fernando_telemetry.agent.samples import Collector, counter
from fernando_telemetry.settings import Settings

_log = structlog.get_logger(__name__)

SERVICE_NAME: Final = "host"

# Long enough for a usage to mean something, short enough for a first look after a start.
_BASELINE_SECONDS: Final = 1.0

# An hour at 15 s; some 20 MiB on a machine of 64 cores.
_HELD_COLLECTIONS: Final = 240

# How long a stop waits for the last acks.
_CLOSE_SECONDS: Final = 2.0


@dataclass(frozen=True, slots=True)
class AgentOutcome:
    """Why an agent ended.

    Attributes:
        reason: `stopped` as asked; `lock_held`: this host has an agent, this one did not start;
            `fenced`: another host sends under this host's name; `refused`: the server will not
            take it.
        detail: A sentence part for a log or a terminal.
    """

    reason: Literal["stopped", "lock_held", "fenced", "refused"]
    detail: str = ""


class HostAgent:
    """Collects at multiples of the interval and sends over one stream.

    While the server is away collections are held, and beyond `max_held_collections` the oldest
    are dropped and counted in `agent_dropped_collections`: this is the one sender of the project
    that may lose samples.

    Args:
        target: The server's `host:port`, or a channel, which stays open.
        host_name: Names the host in every sample, and the producer `agent/<host_name>`.
        interval_seconds: Time between two readings; a reading that takes longer skips some.
        collectors: What to read; None: all of this machine.
        max_held_collections: Collections held while the server is away.
        backoff: Pauses between connections.
        wall_clock: Seconds since 1970, which readings are aligned to.
    """

    def __init__(
        self,
        target: str | grpc.aio.Channel,
        host_name: str,
        *,
        interval_seconds: float = 15.0,
        collectors: Sequence[Collector] | None = None,
        max_held_collections: int = _HELD_COLLECTIONS,
        backoff: Backoff | None = None,
        wall_clock: Callable[[], float] = time.time,
    ) -> None:
        self._target = target
        self._host_name = host_name
        self._interval = interval_seconds
        self._collectors = CollectorSet(host_collectors() if collectors is None else collectors)
        self._held: deque[Collection] = deque()
        self._max_held = max_held_collections
        self._backoff = backoff
        self._wall_clock = wall_clock
        self._arrived = asyncio.Event()
        self.collected_count = 0
        self.dropped_count = 0
        self._told_of_rejects = False

    async def run(self, stop: asyncio.Event) -> AgentOutcome:
        """Collect and send until told to stop, or until the server ends it for good."""
        name = re.sub(r"[^A-Za-z0-9._:/-]", "-", self._host_name) or "unnamed"
        producer = TelemetryProducer(
            self._target,
            f"agent/{name}"[:128],
            defaults=RecordDefaults(service_name=SERVICE_NAME, host_name=self._host_name),
            backoff=self._backoff,
            close_timeout_seconds=_CLOSE_SECONDS,
        )
        try:
            async with producer:
                await self._collect_and_send(producer, stop)
                if self._held and producer.welcome is not None:
                    with contextlib.suppress(TimeoutError):
                        async with asyncio.timeout(_CLOSE_SECONDS):
                            await self._send_held(producer)
        except ProducerFenced as error:
            _log.error("agent_fenced", host_name=self._host_name, error=str(error))
            return AgentOutcome("fenced", str(error))
        except RpcFailed as error:
            _log.error("agent_refused", host_name=self._host_name, error=str(error))
            return AgentOutcome("refused", str(error))
        except ProducerClosed as error:
            # The server was away at the end: the last readings of a host are no loss to stop for.
            _log.warning("agent_stopped_unacknowledged", error=str(error))
        return AgentOutcome("stopped")

    async def _collect_and_send(self, producer: TelemetryProducer, stop: asyncio.Event) -> None:
        """Run both loops until `stop` is set or one of them ends with an error."""
        tasks = [
            asyncio.create_task(self._wait(stop)),
            asyncio.create_task(self._collect()),
            asyncio.create_task(self._send(producer)),
        ]
        try:
            await asyncio.wait(tasks, return_when=asyncio.FIRST_COMPLETED)
            for task in tasks:
                if task.done():
                    task.result()
        finally:
            for task in tasks:
                task.cancel()
            await asyncio.gather(*tasks, return_exceptions=True)

    @staticmethod
    async def _wait(stop: asyncio.Event) -> None:
        await stop.wait()

    async def _collect(self) -> None:
        # Usages are differences: the first reading only begins them.
        await asyncio.to_thread(self._collectors.collect)
        await asyncio.sleep(min(self._interval, _BASELINE_SECONDS))
        while True:
            self._hold(await asyncio.to_thread(self._collectors.collect))
            await asyncio.sleep(seconds_to_next_tick(self._wall_clock(), self._interval))

    def _hold(self, collection: Collection) -> None:
        self.collected_count += 1
        while len(self._held) >= self._max_held:
            self._held.popleft()
            self.dropped_count += 1
            if self.dropped_count == 1:
                _log.warning("agent_drops_collections", held=self._max_held)
        dropped = counter("agent_dropped_collections", float(self.dropped_count), "count", {})
        self._held.append(
            Collection(collection.time_unix_nanos, (*collection.samples, dropped)),
        )
        self._arrived.set()

    async def _send(self, producer: TelemetryProducer) -> None:
        while True:
            self._arrived.clear()
            await self._send_held(producer)
            await self._arrived.wait()

    async def _send_held(self, producer: TelemetryProducer) -> None:
        # One at a time: what waits stays here, where the oldest may be dropped.
        while self._held:
            records = self._held.popleft().records()
            acknowledgement = await producer.submit(records)
            if not acknowledgement.complete and not self._told_of_rejects:
                self._told_of_rejects = True
                verdict = next(iter(acknowledgement.verdicts), None)
                _log.warning(
                    "agent_samples_rejected",
                    rejected=acknowledgement.rejected_count,
                    refused_batches=len(acknowledgement.refusals),
                    first=str(verdict).replace("\n", " ") if verdict is not None else "",
                )


def seconds_to_next_tick(now: float, interval: float) -> float:
    """Give how long it is to the next multiple of the interval, so that nothing drifts.

    Args:
        now: Seconds since 1970.
        interval: Seconds. A twentieth of it before a multiple counts as behind it: a timer may fire
            a little early, and the tick it was for must not come twice.
    """
    tick = math.floor(now / interval + 0.05) + 1
    return tick * interval - now


async def run_agent(
    settings: Settings,
    stop: asyncio.Event,
    *,
    target: str | grpc.aio.Channel | None = None,
    lock_path: Path | None = None,
    owner: str = "agent",
) -> AgentOutcome:
    """Run this host's agent until `stop`, unless the host has one already.

    Args:
        settings: `agent_interval_seconds`, `agent_target` and `host_name` are used.
        stop: Ends it cleanly within a few seconds.
        target: The server, if not `agent_target`; `serve` gives its own address.
        lock_path: The lock file, if not the host's.
        owner: What to call this process in the lock file.

    Raises:
        StartupError: The lock file cannot be used.
    """
    path = lock_path if lock_path is not None else default_lock_path(settings.host_name)
    lock = HostLock.acquire(path, owner)
    if isinstance(lock, LockHeld):
        _log.warning("agent_not_started", holder=lock.holder, lock=str(lock.path))
        return AgentOutcome("lock_held", str(lock))
    with lock:
        agent = HostAgent(
            target if target is not None else settings.agent_target,
            settings.host_name,
            interval_seconds=settings.agent_interval_seconds,
        )
        _log.info("agent_started", host_name=settings.host_name)
        return await agent.run(stop)
