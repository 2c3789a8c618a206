"""Remembers what series identities resolved to, within a number of bytes."""

from __future__ import annotations

import sys
from collections import OrderedDict
from datetime import date
from typing import Final

from fernando_telemetry.domain.series import ResolvedSeries, SeriesIdentity

# An entry's objects beside its texts: identity, answer, tuples, the dictionary's share.
_ENTRY_BYTES: Final = 700
_LABEL_BYTES: Final = 56


class SeriesCache:
    """The identities used last; an entry holds for one day, since series are checked daily.

    Args:
        capacity_bytes: Estimated memory of the entries; identities may have 20 KB of labels, so
            their number alone would be no bound.
    """

    def __init__(self, capacity_bytes: int) -> None:
        self._capacity_bytes = capacity_bytes
        self._entries: OrderedDict[SeriesIdentity, tuple[ResolvedSeries, date, int]] = OrderedDict()
        self.used_bytes = 0

    def __len__(self) -> int:
        return len(self._entries)

    def get(self, identity: SeriesIdentity, today: date) -> ResolvedSeries | None:
        """Give what is known of today."""
        entry = self._entries.get(identity)
        if entry is None or entry[1] != today:
            return None
        self._entries.move_to_end(identity)
        return entry[0]

    def put(self, identity: SeriesIdentity, resolved: ResolvedSeries, today: date) -> None:
        """Remember an answer; those unused for longest give way."""
        former = self._entries.pop(identity, None)
        weight = former[2] if former is not None else _weight(identity)
        if former is None:
            self.used_bytes += weight
        self._entries[identity] = (resolved, today, weight)
        while self.used_bytes > self._capacity_bytes and len(self._entries) > 1:
            _, (_, _, freed) = self._entries.popitem(last=False)
            self.used_bytes -= freed


def _weight(identity: SeriesIdentity) -> int:
    texts = (
        identity.metric_name,
        identity.metric_unit,
        identity.service_name,
        identity.host_name,
        identity.instance_id,
        identity.license_id,
        *(text for label in identity.labels for text in label),
    )
    return _ENTRY_BYTES + len(identity.labels) * _LABEL_BYTES + sum(map(sys.getsizeof, texts))
