"""TailEvents: every event once, whichever server took it; slow clients, cursors, ends."""

from __future__ import annotations

import asyncio
from collections import Counter
from collections.abc import AsyncIterator, Iterable
from contextlib import asynccontextmanager
from typing import Any

import asyncpg
import pytest
from grpc import StatusCode, aio

from fernando.telemetry.v1 import (
    Event,
    EventServiceStub,
    EventType,
    IngestServiceStub,
    IngestTelemetryRequest,
    TailEventsRequest,
    TailEventsResponse,
    TelemetryRecords,
)
from fernando_telemetry.app import Application
from fernando_telemetry.domain.errors import QueryTooExpensive
from fernando_telemetry.domain.filter_columns import EVENT_COLUMNS
from fernando_telemetry.domain.filters import parse
from fernando_telemetry.settings import Settings
from fernando_telemetry.storage.event_tail import TailedEvents
from tests.conftest import Serving
from tests.integration.transport.failures import failure, failure_of

TIMEOUT_SECONDS = 60.0
MIB = 1024 * 1024


class Tail:
    """One open tail, with what it has seen so far."""

    def __init__(self, channel: aio.Channel, **fields: Any) -> None:
        request = TailEventsRequest(**fields)
        self.call = EventServiceStub(channel).TailEvents(request, timeout=TIMEOUT_SECONDS)
        self.names: list[str] = []
        self.dropped = 0
        self.cursor = ""

    async def message(self) -> TailEventsResponse:
        """Read the next message."""
        message = await self.call.read()
        assert isinstance(message, TailEventsResponse), "the tail has ended"
        self.names += [event.event_name for event in message.events]
        self.dropped += message.dropped_count
        self.cursor = message.cursor
        return message

    async def until(self, count: int) -> list[str]:
        """Read until so many events have come or were dropped."""
        while len(self.names) + self.dropped < count:
            await self.message()
        return self.names


@asynccontextmanager
async def tail(app: Application, **fields: Any) -> AsyncIterator[Tail]:
    """Open a tail and wait for its first message."""
    async with aio.insecure_channel(app.address) as channel:
        opened = Tail(channel, **fields)
        await opened.message()
        yield opened
        opened.call.cancel()


def event(name: str, **fields: Any) -> Event:
    return Event(event_type=EventType.EVENT_TYPE_USER_ACTION, event_name=name, **fields)


async def ingest(app: Application, events: Iterable[Event]) -> None:
    """Commit events, in one batch."""
    async with aio.insecure_channel(app.address) as channel:
        request = IngestTelemetryRequest(records=TelemetryRecords(events=events))
        answer = await IngestServiceStub(channel).IngestTelemetry(request, timeout=TIMEOUT_SECONDS)
        assert answer.result.rejected_count == 0


async def test_events_of_either_server_come_once_to_tails_of_both(
    settings: Settings, serving: Serving, tmp_path: Any
) -> None:
    other = settings.model_copy(update={"data_dir": tmp_path / "other"})
    async with (
        serving(settings) as one,
        serving(other) as two,
        tail(one) as first,
        tail(two) as second,
    ):
        wanted = []
        for number in range(40):
            names = [f"{number}.{index}" for index in range(5)]
            wanted += names
            # At once, so that flushes of all lanes interleave.
            await asyncio.gather(
                ingest(one, map(event, names[:3])), ingest(two, map(event, names[3:]))
            )
        for opened in (first, second):
            assert Counter(await opened.until(len(wanted))) == Counter(wanted)
            assert opened.dropped == 0


async def test_what_was_there_before_does_not_come(server: Application) -> None:
    await ingest(server, [event("before")])
    async with tail(server) as opened:
        await ingest(server, [event("after")])
        assert await opened.until(1) == ["after"]


async def test_each_tail_has_its_own_filter(server: Application) -> None:
    events = [
        event(f"e{number}", license_id=f"l{number % 3}", event_data=f'{{"n": {number}}}')
        for number in range(30)
    ]
    async with (
        tail(server, filter="license_id = l1") as of_license,
        tail(server, filter="event_data.n = 7") as of_payload,
        tail(server, filter="license_id = absent") as of_none,
        tail(server) as of_all,
    ):
        await ingest(server, events)
        assert len(await of_all.until(30)) == 30
        assert sorted(await of_license.until(10)) == sorted(f"e{n}" for n in range(1, 30, 3))
        assert await of_payload.until(1) == ["e7"]
        await ingest(server, [event("last", license_id="absent")])
        assert await of_none.until(1) == ["last"]


async def test_events_come_whole_and_in_the_order_of_commits(server: Application) -> None:
    async with tail(server) as opened:
        for number in range(20):
            await ingest(server, [event(f"e{number:02}", user_id="u1", tags=["a"])])
        assert await opened.until(20) == [f"e{number:02}" for number in range(20)]
    async with tail(server) as opened:
        await ingest(server, [event("x", user_id="u1", tags=["a"], event_data='{"k": 1}')])
        message = await opened.message()
        (found,) = message.events
        assert (found.user_id, list(found.tags), found.event_data) == ("u1", ["a"], '{"k": 1}')
        assert found.event_id
        assert found.HasField("ingested_at")


async def test_a_cursor_goes_on_after_a_restart_without_loss_or_repeat(
    settings: Settings, serving: Serving
) -> None:
    async with serving(settings) as app, tail(app) as opened:
        await ingest(app, [event("one"), event("two")])
        await opened.until(2)
        cursor = opened.cursor
        await ingest(app, [event("three")])
    async with serving(settings) as app:
        await ingest(app, [event("four")])
        async with tail(app, cursor=cursor) as opened:
            await ingest(app, [event("five")])
            assert await opened.until(3) == ["three", "four", "five"]
            # Level by now: it shares its position with a tail that began later.
            async with tail(app) as later:
                await ingest(app, [event("six")])
                assert await later.until(1) == ["six"]
                assert await opened.until(4) == ["three", "four", "five", "six"]


async def test_many_steps_behind_all_come(server: Application) -> None:
    """A cursor from before 6,000 events of many commits, while others are added."""
    async with tail(server) as opened:
        cursor = opened.cursor
    wanted = []
    for number in range(12):
        names = [f"{number}.{index}" for index in range(500)]
        wanted += names
        await ingest(server, map(event, names))
    async with tail(server, cursor=cursor) as opened, tail(server, cursor=cursor) as other:
        await ingest(server, [event("last")])
        for one in (opened, other):
            assert Counter(await one.until(len(wanted) + 1)) == Counter([*wanted, "last"])
            assert one.dropped == 0


async def test_a_slow_client_is_told_what_it_lost(server: Application) -> None:
    """24 MiB while nobody reads; then every event has come or is counted, and the next comes."""
    payload = '{"text": "%s"}' % ("x" * 100_000)
    async with tail(server) as slow:
        for number in range(12):
            await ingest(
                server, [event(f"{number}.{index}", event_data=payload) for index in range(20)]
            )
        names = await slow.until(240)
        assert len(names) + slow.dropped == 240
        assert slow.dropped > 0
        assert len(set(names)) == len(names)
        await ingest(server, [event("next")])
        assert (await slow.until(241))[-1] == "next"


async def test_a_message_is_no_larger_than_clients_take(server: Application) -> None:
    payload = '{"text": "%s"}' % ("x" * 200_000)
    async with tail(server) as opened:
        await ingest(server, [event(f"e{n}", event_data=payload) for n in range(30)])
        message = await opened.message()
        assert 2 * MIB < message.ByteSize() <= 4 * MIB
        assert len(message.events) + message.dropped_count == 30


async def test_more_than_its_rate_is_dropped_and_counted(server: Application) -> None:
    async with tail(server, max_events_per_second=10) as opened, tail(server) as free:
        await ingest(server, [event(f"e{number}") for number in range(100)])
        assert len(await free.until(100)) == 100
        await opened.until(100)
        assert len(opened.names) == 10
        assert opened.dropped == 90


@pytest.mark.parametrize("text", ["", "user_id = u1"])
async def test_more_than_the_server_reads_is_dropped_and_counted(
    settings: Settings, serving: Serving, text: str
) -> None:
    slow = settings.model_copy(update={"tail_events_per_second": 50})
    async with serving(slow) as app, tail(app, filter=text) as opened:
        await ingest(app, [event(f"e{number}", user_id="u1") for number in range(500)])
        await opened.until(500)
        assert 50 <= len(opened.names) <= 100
        assert len(opened.names) + opened.dropped == 500


async def test_drain_ends_it_with_what_it_has_and_its_cursor(
    settings: Settings, serving: Serving
) -> None:
    async with serving(settings) as running, aio.insecure_channel(running.address) as channel:
        opened = Tail(channel)
        await opened.message()
        await ingest(running, [event("one")])
        await opened.until(1)
        stopping = asyncio.create_task(running.stop())
        last = await opened.message()
        assert last.cursor
        with pytest.raises(aio.AioRpcError) as caught:
            await opened.message()
        found = failure_of(caught.value)
        assert (found.code, found.reason) == (StatusCode.UNAVAILABLE, "DRAINING")
        assert found.retry_after_seconds is not None
        await stopping


async def test_error_cursor_invalid(server: Application, channel: aio.Channel) -> None:
    found = await failure(Tail(channel, cursor="nonsense").message())
    assert (found.code, found.reason) == (StatusCode.INVALID_ARGUMENT, "CURSOR_INVALID")
    assert found.metadata == {"field": "cursor"}


async def test_error_cursor_too_old(
    server: Application, channel: aio.Channel, connection: Any
) -> None:
    async with tail(server) as opened, tail(server) as level:
        cursor = opened.cursor
        await ingest(server, [event("pruned")])
        await opened.until(1)
        await level.until(1)
        await connection.execute("UPDATE lanes SET pruned_through = 1 << 30")
        await connection.execute("DELETE FROM flushes")
        found = await failure(Tail(channel, cursor=cursor).message())
        assert (found.code, found.reason) == (StatusCode.OUT_OF_RANGE, "CURSOR_TOO_OLD")


async def test_a_filter_that_is_wrong_is_refused(channel: aio.Channel) -> None:
    found = await failure(Tail(channel, filter="no_such_column = 1").message())
    assert (found.code, found.reason) == (StatusCode.INVALID_ARGUMENT, "INVALID_FILTER")


async def test_too_many_tails_are_refused_until_one_has_gone(
    settings: Settings, serving: Serving
) -> None:
    few = settings.model_copy(update={"tails": 2})
    async with serving(few) as app, aio.insecure_channel(app.address) as channel:
        async with tail(app), tail(app):
            found = await failure(Tail(channel).message())
            assert (found.code, found.reason) == (StatusCode.RESOURCE_EXHAUSTED, "OVERLOADED")
            assert found.retry_after_seconds is not None
        # The server hears of the calls' end a moment later.
        async with asyncio.timeout(TIMEOUT_SECONDS):
            while not await _begins(Tail(channel)):
                pass


async def test_calls_that_come_and_go_leave_nothing(settings: Settings, serving: Serving) -> None:
    """A hundred calls after each other where two are allowed, each gone before the next."""
    few = settings.model_copy(update={"tails": 2})
    async with serving(few) as app, aio.insecure_channel(app.address) as channel:
        async with tail(app) as lasting:
            for number in range(100):
                opened = Tail(channel, filter=f"user_id = u{number}")
                async with asyncio.timeout(TIMEOUT_SECONDS):
                    while not await _begins(opened):
                        opened = Tail(channel, filter=f"user_id = u{number}")
                if number % 10 == 0:
                    await ingest(app, [event(f"e{number}", user_id=f"u{number}")])
                    assert await opened.until(1) == [f"e{number}"]
                opened.call.cancel()
            assert len(await lasting.until(10)) == 10
        assert not [task for task in asyncio.all_tasks() if "follow" in repr(task.get_coro())]


async def _begins(opened: Tail) -> bool:
    """Tell whether a tail begins; the server hears of the end of one before it a moment later."""
    try:
        await opened.message()
    except aio.AioRpcError as error:
        if failure_of(error).reason != "OVERLOADED":
            raise
        return False
    return True


async def test_a_filter_that_takes_too_long_ends_its_tails_only(
    settings: Settings, serving: Serving, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Several filters are read for at once; one that runs past the time-out is found among them."""
    read, guilty = TailedEvents.read, parse("user_id = slow", EVENT_COLUMNS)

    async def slow(self: Any, connection: Any, flushes: Any, filters: Any, *rest: Any) -> list[int]:
        if flushes and guilty in [conditions for conditions, _ in filters]:
            raise QueryTooExpensive("The query ran past its time-out.")
        return await read(self, connection, flushes, filters, *rest)

    monkeypatch.setattr(TailedEvents, "read", slow)
    async with (
        serving(settings) as app,
        tail(app) as of_all,
        tail(app, filter="user_id = u1") as of_user,
        tail(app, filter="user_id = slow") as of_slow,
        tail(app, filter="user_id = slow") as of_slow_too,
    ):
        await ingest(app, [event("one", user_id="u1")])
        for opened in (of_slow, of_slow_too):
            found = await failure(opened.until(1))
            assert (found.code, found.reason) == (
                StatusCode.RESOURCE_EXHAUSTED,
                "QUERY_TOO_EXPENSIVE",
            )
        await ingest(app, [event("two", user_id="u1")])
        assert await of_all.until(2) == await of_user.until(2) == ["one", "two"]


async def test_events_come_when_no_notice_does(server: Application, connection: Any) -> None:
    """Whoever misses a notice looks by itself."""
    async with tail(server) as opened:
        await _end_sessions(connection, "listener")
        await ingest(server, [event("one")])
        assert await opened.until(1) == ["one"]


async def test_a_lost_session_ends_tails_and_their_cursor_goes_on(
    server: Application, database: str, connection: Any
) -> None:
    async with tail(server) as opened:
        watching = await asyncpg.connect(database)
        async with connection.transaction():
            await connection.execute("LOCK TABLE flushes IN ACCESS EXCLUSIVE MODE")
            await _end_sessions(watching, "tail", "wait_event_type = 'Lock'")
            found = await failure(opened.until(1))
        await watching.close()
        assert (found.code, found.reason) == (StatusCode.UNAVAILABLE, "DATABASE_UNAVAILABLE")
    await ingest(server, [event("one")])
    async with tail(server, cursor=opened.cursor) as again:
        assert await again.until(1) == ["one"]


async def test_nothing_is_left_when_the_client_has_gone(
    server: Application, connection: Any
) -> None:
    """The session that listens ends with the last tail."""
    async with tail(server), tail(server, filter="user_id = u1"):
        pass
    async with asyncio.timeout(TIMEOUT_SECONDS):
        while await connection.fetchval(f"SELECT count(*) {_SESSIONS}", "listener"):
            pass


_SESSIONS = """FROM pg_stat_activity WHERE datname = current_database()
    AND application_name = 'fernando-telemetry ' || $1::text"""


async def _end_sessions(connection: Any, role: str, state: str = "true") -> None:
    """End the server's sessions of a role, once there are some in the state."""
    statement = f"SELECT pg_terminate_backend(pid) {_SESSIONS} AND {state}"
    async with asyncio.timeout(TIMEOUT_SECONDS):
        while not await connection.fetch(statement, role):
            pass
