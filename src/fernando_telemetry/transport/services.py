"""All services of the contract and how each is registered with a server."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from typing import Any, Final

from grpc import aio

from fernando.telemetry import v1
from fernando.telemetry.v1 import (
    alert_rule_service_pb2,
    alert_service_pb2,
    notification_channel_service_pb2,
)
from fernando_telemetry.ingest.service import IngestService
from fernando_telemetry.queries.events import EventQueries
from fernando_telemetry.queries.export import ExportQueries
from fernando_telemetry.queries.metrics import MetricQueries
from fernando_telemetry.queries.tails import Tails
from fernando_telemetry.queries.traces import TraceQueries
from fernando_telemetry.transport.absent import absent_servicer
from fernando_telemetry.transport.event_servicer import EventService
from fernando_telemetry.transport.export_servicer import ExportService
from fernando_telemetry.transport.ingest_servicer import IngestServicer
from fernando_telemetry.transport.metric_servicer import MetricService
from fernando_telemetry.transport.trace_servicer import TraceService

Registration = Callable[[aio.Server], None]

SERVICES: Final = tuple(
    f"fernando.telemetry.v1.{name}"
    for name in (
        "IngestService",
        "EventService",
        "MetricService",
        "TraceService",
        "AlertRuleService",
        "AlertService",
        "NotificationChannelService",
        "ExportService",
        "AdminService",
    )
)

# Services none of whose methods is there yet: base, how to add it, its file, its name.
_ABSENT: Final[tuple[tuple[type[Any], Any, Any, str], ...]] = (
    (
        v1.AlertRuleServiceServicer,
        v1.add_AlertRuleServiceServicer_to_server,
        alert_rule_service_pb2,
        "AlertRuleService",
    ),
    (
        v1.AlertServiceServicer,
        v1.add_AlertServiceServicer_to_server,
        alert_service_pb2,
        "AlertService",
    ),
    (
        v1.NotificationChannelServiceServicer,
        v1.add_NotificationChannelServiceServicer_to_server,
        notification_channel_service_pb2,
        "NotificationChannelService",
    ),
)


def registrations(
    ingest: IngestService,
    events: EventQueries,
    tails: Tails,
    metrics: MetricQueries,
    traces: TraceQueries,
    exports: ExportQueries,
    admin: Any,
) -> list[Registration]:
    """Give what registers each service of the contract."""
    ingest_handler = IngestServicer(ingest).handler()
    made: list[Registration] = [
        lambda server: server.add_generic_rpc_handlers((ingest_handler,)),
        partial(v1.add_EventServiceServicer_to_server, EventService(events, tails)),
        partial(v1.add_MetricServiceServicer_to_server, MetricService(metrics)),
        partial(v1.add_TraceServiceServicer_to_server, TraceService(traces)),
        partial(v1.add_ExportServiceServicer_to_server, ExportService(exports)),
        partial(v1.add_AdminServiceServicer_to_server, admin),
    ]
    for base, add, module, name in _ABSENT:
        servicer = absent_servicer(base, module.DESCRIPTOR.services_by_name[name])
        made.append(partial(add, servicer))
    return made
