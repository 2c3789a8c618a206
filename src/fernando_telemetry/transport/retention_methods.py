"""AdminService's methods on retention."""

from __future__ import annotations

from typing import Any

from fernando.telemetry.v1 import (
    CleanUpTelemetryRequest,
    CleanUpTelemetryResponse,
    ListRetentionPoliciesRequest,
    ListRetentionPoliciesResponse,
    SetRetentionPolicyRequest,
    SetRetentionPolicyResponse,
)
from fernando_telemetry.queries.retention import RetentionQueries
from fernando_telemetry.transport.converters.retention import (
    cleaned_up_message,
    policy_message,
    policy_of,
)


class RetentionMethods:
    """Lists and sets retention policies, and cleans up by them.

    Args:
        queries: What answers.
    """

    def __init__(self, queries: RetentionQueries) -> None:
        self._queries = queries

    async def list_retention_policies(
        self,
        request: ListRetentionPoliciesRequest,
        context: Any,  # noqa: ARG002 - what gRPC calls with
    ) -> ListRetentionPoliciesResponse:
        """Give a page of policies."""
        page, token = await self._queries.list_policies(request.page_size, request.page_token)
        return ListRetentionPoliciesResponse(
            policies=map(policy_message, page), next_page_token=token
        )

    async def set_retention_policy(
        self,
        request: SetRetentionPolicyRequest,
        context: Any,  # noqa: ARG002 - what gRPC calls with
    ) -> SetRetentionPolicyResponse:
        """Set or remove a policy."""
        policy = policy_of(request.policy)
        holding = await self._queries.set_policy(policy, remove=request.remove)
        return SetRetentionPolicyResponse(policy=policy_message(holding))

    async def clean_up_telemetry(
        self,
        request: CleanUpTelemetryRequest,
        context: Any,  # noqa: ARG002 - what gRPC calls with
    ) -> CleanUpTelemetryResponse:
        """Take what is past its retention, or tell what would be taken."""
        results = await self._queries.clean_up(dry_run=request.dry_run)
        return CleanUpTelemetryResponse(results=map(cleaned_up_message, results))
