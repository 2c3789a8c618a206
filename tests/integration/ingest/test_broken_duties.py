"""A duty that meets what nobody foresaw: ingest goes on, it is told, and it is mended in place."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass
from datetime import timedelta
from typing import Any

import pytest
from grpc import aio

from fernando.telemetry import v1
from fernando_telemetry.app import Application
from fernando_telemetry.ingest.own_metrics import OwnMetrics
from fernando_telemetry.settings import Settings
from tests.conftest import Serving
from tests.integration.ingest.ingest_call import IngestCall
from tests.integration.ingest.locks import becomes
from tests.integration.ingest.records import event, now, span, stamp
from tests.integration.storage.partition_rows import indexes_of, wanted
from tests.integration.transport.server_log import ServerLog

SECONDS = 30.0
REFUSING = """
CREATE FUNCTION refuse() RETURNS trigger LANGUAGE plpgsql AS
$$BEGIN RAISE EXCEPTION 'refused by a test'; END$$
"""


@dataclass
class Broken:
    """A server that goes on with a duty that fails."""

    server: Application
    channel: aio.Channel
    stream: IngestCall
    log: ServerLog
    sequence: int = 0

    async def ack(self) -> None:
        """Have a batch committed, with an event and a span."""
        self.sequence += 1
        committed = await self.stream.commit(self.sequence, event(), span())
        assert committed.accepted_count == 2

    async def ack_until_failed(self, duty: str, count: int) -> None:
        """Have batches committed until a duty has failed so often."""
        async with asyncio.timeout(SECONDS):
            while self.failures(duty) < count:
                await self.ack()
        await self.ack()

    def failures(self, duty: str) -> int:
        """Count the failures of a duty in the log; each has its traceback."""
        entries = [entry for entry in self.log.named("duty_failed") if entry["duty"] == duty]
        assert all(isinstance(entry["exc_info"], Exception) for entry in entries)
        return len(entries)

    async def problem(self) -> str:
        """Ask the server for its last problem."""
        stub: Any = v1.AdminServiceStub(self.channel)
        info = await stub.GetServerInfo(v1.GetServerInfoRequest(), timeout=SECONDS)
        problem: str = info.last_problem
        return problem

    async def require_alive(self) -> None:
        """Fail where the server has given up."""
        with pytest.raises(TimeoutError):
            await asyncio.wait_for(self.server.wait_failed(), 0.01)
        assert not self.log.named("loop_ended")


@asynccontextmanager
async def going_on(
    serving: Serving, settings: Settings, log: ServerLog, **changed: object
) -> AsyncIterator[Broken]:
    log.may_break = True
    async with (
        serving(settings.model_copy(update=changed)) as server,
        aio.insecure_channel(server.address) as channel,
        IngestCall(channel) as stream,
    ):
        await stream.welcome()
        broken = Broken(server, channel, stream, log)
        yield broken
        await broken.require_alive()
        await broken.ack()
        await stream.end()


@pytest.fixture(autouse=True)
def soon(monkeypatch: pytest.MonkeyPatch) -> None:
    """Pauses behind faults are shorter: they double from 50 ms."""
    monkeypatch.setattr("fernando_telemetry.storage.duties.FIRST_PAUSE_SECONDS", 0.05)
    monkeypatch.setattr("fernando_telemetry.upkeep.FOLD_INTERVAL_SECONDS", 0.05)


async def test_a_roll_up_that_cannot_be_folded(
    settings: Settings, serving: Serving, connection: Any, server_log: ServerLog
) -> None:
    await connection.execute(REFUSING)
    await connection.execute(
        "CREATE TRIGGER refuse BEFORE INSERT ON event_hours FOR EACH ROW EXECUTE FUNCTION refuse()"
    )
    async with going_on(serving, settings, server_log, health_interval_seconds=0.1) as broken:
        await broken.ack_until_failed("fold_deltas", 3)
        assert "fold_deltas failed (ExceptionGroup)" in await broken.problem()
        assert await connection.fetchval("SELECT count(*) FROM event_deltas") > 0
        # The other roll-ups are folded all the same.
        await becomes(connection, "SELECT count(*) FROM span_deltas", 0)
        told = (
            "SELECT max(value) >= 3 FROM metric_samples JOIN metric_series USING (series_id)"
            " WHERE metric_name = 'duty_failures' AND labels ->> 'duty' = '{}'"
        )
        await becomes(connection, told.format("fold_deltas"), value=True)
        await becomes(connection, told.format("sealing"), value=False)
        await connection.execute("DROP TRIGGER refuse ON event_hours")
        await becomes(connection, "SELECT count(*) FROM event_deltas", 0)
        stored = await connection.fetchval("SELECT count(*) FROM telemetry_events")
        counted = await connection.fetchval("SELECT sum(event_count)::int8 FROM event_hours")
        assert stored == counted == broken.sequence


async def test_a_partition_that_cannot_be_sealed(
    settings: Settings, serving: Serving, connection: Any, server_log: ServerLog
) -> None:
    """The name of an index is taken; partitions beside it are sealed."""
    days = [now() - timedelta(ago) for ago in (3, 2)]
    first, second = (f"telemetry_events_p{day:%Y%m%d}" for day in days)
    taken = f"{first}_{next(name for name in wanted('full') if name not in wanted('lean'))}"
    async with going_on(serving, settings, server_log, seal_grace_seconds=0.05) as broken:
        await connection.execute(f"CREATE SEQUENCE {taken}")
        await broken.stream.commit(1, *(event(event_timestamp=stamp(day)) for day in days))
        broken.sequence = 1
        await broken.ack_until_failed("sealing", 1)
        mark = "SELECT obj_description('{}'::regclass) LIKE 'sealed%'"
        await becomes(connection, mark.format(second), value=True)
        assert await indexes_of(connection, second) == wanted("full")
        await connection.execute(f"DROP SEQUENCE {taken}")
        await becomes(connection, mark.format(first), value=True)
        assert await indexes_of(connection, first) == wanted("full")


async def test_a_loop_that_breaks_is_begun_anew(
    settings: Settings, serving: Serving, connection: Any, server_log: ServerLog
) -> None:
    """Policies whose table is gone: what was known holds on, and it is found again."""
    async with going_on(serving, settings, server_log, retention_refresh_seconds=0.05) as broken:
        await connection.execute("ALTER TABLE retention_policies RENAME TO mislaid")
        await broken.ack_until_failed("retention", 3)
        assert "retention failed (UndefinedTableError)" in await broken.problem()
        await connection.execute("ALTER TABLE mislaid RENAME TO retention_policies")
        await connection.execute("INSERT INTO retention_policies VALUES ('event', '', 2)")
        old = event(event_timestamp=stamp(now() - timedelta(4)))
        async with asyncio.timeout(SECONDS):
            while True:
                broken.sequence += 1
                if (await broken.stream.commit(broken.sequence, old)).rejected_count:
                    break


async def test_a_clean_up_goes_past_a_partition_that_refuses(
    settings: Settings, serving: Serving, connection: Any, server_log: ServerLog
) -> None:
    """Rows of one licence cannot be deleted from one day; other days and kinds are cleaned."""
    days = [now() - timedelta(ago) for ago in (4, 3)]
    async with going_on(serving, settings, server_log, retention_interval_seconds=0.05) as broken:
        await broken.stream.commit(
            1,
            *(event(event_timestamp=stamp(day), license_id="short") for day in days),
            *(span(start_time=stamp(day), license_id="short") for day in days),
        )
        broken.sequence = 1
        refusing = f"telemetry_events_p{days[0]:%Y%m%d}"
        await connection.execute(REFUSING)
        await connection.execute(
            f"CREATE TRIGGER refuse BEFORE DELETE ON {refusing}"
            " FOR EACH ROW EXECUTE FUNCTION refuse()"
        )
        await connection.execute(
            "INSERT INTO retention_policies VALUES ('event', 'short', 1), ('span', 'short', 1)"
        )
        await broken.ack_until_failed("apply_retention", 2)
        left = "SELECT count(*) FROM {} WHERE license_id = 'short'"
        await becomes(connection, left.format("traces"), 0)
        await becomes(connection, left.format("telemetry_events"), 1)
        await connection.execute(f"DROP TRIGGER refuse ON {refusing}")
        await becomes(connection, left.format("telemetry_events"), 0)


async def test_a_metric_that_cannot_be_had_costs_no_other(
    server: Application, connection: Any, server_log: ServerLog
) -> None:
    server_log.may_break = True

    async def known() -> int:
        return 7

    async def unknown() -> float:
        return float(await connection.fetchval("SELECT 1 FROM never_there"))

    assert server._ingest is not None
    own = OwnMetrics(server._ingest, known, known, unknown, {}, "host", 1)
    for _ in range(2):
        records = await own.collect()
        values = {one.metric_name: one.metric_value for one in records.system_metrics}
        assert values["unsealed_partitions"] == values["database_bytes"] == 7
        assert "fold_lag" not in values
    assert len(server_log.named("own_metric_unknown")) == 1
