"""Tells senders which samples were kept in a coarser series than they asked for."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence

from fernando_telemetry.domain.limits import VERDICTS_PER_ACK
from fernando_telemetry.domain.series import ResolvedSeries, SeriesIdentity
from fernando_telemetry.domain.verdicts import RecordKind, Verdict
from fernando_telemetry.storage.marks import FlushBatch
from fernando_telemetry.storage.rows import DISTRIBUTIONS, SAMPLES

REASON = "label_cardinality"


def overflow_verdict(kind: RecordKind, index: int, series: ResolvedSeries) -> Verdict:
    """Give the verdict of one sample whose series overflowed."""
    detail = "the metric has reached its limit of series in 7 days; the value became __overflow__"
    return Verdict(kind, index, REASON, series.field_path, detail, kept=True)


def note_overflow(
    batches: Sequence[FlushBatch], resolved: Mapping[SeriesIdentity, ResolvedSeries]
) -> None:
    """Put the verdicts of overflowed samples into their batches' tallies.

    Called for every attempt of a flush: what an earlier one noted is replaced.
    """
    coarser = {identity: one for identity, one in resolved.items() if one.overflowed_label}
    for batch in batches:
        take_overflow_back(batch)
        if coarser:
            _note(batch, coarser)


def take_overflow_back(batch: FlushBatch) -> None:
    """Forget what an earlier attempt noted."""
    if batch.overflowed:
        batch.tally.take_back(REASON, batch.overflowed)
        batch.overflowed = 0


def _note(batch: FlushBatch, coarser: Mapping[SeriesIdentity, ResolvedSeries]) -> None:
    tally = batch.tally
    for kind, index, series in _coarse_samples(batch, coarser):
        batch.overflowed += 1
        if len(tally.verdicts) < VERDICTS_PER_ACK:
            tally.add(overflow_verdict(kind, index, series))
        else:
            tally.add_kept(1)
    tally.sort()


def _coarse_samples(
    batch: FlushBatch, coarser: Mapping[SeriesIdentity, ResolvedSeries]
) -> Iterator[tuple[RecordKind, int, ResolvedSeries]]:
    for table in (SAMPLES, DISTRIBUTIONS):
        # A trial of single rows comes without places.
        places = batch.rows.places[table.name]
        for row, place in zip(batch.rows.rows[table.name], places, strict=False):
            if (series := coarser.get(row[0])) is not None:
                yield *place, series
    for part in batch.slices:
        block = part.block
        for at, identity in part.samples_of(coarser.keys()):
            yield block.kind, int(block.indexes[at]), coarser[identity]
