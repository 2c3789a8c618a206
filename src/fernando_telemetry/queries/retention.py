"""Retention as an operator sees and sets it."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import Final

from fernando_telemetry.domain.errors import InvalidField
from fernando_telemetry.domain.limits import INDEXED_TEXT_BYTES, RETENTION_DAYS
from fernando_telemetry.domain.paging import KeyType, PageTokens, page_size
from fernando_telemetry.domain.retention import (
    RETAINED_KINDS,
    CleanedUp,
    Retention,
    RetentionPolicy,
)
from fernando_telemetry.storage.clean_up import CleanUp
from fernando_telemetry.storage.retention_policies import RetentionPolicies

_KEYS: Final[tuple[KeyType, ...]] = ("int4", "text")


class RetentionQueries:
    """Lists, sets and removes policies, and cleans up by them.

    Args:
        policies: The table.
        cleaner: Takes what is past them.
    """

    def __init__(self, policies: RetentionPolicies, cleaner: CleanUp) -> None:
        self._policies = policies
        self._cleaner = cleaner

    async def list_policies(self, size: int, token: str) -> tuple[list[RetentionPolicy], str]:
        """Give a page of what holds, general terms of the settings included, by kind and licence.

        Args:
            size: The page_size that was asked for.
            token: The page before's; "" for the first page.

        Returns:
            The page, and the next page's token, "" on the last page.

        Raises:
            InvalidField: The size.
            InvalidPageToken: The token.
            DatabaseUnavailable: The database does not answer.
        """
        size = page_size(size)
        tokens = PageTokens(_KEYS, "ListRetentionPolicies", ())
        after = tokens.read(token)
        found = (await self._policies.refresh()).policies()
        left = [policy for policy in found if after is None or _place(policy) > after]
        # A thousand of them are far below the 2 MiB of a page.
        return left[:size], tokens.write(_place(left[size - 1]) if len(left) > size else None)

    async def set_policy(self, policy: RetentionPolicy, *, remove: bool) -> RetentionPolicy:
        """Set a policy, or remove the one of its kind and licence; gives the one that holds then.

        Raises:
            InvalidField: A part of it is not allowed, or there are too many.
            DatabaseUnavailable: The database does not answer.
        """
        if policy.kind not in RETAINED_KINDS:
            raise InvalidField("policy.kind", f"has to be one of {', '.join(RETAINED_KINDS)}.")
        if len(policy.license_id.encode()) > INDEXED_TEXT_BYTES or "\0" in policy.license_id:
            raise InvalidField("policy.license_id", "at most 256 bytes, without U+0000.")
        if remove:
            return _holding(
                await self._policies.remove(policy.kind, policy.license_id),
                policy.kind,
                policy.license_id,
            )
        if policy.days > RETENTION_DAYS:
            raise InvalidField("policy.days", f"at most {RETENTION_DAYS:,}; 0 is for ever.")
        return _holding(await self._policies.put(policy), policy.kind, policy.license_id)

    async def clean_up(self, *, dry_run: bool) -> list[CleanedUp]:
        """Take what is past its retention; gives what went, by kind and licence.

        Raises:
            DatabaseUnavailable: The database does not answer, or what is to go is being read.
        """
        now = datetime.now(UTC)
        return await (self._cleaner.preview(now) if dry_run else self._cleaner.clean_up(now))


def _place(policy: RetentionPolicy) -> tuple[int, str]:
    return RETAINED_KINDS.index(policy.kind), policy.license_id


def _holding(retention: Retention, kind: str, license_id: str) -> RetentionPolicy:
    terms = retention.of_kind(kind)
    own = license_id if license_id in terms.license_days else ""
    return RetentionPolicy(kind, own, terms.days_of(own))
