"""Reads and writes rows of `metric_series` inside a transaction of the control database."""

from __future__ import annotations

import json
from collections.abc import Collection, Iterable
from dataclasses import dataclass
from datetime import date
from uuid import UUID

from fernando_telemetry.domain.series import SeriesIdentity
from fernando_telemetry.storage.sessions import Connection
from fernando_telemetry.storage.statements import load

sql = load("series")


@dataclass(frozen=True, slots=True)
class SeriesRow:
    """A series that exists, and the day (UTC) it was last seen on."""

    series_id: int
    seen_on: date


def labels_json(identity: SeriesIdentity) -> str:
    """Give the labels as they are stored."""
    return json.dumps(dict(identity.labels), ensure_ascii=False)


async def read_series(
    connection: Connection, identities: Iterable[SeriesIdentity], *, hold: bool = False
) -> dict[SeriesIdentity, SeriesRow]:
    """Read the series that exist.

    Args:
        connection: Inside a transaction.
        identities: What is asked for.
        hold: Keep them from being deleted until the transaction ends.
    """
    by_hash = {identity.digest(): identity for identity in identities}
    statement = sql.hold_known_series if hold else sql.known_series
    rows = await connection.fetch(statement, list(by_hash))
    return {
        by_hash[UUID(int=row["identity_hash"].int)]: SeriesRow(row["series_id"], row["seen_on"])
        for row in rows
    }


async def raise_seen_on(
    connection: Connection, series_ids: Collection[int], today: date
) -> set[int]:
    """Note series as seen today; gives those that are still there, which then stay."""
    ids = list(series_ids)
    await connection.execute(sql.raise_seen_on, ids, today)
    return {row["series_id"] for row in await connection.fetch(sql.seen_since, ids, today)}


async def make_series(
    connection: Connection, identities: Collection[SeriesIdentity], today: date
) -> dict[SeriesIdentity, int]:
    """Make series and give their ids, also of those that somebody else has made meanwhile."""
    if not identities:
        return {}
    made = sorted((identity.digest(), identity) for identity in identities)
    await connection.execute(
        sql.insert_series,
        [hash_ for hash_, _ in made],
        [one.metric_name for _, one in made],
        [one.metric_type for _, one in made],
        [one.metric_unit for _, one in made],
        [one.service_name for _, one in made],
        [one.host_name for _, one in made],
        [one.instance_id for _, one in made],
        [labels_json(one) for _, one in made],
        [one.license_id for _, one in made],
        [one.temporality for _, one in made],
        today,
    )
    rows = await read_series(connection, identities, hold=True)
    return {identity: row.series_id for identity, row in rows.items()}
