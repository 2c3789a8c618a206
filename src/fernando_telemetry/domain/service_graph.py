"""The graph of services: who calls whom, how often and how well."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class ServiceNode:
    """A service and its spans; percentiles are 0.0 where none of them has a duration."""

    service_name: str
    span_count: int
    error_count: int
    p50_duration_ms: float
    p95_duration_ms: float


@dataclass(frozen=True, slots=True)
class ServiceEdge:
    """Calls between two services; durations are those of the called side's spans."""

    client_service_name: str
    server_service_name: str
    call_count: int
    error_count: int
    p50_duration_ms: float
    p95_duration_ms: float


@dataclass(frozen=True, slots=True)
class ServiceGraph:
    """Services by name, and edges by both names."""

    nodes: Sequence[ServiceNode]
    edges: Sequence[ServiceEdge]
