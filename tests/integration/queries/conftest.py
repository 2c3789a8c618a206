"""The services that answer lists, on the test's own database."""

from __future__ import annotations

from collections.abc import AsyncIterator
from datetime import UTC, datetime

import pytest

from fernando_telemetry.domain.calendar import midnight
from fernando_telemetry.queries.events import EventQueries
from fernando_telemetry.queries.metrics import MetricQueries
from fernando_telemetry.queries.traces import TraceQueries
from fernando_telemetry.storage.sessions import ReaderPool
from fernando_telemetry.transport.event_servicer import EventService
from fernando_telemetry.transport.metric_servicer import MetricService
from fernando_telemetry.transport.trace_servicer import TraceService
from tests.conftest import session_settings


@pytest.fixture
async def readers(database: str) -> AsyncIterator[ReaderPool]:
    pool = ReaderPool(session_settings(database), 4)
    yield pool
    await pool.close()


@pytest.fixture
def events(readers: ReaderPool) -> EventService:
    return EventService(EventQueries(readers))


@pytest.fixture
def metrics(readers: ReaderPool) -> MetricService:
    return MetricService(MetricQueries(readers))


@pytest.fixture
def traces(readers: ReaderPool) -> TraceService:
    return TraceService(TraceQueries(readers))


@pytest.fixture
def today() -> datetime:
    """The start of a day whose partitions exist."""
    return midnight(datetime.now(UTC))
