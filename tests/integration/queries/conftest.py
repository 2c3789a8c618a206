"""The services that answer lists, on the test's own database."""

from __future__ import annotations

from datetime import UTC, datetime

import pytest

from fernando_telemetry.domain.calendar import midnight
from fernando_telemetry.queries.events import EventQueries
from fernando_telemetry.queries.metrics import MetricQueries
from fernando_telemetry.queries.tails import Tails
from fernando_telemetry.queries.traces import TraceQueries
from fernando_telemetry.storage.notices import CommitListener
from fernando_telemetry.storage.sessions import ReaderPool
from fernando_telemetry.storage.snapshots import Snapshots
from fernando_telemetry.transport.converters.event import tailed_event
from fernando_telemetry.transport.event_servicer import EventService
from fernando_telemetry.transport.metric_servicer import MetricService
from fernando_telemetry.transport.trace_servicer import TraceService
from tests.conftest import session_settings


@pytest.fixture
def snapshots(readers: ReaderPool) -> Snapshots:
    return Snapshots(readers, 0.5)


@pytest.fixture
def events(snapshots: Snapshots, readers: ReaderPool, database: str) -> EventService:
    tails = Tails(
        readers,
        CommitListener(session_settings(database)),
        tailed_event,
        most_tails=1,
        events_per_second=1,
    )
    return EventService(EventQueries(snapshots, 400), tails)


@pytest.fixture
def metrics(snapshots: Snapshots) -> MetricService:
    return MetricService(MetricQueries(snapshots, None))


@pytest.fixture
def traces(snapshots: Snapshots) -> TraceService:
    return TraceService(TraceQueries(snapshots))


@pytest.fixture
def today() -> datetime:
    """The start of a day whose partitions exist."""
    return midnight(datetime.now(UTC))
