"""Rows that PostgreSQL refuses are looked for while sessions are lost."""

from __future__ import annotations

from typing import Any

import pytest
from grpc import aio

from fernando.telemetry.v1 import VerdictReason
from tests.integration.ingest.ingest_call import IngestCall, ingest, request
from tests.integration.ingest.records import event, span
from tests.integration.transport.server_log import ServerLog

# Ends the writer's session at its nth COPY, and never again: a sequence is not rolled back.
ENDS_AT = """
CREATE SEQUENCE copies;
CREATE FUNCTION end_session() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
    IF nextval('copies') = {number} THEN PERFORM pg_terminate_backend(pg_backend_pid()); END IF;
    RETURN NULL;
END $$;
CREATE TRIGGER ends BEFORE INSERT ON {table}
    FOR EACH STATEMENT EXECUTE FUNCTION end_session();
"""
REFUSES = "ALTER TABLE {} ADD CONSTRAINT refuses CHECK ({} <> 'refused')"
REFUSED = VerdictReason.VERDICT_REASON_REFUSED_BY_DATABASE


@pytest.mark.parametrize(
    ("table", "number"),
    [*(("telemetry_events", n) for n in range(1, 7)), *(("traces", n) for n in range(1, 5))],
)
async def test_a_session_lost_while_refused_rows_are_isolated(
    channel: aio.Channel, connection: Any, server_log: ServerLog, table: str, number: int
) -> None:
    await connection.execute(REFUSES.format("telemetry_events", "event_name"))
    await connection.execute(REFUSES.format("traces", "operation_name"))
    await connection.execute(ENDS_AT.format(table=table, number=number))
    records = [*map(event, "ab"), event("refused"), event("c"), span("refused"), span("d")]
    async with IngestCall(channel) as stream:
        await stream.welcome()
        committed = await stream.commit(1, *records)
        await stream.end()
    assert await connection.fetchval("SELECT last_value FROM copies") >= number
    assert server_log.named("flush_retried")
    verdicts = sorted((one.kind, one.index, one.reason) for one in committed.verdicts)
    assert verdicts == [(1, 2, REFUSED), (4, 0, REFUSED)]
    assert (committed.accepted_count, committed.rejected_count) == (4, 2)
    events = await connection.fetch("SELECT event_name FROM telemetry_events ORDER BY 1")
    assert [row["event_name"] for row in events] == ["a", "b", "c"]
    assert await connection.fetchval("SELECT array_agg(operation_name) FROM traces") == ["d"]


async def test_a_flush_refused_for_no_row_of_its_own_ends_at_once(
    channel: aio.Channel, connection: Any
) -> None:
    """It is not tried for ever: other writers commit, so its batches would never be overdue."""
    await connection.execute("ALTER TABLE flushes ADD CONSTRAINT refuses CHECK (event_count <> 2)")
    with pytest.raises(aio.AioRpcError) as caught:
        await ingest(channel, request(event(), event()))
    assert caught.value.code().name == "UNAVAILABLE"
    assert (await ingest(channel, request(event()))).result.accepted_count == 1


async def test_verdicts_of_the_database_stand_in_their_order_and_alone(
    channel: aio.Channel, connection: Any
) -> None:
    """One a record, by kind and index; what is not stored is not adjusted either."""
    await connection.execute(REFUSES.format("telemetry_events", "event_name"))
    adjusted = event("refused", source_ip="no address")
    answer = await ingest(channel, request(adjusted, event(""), event("a"), event("refused")))
    result = answer.result
    missing = VerdictReason.VERDICT_REASON_FIELD_MISSING
    verdicts = [(one.index, one.reason, one.kept) for one in result.verdicts]
    assert verdicts == [(0, REFUSED, False), (1, missing, False), (3, REFUSED, False)]
    counts = (result.accepted_count, result.rejected_count, result.adjusted_count)
    assert counts == (1, 3, 0)
