"""Retention policies, and what a clean-up took."""

from __future__ import annotations

from fernando.telemetry.v1 import CleanUpResult
from fernando.telemetry.v1 import RetentionPolicy as RetentionPolicyMessage
from fernando_telemetry.domain.errors import InvalidField
from fernando_telemetry.domain.retention import CleanedUp, RetentionPolicy
from fernando_telemetry.domain.vocabulary import RECORD_KINDS
from fernando_telemetry.transport.converters.timestamp import timestamp_of


def policy_message(policy: RetentionPolicy) -> RetentionPolicyMessage:
    """Give a policy as a message."""
    return RetentionPolicyMessage(
        kind=RECORD_KINDS.index(policy.kind) + 1,  # type: ignore[arg-type]
        license_id=policy.license_id,
        days=policy.days,
    )


def policy_of(message: RetentionPolicyMessage) -> RetentionPolicy:
    """Give a policy.

    Raises:
        InvalidField: Its kind is not set or not known.
    """
    if not 0 < message.kind <= len(RECORD_KINDS):
        raise InvalidField("policy.kind", "must be set, to a kind that this server knows.")
    return RetentionPolicy(RECORD_KINDS[message.kind - 1], message.license_id, message.days)


def cleaned_up_message(result: CleanedUp) -> CleanUpResult:
    """Give what was taken of a kind and licence as a message."""
    return CleanUpResult(
        kind=RECORD_KINDS.index(result.kind) + 1,  # type: ignore[arg-type]
        license_id=result.license_id,
        partitions=result.partitions,
        rows=result.rows,
        older_than=timestamp_of(result.older_than),
        partition_bytes=result.partition_bytes,
    )
