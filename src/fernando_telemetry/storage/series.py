"""The series dictionary: identity to int4 id, with bounded caches and a limit per metric.

Ids come from the control database, made in short transactions before the flush that needs them;
a rolled-back flush leaves a series without samples, which is harmless. What a cache says holds
for the day it was learned on: the next day every series in use is read again and noted as seen,
so one that expiry deleted is never used from a cache.
"""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Iterable, Iterator, Mapping
from datetime import date
from typing import Final

import structlog

from fernando_telemetry.domain.limits import SERIES_PER_METRIC
from fernando_telemetry.domain.series import ResolvedSeries, SeriesIdentity
from fernando_telemetry.domain.series_overflow import (
    most_varied_label,
    window_start,
    with_label_replaced,
)
from fernando_telemetry.storage.series_admission import Metric, SeriesLimits, admit, metric_of
from fernando_telemetry.storage.series_cache import SeriesCache
from fernando_telemetry.storage.series_rows import raise_seen_on, read_series
from fernando_telemetry.storage.sessions import ControlPool

log = structlog.get_logger(__name__)

CACHE_BYTES: Final = 64 * 1024 * 1024
# A flood of label values has a cache of its own, so that it does not drive out series in use.
OVERFLOW_SHARE: Final = 8
# Identities of one transaction.
SLICE: Final = 2_000
FULL_METRICS: Final = 1_000


class SeriesDictionary:
    """Gives the id of a series and makes the series it does not find.

    Args:
        control: Sessions on the control database.
        limits: Of each metric and licence.
        cache_bytes: Memory for what is known.
    """

    def __init__(
        self,
        control: ControlPool,
        limits: SeriesLimits | None = None,
        cache_bytes: int = CACHE_BYTES,
    ) -> None:
        self._control = control
        self._limits = limits or SeriesLimits(SERIES_PER_METRIC)
        overflow_bytes = cache_bytes // OVERFLOW_SHARE
        self._cache = SeriesCache(cache_bytes - overflow_bytes)
        self._overflowed = SeriesCache(overflow_bytes)
        # Metrics at their limit, with the day it was reached on: on that day they stay there.
        self._full: OrderedDict[Metric, tuple[date, tuple[str, ...]]] = OrderedDict()

    @property
    def cached_bytes(self) -> int:
        """Estimated memory of both caches."""
        return self._cache.used_bytes + self._overflowed.used_bytes

    async def resolve(
        self, identities: Iterable[SeriesIdentity], today: date
    ) -> Mapping[SeriesIdentity, ResolvedSeries]:
        """Give the series of all identities.

        An identity that would take its metric past the limit resolves to a coarser series, which
        `overflowed_label` tells.

        Args:
            identities: May repeat.
            today: Date in UTC; a series not seen today is noted as seen.

        Raises:
            DatabaseUnavailable: The control database does not answer.
        """
        resolved: dict[SeriesIdentity, ResolvedSeries] = {}
        missing: list[SeriesIdentity] = []
        for identity in set(identities):
            known = self._cache.get(identity, today) or self._overflowed.get(identity, today)
            if known is None:
                missing.append(identity)
            else:
                resolved[identity] = known
        for part in _slices(missing):
            resolved |= await self._learn(part, today)
        return resolved

    async def _learn(
        self, identities: list[SeriesIdentity], today: date
    ) -> dict[SeriesIdentity, ResolvedSeries]:
        learned = await self._read(identities, today)
        new: list[SeriesIdentity] = []
        for identity in identities:
            if identity in learned:
                continue
            overflowed = self._overflow_at_once(identity, today)
            if overflowed is None:
                new.append(identity)
            else:
                learned[identity] = overflowed
        if new:
            learned |= await self._admit(new, today)
        for identity, resolved in learned.items():
            cache = self._overflowed if resolved.overflowed_label else self._cache
            cache.put(identity, resolved, today)
        return learned

    async def _read(
        self, identities: list[SeriesIdentity], today: date
    ) -> dict[SeriesIdentity, ResolvedSeries]:
        """Read series that count already, and note them as seen."""
        after = window_start(today)
        async with self._control.transaction() as connection:
            rows = await read_series(connection, identities)
            counted = {one: row for one, row in rows.items() if row.seen_on > after}
            stale = {row.series_id for row in counted.values() if row.seen_on < today}
            gone = stale - await raise_seen_on(connection, stale, today) if stale else set()
        return {
            one: ResolvedSeries(row.series_id)
            for one, row in counted.items()
            if row.series_id not in gone
        }

    def _overflow_at_once(self, identity: SeriesIdentity, today: date) -> ResolvedSeries | None:
        """Give the overflow series of a new identity where all of it is known."""
        full_on, ranking = self._full.get(metric_of(identity), (None, ()))
        label = most_varied_label(identity, ranking)
        if full_on != today or not label:
            return None
        target = self._cache.get(with_label_replaced(identity, label), today)
        return ResolvedSeries(target.series_id, label) if target is not None else None

    async def _admit(
        self, identities: list[SeriesIdentity], today: date
    ) -> dict[SeriesIdentity, ResolvedSeries]:
        admission = await admit(self._control, identities, today, self._limits)
        for identity, target in admission.targets.items():
            self._cache.put(identity, target, today)
        for metric, ranking in admission.full.items():
            if self._full.get(metric, (None,))[0] != today:
                log.warning(
                    "series_limit_reached",
                    metric_name=metric[0],
                    license_id=metric[1],
                    limit=self._limits.series,
                )
            self._full[metric] = (today, ranking)
            self._full.move_to_end(metric)
        while len(self._full) > FULL_METRICS:
            self._full.popitem(last=False)
        return admission.resolved


def _slices(identities: list[SeriesIdentity]) -> Iterator[list[SeriesIdentity]]:
    for start in range(0, len(identities), SLICE):
        yield identities[start : start + SLICE]
