"""What `retention` does."""

from __future__ import annotations

import contextlib
import sys
from collections.abc import Iterator, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any, Final, cast

import typer
from google.protobuf.message import Message
from grpc import aio

from fernando.telemetry import v1
from fernando_telemetry.cli.connection import CALL_TIMEOUT_SECONDS, call, complain, find_address
from fernando_telemetry.cli.kinds import ListKind
from fernando_telemetry.cli.listing import PAGE_ROWS, pages
from fernando_telemetry.cli.printing import Printer
from fernando_telemetry.cli.record_json import number_of
from fernando_telemetry.cli.tables import Cells, ColumnSpec, Style, columns_of

_FLAGS: Final = {"policy.kind": "KIND", "policy.license_id": "--license", "policy.days": "DAYS"}
ALL_OTHERS: Final = "(all others)"
# A clean-up answers when it is through; what is broken off goes on with the next one.
CLEAN_UP_TIMEOUT_SECONDS: Final = 86_400.0


def policy_cells(
    policies: Sequence[Message], specs: Sequence[ColumnSpec], style: Style
) -> list[Cells]:
    """Write a page's cells; what is empty or 0 has a meaning here, so it is said."""
    kinds = columns_of(policies, [spec for spec in specs if spec.name == "kind"], style)
    _, of_licenses, of_days = specs
    given = [cast("v1.RetentionPolicy", policy) for policy in policies]
    licenses = tuple(policy.license_id or ALL_OTHERS for policy in given)
    days = tuple(str(policy.days) if policy.days else "for ever" for policy in given)
    return [*kinds, Cells(of_licenses, licenses, False), Cells(of_days, days, True)]


POLICIES: Final = ListKind(
    "retention rule",
    "Admin",
    "ListRetentionPolicies",
    "",
    "policies",
    "",
    (ColumnSpec("kind", 1), ColumnSpec("license_id", 2, 10), ColumnSpec("days", 1)),
    policy_cells,
)


def result_cells(
    results: Sequence[Message], specs: Sequence[ColumnSpec], style: Style
) -> list[Cells]:
    """Write a page's cells of what a clean-up took."""
    cells = columns_of(results, specs, style)
    given = [cast("v1.CleanUpResult", result) for result in results]
    licenses = tuple(result.license_id or ALL_OTHERS for result in given)
    kinds, *others = [one for one in cells if one.spec.name != "license_id"]
    numbers = [replace(one, to_the_right=one.spec.name != "older_than") for one in others]
    return [kinds, Cells(RESULTS.columns[1], licenses, False), *numbers]


RESULTS: Final = ListKind(
    "result",
    "Admin",
    "CleanUpTelemetry",
    "",
    "results",
    "",
    (
        ColumnSpec("kind", 1),
        ColumnSpec("license_id", 2, 10),
        ColumnSpec("older_than", 4, dated=True),
        ColumnSpec("partitions", 3),
        ColumnSpec("partition_bytes", 5),
        ColumnSpec("rows", 3),
    ),
    result_cells,
)


def show(*, as_json: bool, target: str | None, data_dir: Path | None) -> None:
    """Print what holds."""
    printer = Printer(POLICIES, as_json=as_json, local=False)

    async def work(channel: aio.Channel) -> None:
        stub: Any = v1.AdminServiceStub(channel)
        request = v1.ListRetentionPoliciesRequest(page_size=PAGE_ROWS)
        async for page, is_last in pages(stub.ListRetentionPolicies, request, "policies", None):
            printer.print_page(list(page.policies), is_last=is_last)

    call(find_address(target, data_dir), work)


def set_policy(
    *,
    kind: str,
    license_id: str,
    days: int,
    remove: bool,
    as_json: bool,
    target: str | None,
    data_dir: Path | None,
) -> None:
    """Set or remove a policy and print what holds then for its kind and licence."""
    enum = v1.RetentionPolicy.DESCRIPTOR.fields_by_name["kind"].enum_type
    request = v1.SetRetentionPolicyRequest(remove=remove)
    try:
        request.policy.license_id = license_id
    except ValueError:
        raise typer.BadParameter("it is not valid UTF-8", param_hint="--license") from None
    request.policy.kind = number_of(enum, kind)  # type: ignore[assignment]
    request.policy.days = days

    async def work(channel: aio.Channel) -> v1.RetentionPolicy:
        stub: Any = v1.AdminServiceStub(channel)
        if remove and license_id and not await _has_policy(stub, request.policy):
            complain(f"note: {license_id!r} has no policy of {kind}; there is nothing to remove.")
        answer = await stub.SetRetentionPolicy(request, timeout=CALL_TIMEOUT_SECONDS)
        return cast("v1.RetentionPolicy", answer.policy)

    holding = call(find_address(target, data_dir), work, flags=_FLAGS)
    Printer(POLICIES, as_json=as_json, local=False).print_page([holding], is_last=True)


async def _has_policy(stub: Any, wanted: v1.RetentionPolicy) -> bool:
    """Whether a licence has a policy of its own."""
    request = v1.ListRetentionPoliciesRequest(page_size=PAGE_ROWS)
    async for page, _ in pages(stub.ListRetentionPolicies, request, "policies", None):
        for one in page.policies:
            if (one.kind, one.license_id) == (wanted.kind, wanted.license_id):
                return True
    return False


def clean_up(
    *, dry_run: bool, as_json: bool, local: bool, target: str | None, data_dir: Path | None
) -> None:
    """Have the server clean up and print what it took."""
    request = v1.CleanUpTelemetryRequest(dry_run=dry_run)

    async def work(channel: aio.Channel) -> v1.CleanUpTelemetryResponse:
        stub: Any = v1.AdminServiceStub(channel)
        answer: v1.CleanUpTelemetryResponse = await stub.CleanUpTelemetry(
            request, timeout=CLEAN_UP_TIMEOUT_SECONDS
        )
        return answer

    with _working("looking" if dry_run else "cleaning up"):
        answer = call(find_address(target, data_dir), work)
    Printer(RESULTS, as_json=as_json, local=local).print_page(list(answer.results), is_last=True)
    partitions = sum(one.partitions for one in answer.results)
    rows = sum(one.rows for one in answer.results)
    size = sum(one.partition_bytes for one in answer.results)
    complain(
        f"{'would take' if dry_run else 'took'} {partitions:,} partitions of {size:,} bytes"
        f" and {rows:,} single rows."
    )


@contextlib.contextmanager
def _working(words: str) -> Iterator[None]:
    """Show on a terminal that something goes on, and for how long already."""
    if not sys.stderr.isatty():
        yield
        return
    from rich.console import Console
    from rich.progress import Progress, SpinnerColumn, TextColumn, TimeElapsedColumn

    columns = (SpinnerColumn(), TextColumn("{task.description}"), TimeElapsedColumn())
    with Progress(*columns, console=Console(stderr=True), transient=True) as progress:
        progress.add_task(words, total=None)
        yield
