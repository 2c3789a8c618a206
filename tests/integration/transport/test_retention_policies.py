"""ListRetentionPolicies and SetRetentionPolicy: what they give and what they refuse."""

from __future__ import annotations

from typing import Any

import pytest
from grpc import StatusCode, aio

from fernando.telemetry import v1
from fernando_telemetry.domain.limits import RETENTION_POLICIES
from tests.integration.transport.failures import failure

EVENT = v1.RecordKind.RECORD_KIND_EVENT
SPAN = v1.RecordKind.RECORD_KIND_SPAN
DEFAULTS = [(1, "", 90), (2, "", 180), (3, "", 180), (4, "", 30)]


def asking(kind: int, days: int = 0, license_id: str = "", **more: Any) -> Any:
    """Make a SetRetentionPolicyRequest."""
    policy = v1.RetentionPolicy(kind=kind, license_id=license_id, days=days)  # type: ignore[arg-type]
    return v1.SetRetentionPolicyRequest(policy=policy, **more)


def known(policy: v1.RetentionPolicy) -> tuple[int, str, int]:
    return policy.kind, policy.license_id, policy.days


@pytest.fixture
def admin(channel: aio.Channel) -> Any:
    return v1.AdminServiceStub(channel)


async def listed(admin: Any, page_size: int = 0) -> list[tuple[int, str, int]]:
    found: list[tuple[int, str, int]] = []
    asked = v1.ListRetentionPoliciesRequest(page_size=page_size)
    while True:
        page = await admin.ListRetentionPolicies(asked)
        found += map(known, page.policies)
        if not page.next_page_token:
            return found
        assert len(page.policies) == page_size
        asked.page_token = page.next_page_token


async def test_the_settings_hold_where_no_policy_is_set(admin: Any) -> None:
    assert await listed(admin) == DEFAULTS


async def test_set_replace_and_remove(admin: Any) -> None:
    answers = [
        await admin.SetRetentionPolicy(request)
        for request in (
            asking(EVENT, 30),
            asking(EVENT, 365, "acme"),
            asking(EVENT, 366, "acme"),
            asking(SPAN, 0, "Ünïcode"),
        )
    ]
    assert [known(answer.policy) for answer in answers] == [
        (EVENT, "", 30),
        (EVENT, "acme", 365),
        (EVENT, "acme", 366),
        (SPAN, "Ünïcode", 0),
    ]
    everything = [
        (EVENT, "", 30),
        (EVENT, "acme", 366),
        (2, "", 180),
        (3, "", 180),
        (SPAN, "", 30),
        (SPAN, "Ünïcode", 0),
    ]
    assert await listed(admin) == everything
    assert await listed(admin, page_size=1) == everything
    assert await listed(admin, page_size=4) == everything
    removals = [
        await admin.SetRetentionPolicy(request)
        for request in (
            asking(EVENT, 0, "acme", remove=True),
            asking(EVENT, 1, remove=True),
            asking(EVENT, 1, remove=True),
            asking(SPAN, 0, "Ünïcode", remove=True),
        )
    ]
    assert [known(answer.policy) for answer in removals] == [
        (EVENT, "", 30),
        (EVENT, "", 90),
        (EVENT, "", 90),
        (SPAN, "", 30),
    ]
    assert await listed(admin) == DEFAULTS


@pytest.mark.parametrize(
    ("request_", "field"),
    [
        (v1.SetRetentionPolicyRequest(), "policy.kind"),
        (asking(0, 1), "policy.kind"),
        (asking(v1.RecordKind.RECORD_KIND_METRIC_COLUMNS, 1), "policy.kind"),
        (asking(99, 1), "policy.kind"),
        (asking(-1, 1), "policy.kind"),
        (asking(EVENT, 36_501), "policy.days"),
        (asking(EVENT, 4_294_967_295), "policy.days"),
        (asking(EVENT, 1, "x" * 257), "policy.license_id"),
        (asking(EVENT, 1, "é" * 129), "policy.license_id"),
        (asking(EVENT, 1, "a\0b"), "policy.license_id"),
        (asking(EVENT, 1, "a\0b", remove=True), "policy.license_id"),
    ],
)
async def test_what_is_refused(admin: Any, request_: Any, field: str) -> None:
    found = await failure(admin.SetRetentionPolicy(request_))
    assert (found.code, found.reason) == (StatusCode.INVALID_ARGUMENT, "INVALID_FIELD")
    assert found.fields == (field,)
    assert await listed(admin) == DEFAULTS


async def test_the_longest_term_and_an_odd_licence_are_taken(admin: Any) -> None:
    odd = "'; DROP TABLE retention_policies; --"
    await admin.SetRetentionPolicy(asking(EVENT, 36_500, odd))
    assert (EVENT, odd, 36_500) in await listed(admin)


async def test_there_is_a_limit_to_their_number(admin: Any, connection: Any) -> None:
    await connection.execute(
        "INSERT INTO retention_policies SELECT 'span', 'l' || n, 1 FROM generate_series(1, $1) n",
        RETENTION_POLICIES,
    )
    found = await failure(admin.SetRetentionPolicy(asking(SPAN, 2, "one more")))
    assert (found.reason, found.fields) == ("INVALID_FIELD", ("policy",))
    answer = await admin.SetRetentionPolicy(asking(SPAN, 2, "l7"))
    assert known(answer.policy) == (SPAN, "l7", 2)
    assert len(await listed(admin, page_size=1000)) == len(DEFAULTS) + RETENTION_POLICIES


@pytest.mark.parametrize("page_token", ["x", "AAAA", "a" * 20_000])
async def test_a_strange_page_token(admin: Any, page_token: str) -> None:
    request = v1.ListRetentionPoliciesRequest(page_token=page_token)
    found = await failure(admin.ListRetentionPolicies(request))
    assert (found.code, found.reason) == (StatusCode.INVALID_ARGUMENT, "INVALID_PAGE_TOKEN")


async def test_a_negative_page_size(admin: Any) -> None:
    found = await failure(
        admin.ListRetentionPolicies(v1.ListRetentionPoliciesRequest(page_size=-1))
    )
    assert (found.reason, found.fields) == ("INVALID_FIELD", ("page_size",))
