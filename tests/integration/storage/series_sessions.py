"""A control pool that counts its transactions, and identities to resolve."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from datetime import date

from fernando_telemetry.domain.series import SeriesIdentity
from fernando_telemetry.storage.sessions import Connection, ControlPool
from tests.conftest import session_settings

TODAY = date(2026, 5, 17)


class CountingPool(ControlPool):
    """Counts transactions."""

    def __init__(self, dsn: str) -> None:
        super().__init__(session_settings(dsn), 4)
        self.transactions = 0

    @asynccontextmanager
    async def transaction(self) -> AsyncIterator[Connection]:
        self.transactions += 1
        async with super().transaction() as connection:
            yield connection


def series(
    metric_name: str = "requests",
    license_id: str = "",
    instance_id: str = "",
    service_name: str = "api",
    **labels: str,
) -> SeriesIdentity:
    """Give an identity."""
    return SeriesIdentity(
        metric_name=metric_name,
        metric_type="gauge",
        metric_unit="",
        service_name=service_name,
        host_name="",
        instance_id=instance_id,
        labels=tuple(sorted(labels.items())),
        license_id=license_id,
        temporality="",
    )


def users(first: int, end: int, **fields: str) -> list[SeriesIdentity]:
    """Give identities that differ in the label `user`."""
    return [series(user=f"u{number}", **fields) for number in range(first, end)]
