"""The guide's SQLAlchemy snippets on records that came by the service, and refused writes."""

from __future__ import annotations

import json
from collections.abc import AsyncIterator
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
from grpc import aio
from sqlalchemy import create_engine, delete, insert, select, text, update
from sqlalchemy.exc import InternalError
from sqlalchemy.orm import Session

from fernando_telemetry import orm
from fernando_telemetry.orm import READ_ONLY, BusinessMetric, SystemMetric, TelemetryEvent, Trace
from tests.integration.ingest.ingest_call import ingest, request
from tests.integration.ingest.records import span
from tests.integration.queries.guide_records import KPI_ZONE, events, kpis, samples

CLASSES = [one for one in vars(orm).values() if hasattr(one, "__tablename__")]


@pytest.fixture
async def db(database: str, channel: aio.Channel) -> AsyncIterator[Session]:
    """A session on a database with records of all kinds."""
    now = datetime.now(UTC)
    for records in (events(now), samples(now), kpis(now.astimezone(KPI_ZONE).date()), [span()]):
        answer = await ingest(channel, request(*records))
        assert not answer.result.verdicts
    engine = create_engine(database, connect_args=READ_ONLY)
    with Session(engine) as session:
        yield session
    engine.dispose()


@pytest.mark.parametrize("of", CLASSES, ids=lambda of: of.__name__)
async def test_every_column_of_the_database_is_there(connection: Any, of: Any) -> None:
    found = await connection.prepare(f"SELECT * FROM {of.__tablename__}")
    names = {column.name for column in found.get_attributes()}
    # The server's own.
    assert set(of.__table__.columns.keys()) == names - {"shard", "flush_id", "ordinal"}


@pytest.mark.parametrize("of", CLASSES, ids=lambda of: of.__name__)
async def test_every_class_reads(db: Session, of: Any) -> None:
    rows = db.query(of).all()
    assert rows or of is orm.AlertsStatusSummary
    for row in rows:
        assert list(row.to_dict()) == list(of.__table__.columns.keys())


async def test_recent_events_of_a_user(db: Session) -> None:
    user_id = "user-3"
    # As the guide has it: a time without a zone, meant as UTC.
    since = datetime.now(UTC).replace(tzinfo=None) - timedelta(days=7)
    found = (
        db.query(TelemetryEvent)
        .filter(TelemetryEvent.user_id == user_id, TelemetryEvent.event_timestamp >= since)
        .order_by(TelemetryEvent.event_timestamp.desc())
        .limit(100)
        .all()
    )
    sent = [one for one in events(datetime.now(UTC)) if one.user_id == user_id]
    assert [one.event_data["place"] for one in found] == [
        json.loads(one.event_data)["place"] for one in sent
    ]
    assert {one.user_id for one in found} == {user_id}


async def test_export_to_a_warehouse(db: Session) -> None:
    warehouse: dict[str, list[dict[str, Any]]] = {}

    def save_to_warehouse(name: str, rows: list[dict[str, Any]]) -> None:
        warehouse[name] = rows

    start_date, end_date = datetime.now(UTC) - timedelta(days=1), datetime.now(UTC)
    found = (
        db.query(TelemetryEvent)
        .filter(TelemetryEvent.event_timestamp.between(start_date, end_date))
        .all()
    )
    metrics = (
        db.query(SystemMetric)
        .filter(SystemMetric.metric_timestamp.between(start_date, end_date))
        .all()
    )
    save_to_warehouse("events", [event.to_dict() for event in found])
    save_to_warehouse("metrics", [metric.to_dict() for metric in metrics])

    (counted,) = db.execute(
        text("SELECT count(*) FROM telemetry_events WHERE event_timestamp BETWEEN :a AND :b"),
        {"a": start_date, "b": end_date},
    ).one()
    assert len(warehouse["events"]) == counted > 100
    assert len(warehouse["metrics"]) == len(samples(end_date))
    row = warehouse["metrics"][0]
    assert isinstance(row["metric_value"], float)
    assert isinstance(row["metric_timestamp"], datetime)


async def test_conditions_on_words_and_payloads(db: Session) -> None:
    of_type = select(TelemetryEvent).where(TelemetryEvent.event_type == "user_action")
    assert {one.event_type for one in db.scalars(of_type)} == {"user_action"}
    of_payload = select(TelemetryEvent).where(TelemetryEvent.event_data.contains({"place": 7}))
    assert [one.event_name for one in db.scalars(of_payload)] == ["name-2"]
    assert db.scalars(select(Trace)).one().service_name == span().service_name
    assert db.query(BusinessMetric).filter(BusinessMetric.metric_value > 0).count() > 0


async def test_writes_are_refused(db: Session) -> None:
    event = db.query(TelemetryEvent).first()
    assert event is not None

    db.add(SystemMetric(metric_name="x"))
    with pytest.raises(orm.ReadOnlyError, match=r"^SystemMetric can only be read"):
        db.flush()
    db.rollback()

    event.event_name = "changed"
    with pytest.raises(orm.ReadOnlyError, match=r"^TelemetryEvent can only be read"):
        db.flush()
    db.rollback()

    db.delete(event)
    with pytest.raises(orm.ReadOnlyError, match=r"^TelemetryEvent can only be read"):
        db.flush()
    db.rollback()

    for statement in (
        delete(TelemetryEvent),
        update(TelemetryEvent).values(event_name="changed"),
        insert(TelemetryEvent).values(event_name="new"),
    ):
        with pytest.raises(orm.ReadOnlyError, match=r"^TelemetryEvent can only be read"):
            db.execute(statement)
    with pytest.raises(orm.ReadOnlyError):
        db.query(TelemetryEvent).delete()
    # Past the classes it is PostgreSQL that refuses.
    with pytest.raises(InternalError, match="read-only transaction"):
        db.execute(text("DELETE FROM telemetry_events"))
