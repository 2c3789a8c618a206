"""Lets new series in, up to the limit of their metric and licence.

One short transaction takes the counts of the metrics concerned in the order of their keys, so
servers agree to the very series and do not block each other for good; whatever needs a place in
the window of 7 days comes through here, a series that comes back after it as well.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Collection, Iterable, Sequence
from dataclasses import dataclass, field
from datetime import date

from fernando_telemetry.domain.limits import OVERFLOW_SERIES_PER_METRIC
from fernando_telemetry.domain.series import ResolvedSeries, SeriesIdentity
from fernando_telemetry.domain.series_overflow import OverflowStep, overflow_steps, window_start
from fernando_telemetry.storage.series_rows import (
    SeriesRow,
    labels_json,
    make_series,
    raise_seen_on,
    read_series,
)
from fernando_telemetry.storage.sessions import Connection, ControlPool
from fernando_telemetry.storage.statements import load

sql = load("series")

# A metric of one licence.
Metric = tuple[str, str]


def metric_of(identity: SeriesIdentity) -> Metric:
    """Give what the limit counts by."""
    return identity.metric_name, identity.license_id


@dataclass(frozen=True, slots=True)
class SeriesLimits:
    """How many series a metric of one licence may have.

    Attributes:
        series: Series seen in 7 days, after which labels overflow.
        overflow_series: Series with one label replaced, beyond that; a tenth more have all.
    """

    series: int
    overflow_series: int = OVERFLOW_SERIES_PER_METRIC

    def ceiling(self, step: OverflowStep) -> int | None:
        """Give the count at which no further series of a step is made; None: there is none."""
        match step.level:
            case 1:
                return self.series + self.overflow_series
            case 2:
                return self.series + self.overflow_series + self.overflow_series // 10
            case 3:
                return None


@dataclass(slots=True)
class MetricCount:
    """A metric's row of `series_counts`, locked."""

    series: int
    ranking: tuple[str, ...]
    ranked_on: date | None
    ranked_count: int
    changed: bool = False

    def is_ranked(self, today: date, limits: SeriesLimits) -> bool:
        """Tell whether the ranking still holds.

        It does for the day, unless many series were made although its first label was replaced:
        then another label may be the one that explodes.
        """
        made_since = self.series - self.ranked_count
        is_today = self.ranked_on is not None and self.ranked_on >= today
        return is_today and made_since < max(1, limits.overflow_series // 10)


@dataclass(slots=True)
class Admission:
    """What became of the identities.

    Attributes:
        resolved: By identity asked for.
        targets: Series that took others' samples, by their own identity.
        full: Label rankings of the metrics that have reached their limit.
    """

    resolved: dict[SeriesIdentity, ResolvedSeries] = field(default_factory=dict)
    targets: dict[SeriesIdentity, ResolvedSeries] = field(default_factory=dict)
    full: dict[Metric, tuple[str, ...]] = field(default_factory=dict)


async def admit(
    control: ControlPool, identities: Collection[SeriesIdentity], today: date, limits: SeriesLimits
) -> Admission:
    """Give every identity a series: its own, or a coarser one where its metric is full.

    Raises:
        DatabaseUnavailable: The control database does not answer.
    """
    members: dict[Metric, list[SeriesIdentity]] = defaultdict(list)
    for identity in identities:
        members[metric_of(identity)].append(identity)
    async with control.transaction() as connection:
        counts = await _lock_counts(connection, members, today)
        steps: dict[SeriesIdentity, list[OverflowStep]] = {}
        for metric, ones in members.items():
            count = counts[metric]
            if count.series + len(ones) > limits.series:
                if not count.is_ranked(today, limits):
                    await _rank(connection, metric, count, ones, today)
                steps |= {one: overflow_steps(one, count.ranking) for one in ones}
        candidates = {step.identity for choice in steps.values() for step in choice}
        known = await read_series(connection, candidates.union(identities), hold=True)
        places = _Places(known, today, limits)
        for metric, ones in members.items():
            for one in sorted(ones, key=SeriesIdentity.digest):
                places.choose(one, counts[metric], steps.get(one, ()))
        made = await make_series(connection, places.to_make, today)
        if places.to_raise:
            await raise_seen_on(connection, places.to_raise, today)
        await _save_counts(connection, counts, today)
    return places.admission(made, counts)


class _Places:
    """Chooses a series for each identity while there is room."""

    def __init__(
        self, known: dict[SeriesIdentity, SeriesRow], today: date, limits: SeriesLimits
    ) -> None:
        self._known = known
        self._today = today
        self._after = window_start(today)
        self._limits = limits
        self._chosen: dict[SeriesIdentity, tuple[SeriesIdentity, str]] = {}
        self._taken: set[SeriesIdentity] = set()
        self.to_make: list[SeriesIdentity] = []
        self.to_raise: list[int] = []

    def choose(
        self, identity: SeriesIdentity, count: MetricCount, steps: Sequence[OverflowStep]
    ) -> None:
        """Give an identity its own series, else the first of its steps that has room."""
        if self._take(identity, count, self._limits.series):
            self._chosen[identity] = (identity, "")
            return
        for step in steps:
            if self._take(step.identity, count, self._limits.ceiling(step)):
                self._chosen[identity] = (step.identity, step.label)
                return
        raise AssertionError("the last step is always allowed")

    def _take(self, identity: SeriesIdentity, count: MetricCount, ceiling: int | None) -> bool:
        """Use a series that counts already, or let it in below the ceiling."""
        if identity in self._taken:
            return True
        row = self._known.get(identity)
        counts_already = row is not None and row.seen_on > self._after
        if not counts_already:
            if ceiling is not None and count.series >= ceiling:
                return False
            count.series += 1
            count.changed = True
        self._taken.add(identity)
        if row is None:
            self.to_make.append(identity)
        elif row.seen_on < self._today:
            self.to_raise.append(row.series_id)
        return True

    def admission(
        self, made: dict[SeriesIdentity, int], counts: dict[Metric, MetricCount]
    ) -> Admission:
        """Put the ids to the choices."""
        result = Admission()
        for identity, (target, label) in self._chosen.items():
            series_id = made[target] if target in made else self._known[target].series_id
            result.resolved[identity] = ResolvedSeries(series_id, label)
            if label:
                result.targets[target] = ResolvedSeries(series_id)
        result.full = {
            metric: count.ranking
            for metric, count in counts.items()
            if count.series >= self._limits.series and count.is_ranked(self._today, self._limits)
        }
        return result


async def _lock_counts(
    connection: Connection, metrics: Iterable[Metric], today: date
) -> dict[Metric, MetricCount]:
    names, licences = zip(*metrics, strict=True)
    rows = await connection.fetch(sql.lock_counts, names, licences)
    counts = {
        (row["metric_name"], row["license_id"]): MetricCount(
            row["series_count"],
            tuple(row["label_ranking"] or ()),
            row["ranked_on"],
            row["ranked_count"] or 0,
        )
        for row in rows
    }
    outdated = [
        (row["metric_name"], row["license_id"]) for row in rows if row["counted_on"] < today
    ]
    if outdated:
        names, licences = zip(*outdated, strict=True)
        after = window_start(today)
        for row in await connection.fetch(sql.count_series, names, licences, after):
            count = counts[row["name"], row["license"]]
            count.series, count.changed = row["count"], True
    return counts


async def _rank(
    connection: Connection,
    metric: Metric,
    count: MetricCount,
    wanted: Sequence[SeriesIdentity],
    today: date,
) -> None:
    """Find the labels with most distinct values, for all servers."""
    labels = [labels_json(one) for one in wanted]
    rows = await connection.fetch(sql.rank_labels, *metric, window_start(today), labels)
    count.ranking = tuple(row["key"] for row in rows)
    count.ranked_on, count.ranked_count = today, count.series
    await connection.execute(sql.save_ranking, *metric, list(count.ranking), today, count.series)


async def _save_counts(
    connection: Connection, counts: dict[Metric, MetricCount], today: date
) -> None:
    changed = [(*metric, count.series) for metric, count in counts.items() if count.changed]
    if changed:
        names, licences, series = zip(*changed, strict=True)
        await connection.execute(sql.save_counts, names, licences, series, today)
