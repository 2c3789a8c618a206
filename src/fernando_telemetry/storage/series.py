"""The series dictionary: identity to int4 id, with a bounded cache.

Ids come from the control database, made in a short transaction before the flush that needs them;
a rolled-back flush leaves a series without samples, which is harmless.
"""

from __future__ import annotations

import json
from collections import OrderedDict
from collections.abc import Iterable
from datetime import date
from typing import Final
from uuid import UUID

from fernando_telemetry.domain.series import SeriesIdentity
from fernando_telemetry.storage.sessions import Connection, ControlPool
from fernando_telemetry.storage.statements import load

sql = load("series")

CACHE_ENTRIES: Final = 100_000


class SeriesDictionary:
    """Gives the id of a series and makes the series it does not find."""

    def __init__(self, control: ControlPool, capacity: int = CACHE_ENTRIES) -> None:
        self._control = control
        self._capacity = capacity
        # id, and the day (UTC) on which seen_on was last known to be right.
        self._cache: OrderedDict[SeriesIdentity, tuple[int, date]] = OrderedDict()

    async def resolve(
        self, identities: Iterable[SeriesIdentity], today: date
    ) -> dict[SeriesIdentity, int]:
        """Give the ids of all identities.

        Args:
            identities: May repeat.
            today: Date in UTC; a series not seen today is noted as seen.

        Raises:
            DatabaseUnavailable: The control database does not answer.
        """
        wanted = set(identities)
        missing = [
            identity
            for identity in wanted
            if (entry := self._cache.get(identity)) is None or entry[1] != today
        ]
        fetched = await self._fetch(missing, today) if missing else {}
        resolved: dict[SeriesIdentity, int] = {}
        for identity in wanted:
            entry = fetched.get(identity) or self._cache[identity]
            resolved[identity] = entry[0]
            self._cache[identity] = entry
            self._cache.move_to_end(identity)
        while len(self._cache) > self._capacity:
            self._cache.popitem(last=False)
        return resolved

    async def _fetch(
        self, missing: list[SeriesIdentity], today: date
    ) -> dict[SeriesIdentity, tuple[int, date]]:
        by_hash = {identity.digest(): identity for identity in missing}
        async with self._control.transaction() as connection:
            found = await self._read(connection, list(by_hash))
            unknown = {hash_: by_hash[hash_] for hash_ in by_hash.keys() - found.keys()}
            if unknown:
                await self._insert(connection, unknown)
                found |= await self._read(connection, list(unknown))
            stale = [series_id for series_id, seen_on in found.values() if seen_on < today]
            if stale:
                await connection.execute(sql.raise_seen_on, stale)
        return {by_hash[hash_]: (series_id, today) for hash_, (series_id, _) in found.items()}

    async def _read(
        self, connection: Connection, hashes: list[UUID]
    ) -> dict[UUID, tuple[int, date]]:
        rows = await connection.fetch(sql.known_series, hashes)
        return {
            UUID(int=row["identity_hash"].int): (row["series_id"], row["seen_on"]) for row in rows
        }

    async def _insert(self, connection: Connection, unknown: dict[UUID, SeriesIdentity]) -> None:
        made = sorted(unknown.items())
        await connection.execute(
            sql.insert_series,
            [hash_ for hash_, _ in made],
            [one.metric_name for _, one in made],
            [one.metric_type for _, one in made],
            [one.metric_unit for _, one in made],
            [one.service_name for _, one in made],
            [one.host_name for _, one in made],
            [one.instance_id for _, one in made],
            [json.dumps(dict(one.labels), ensure_ascii=False) for _, one in made],
            [one.license_id for _, one in made],
            [one.temporality for _, one in made],
        )
