"""AdminService: what the server says of itself, rejected records, retention. Keys come later."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from datetime import datetime
from typing import Any

from fernando.telemetry.v1 import AdminServiceServicer, GetServerInfoResponse
from fernando.telemetry.v1.admin_service_pb2 import DESCRIPTOR
from fernando_telemetry.domain import limits
from fernando_telemetry.ingest.service import IngestService
from fernando_telemetry.transport.absent import absent_servicer
from fernando_telemetry.transport.converters.ingest_service import CONTRACT_REVISION, limits_message
from fernando_telemetry.transport.rejected_methods import RejectedMethods
from fernando_telemetry.transport.retention_methods import RetentionMethods


@dataclass(frozen=True, slots=True)
class ServerIdentity:
    """What does not change while the server runs."""

    version: str
    postgresql_version: str
    columnar_ingest: bool
    started_at: datetime


def admin_servicer(
    identity: Callable[[], ServerIdentity],
    ingest: IngestService,
    database_bytes: Callable[[], Awaitable[int]],
    unsealed_partitions: Callable[[], Awaitable[int]],
    rejected: RejectedMethods,
    retention: RetentionMethods,
) -> Any:
    """Make the servicer; methods not named here are absent."""
    servicer = absent_servicer(AdminServiceServicer, DESCRIPTOR.services_by_name["AdminService"])

    async def get_server_info(request: Any, context: Any) -> GetServerInfoResponse:
        known = identity()
        info = GetServerInfoResponse(
            version=known.version,
            contract_revision=CONTRACT_REVISION,
            limits=limits_message(limits.BATCH_BYTES, 0),
            postgresql_version=known.postgresql_version,
            columnar_ingest=known.columnar_ingest,
            open_streams=ingest.counters.open_streams,
            queued_bytes=ingest.queued_bytes,
            unsealed_partitions=await unsealed_partitions(),
            database_bytes=await database_bytes(),
            last_problem=ingest.counters.last_problem,
        )
        info.started_at.FromDatetime(known.started_at)
        return info

    servicer.GetServerInfo = get_server_info
    servicer.ListRejectedRecords = rejected.list_rejected_records
    servicer.ReplayRejectedRecords = rejected.replay_rejected_records
    servicer.ListRetentionPolicies = retention.list_retention_policies
    servicer.SetRetentionPolicy = retention.set_retention_policy
    servicer.CleanUpTelemetry = retention.clean_up_telemetry
    return servicer
