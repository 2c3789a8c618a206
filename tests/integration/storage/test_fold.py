"""The fold as a server runs it, and one that is killed in the middle of its statement."""

from __future__ import annotations

import asyncio
import random
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any

import asyncpg
import pytest
from google.protobuf.message import Message
from grpc import aio

from fernando_telemetry.domain.errors import DatabaseUnavailable
from fernando_telemetry.settings import Settings
from fernando_telemetry.storage.fold import Fold
from fernando_telemetry.storage.rollup import RollupTerms
from fernando_telemetry.storage.sessions import ControlPool
from tests.conftest import Serving, session_settings
from tests.integration.ingest.ingest_call import ingest, request
from tests.integration.ingest.locks import becomes
from tests.integration.queries.test_summarize_events import BOTH, made_up
from tests.integration.storage.test_span_rollup import made_up as made_up_spans

DELTAS = "SELECT count(*) FROM event_deltas"
BLOCKED = (
    "SELECT pid FROM pg_stat_activity WHERE $1 = ANY (pg_blocking_pids(pid))"
    " AND datname = current_database()"
)
SECONDS = 20.0


async def test_the_leader_folds_what_comes_in(
    settings: Settings, serving: Serving, connection: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    runs: asyncio.Queue[None] = asyncio.Queue()
    fold = Fold.fold

    async def told(self: Fold, now: datetime) -> None:
        await fold(self, now)
        runs.put_nowait(None)

    monkeypatch.setattr(Fold, "fold", told)
    monkeypatch.setattr("fernando_telemetry.upkeep.FOLD_INTERVAL_SECONDS", 0.05)
    async with serving(settings) as app, aio.insecure_channel(app.address) as channel:
        for number in range(3):
            await ingest(channel, request(*made_up(random.Random(number), 50)))
            while not runs.empty():
                runs.get_nowait()
            async with asyncio.timeout(SECONDS):
                # The first may have begun before the events were there.
                await runs.get()
                await runs.get()
            assert await connection.fetchval(DELTAS) == 0
            assert await connection.fetchval(BOTH) == 50 * (number + 1)


async def test_the_lag_is_a_metric_of_the_server(
    settings: Settings,
    serving: Serving,
    connection: Any,
    database: str,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr("fernando_telemetry.upkeep.FOLD_FIRST_AFTER_SECONDS", 3600.0)
    pool = ControlPool(session_settings(database), 1)
    fold = Fold(pool, session_settings(database), RollupTerms(30, 400))
    assert await fold.lag() == 0
    told = settings.model_copy(update={"health_interval_seconds": 0.1})
    async with serving(told) as app, aio.insecure_channel(app.address) as channel:
        await ingest(channel, request(*made_up(random.Random(1), 20)))
        age = await connection.fetchval(
            "SELECT extract(epoch FROM clock_timestamp() - max(flushed_at))::float8"
            " FROM event_deltas"
        )
        assert await fold.lag() > age
        await becomes(
            connection,
            "SELECT coalesce(max(value), 0) > 0.1 FROM metric_samples JOIN metric_series"
            " USING (series_id) WHERE metric_name = 'fold_lag'",
            value=True,
        )
    await fold.fold(datetime.now(UTC))
    assert await fold.lag() == 0
    await pool.close()


@dataclass(frozen=True)
class Folded:
    """A roll-up: records for it, its raw table, its own tables and what counts rows in them."""

    made_up: Callable[[random.Random, int], Sequence[Message]]
    raw: str
    table: str
    deltas: str
    count: str

    @property
    def both(self) -> str:
        """A query of how many rows are counted, folded or not."""
        sides = (f"SELECT {self.count} FROM {table}" for table in (self.table, self.deltas))
        return f"SELECT sum({self.count})::int8 FROM ({' UNION ALL '.join(sides)}) AS both_sides"


@pytest.mark.parametrize(
    "rollup",
    [
        Folded(made_up, "telemetry_events", "event_hours", "event_deltas", "event_count"),
        Folded(made_up_spans, "traces", "span_minutes", "span_deltas", "span_count"),
    ],
    ids=["events", "spans"],
)
async def test_a_session_killed_in_mid_statement_changes_nothing(
    settings: Settings,
    serving: Serving,
    connection: Any,
    database: str,
    monkeypatch: pytest.MonkeyPatch,
    rollup: Folded,
) -> None:
    monkeypatch.setattr("fernando_telemetry.upkeep.FOLD_FIRST_AFTER_SECONDS", 3600.0)
    pool = ControlPool(session_settings(database), 2)
    fold = Fold(pool, session_settings(database), RollupTerms(30, 400))
    chance = random.Random(4)
    raw, deltas = (f"SELECT count(*) FROM {table}" for table in (rollup.raw, rollup.deltas))
    async with serving(settings) as app, aio.insecure_channel(app.address) as channel:
        await ingest(channel, request(*rollup.made_up(chance, 200)))
        await fold.fold(datetime.now(UTC))
        await ingest(channel, request(*rollup.made_up(chance, 200)))
        unfolded = await connection.fetchval(deltas)
        holder = await asyncpg.connect(database)
        # Rows that the fold has to change, once it has deleted deltas and written new rows. Which
        # of them it comes to first changes with the hours that the test is about.
        await holder.execute(f"BEGIN; SELECT FROM {rollup.table} FOR UPDATE")
        folding = asyncio.create_task(fold.fold(datetime.now(UTC)))
        async with asyncio.timeout(SECONDS):
            while not (pid := await connection.fetchval(BLOCKED, holder.get_server_pid())):
                pass
        assert await connection.fetchval(rollup.both) == await connection.fetchval(raw) == 400
        assert await connection.fetchval("SELECT pg_terminate_backend($1, 20000)", pid)
        with pytest.raises(DatabaseUnavailable):
            await folding
        await holder.close()
        assert await connection.fetchval(rollup.both) == 400
        assert await connection.fetchval(deltas) == unfolded
        await fold.fold(datetime.now(UTC))
        assert await connection.fetchval(rollup.both) == 400
        assert await connection.fetchval(deltas) == 0
    await pool.close()
