"""Finds the series of samples: distinct identities by their bytes, looked up once each.

The identity columns of a row are joined to one key. Most rows share a few keys, so only a new key
costs the record check of its identity; the answers are kept, the least used ones go.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, Final

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from fernando_telemetry.domain.series import SeriesIdentity
from fernando_telemetry.domain.verdicts import Rejection
from fernando_telemetry.domain.vocabulary import METRIC_TYPES, TEMPORALITIES
from fernando_telemetry.ingest.checks.context import RecordDefaults
from fernando_telemetry.ingest.columnar.owners import Owners
from fernando_telemetry.ingest.columnar.payloads import map_entries
from fernando_telemetry.ingest.columnar.texts import (
    Integers,
    Mask,
    Texts,
    constant,
    list_lengths,
    list_offsets,
    mark_owners,
)

CACHE_BYTES: Final = 16 * 1024 * 1024
# An identity without its texts. These are held twice, in the key and in the identity; short labels
# cost several times their length.
ENTRY_BYTES: Final = 1_000
BYTES_PER_KEY_CHARACTER: Final = 4
_TEXTS: Final = (
    "metric_name",
    "metric_unit",
    "service_name",
    "host_name",
    "instance_id",
    "license_id",
)
# Parts of a key are divided by U+0000: rows that have one in their texts get no key.
_DIVIDER: Final = "\0"
_DIVIDING: Final = constant(_DIVIDER)

Look = Callable[[int], SeriesIdentity]
_Generation = dict[RecordDefaults, dict[str, SeriesIdentity]]


class Identities:
    """Gives the identities of rows, from a bounded cache by key.

    Args:
        capacity_bytes: About what each of two generations may take: the identities that were
            looked up since the younger one was begun, and those of before, which go when it is
            full.
    """

    def __init__(self, capacity_bytes: int = CACHE_BYTES) -> None:
        self._capacity_bytes = capacity_bytes
        self._young: _Generation = {}
        self._old: _Generation = {}
        self._bytes = 0

    def find(
        self, rows: Any, owners: Owners, look: Look, suspects: Mask
    ) -> tuple[Integers, list[SeriesIdentity]]:
        """Give each row its series.

        Args:
            rows: Struct column of twin.py with the identity's fields.
            owners: Their batches, whose defaults count.
            look: Checks the identity of one row; raises Rejection.
            suspects: Rows without an acceptable identity are marked here.

        Returns:
            A place in the list for each row (any place for suspects), and the list.
        """
        # Defaults differ by batch, and so may the identities of equal rows.
        defaults = list(dict.fromkeys(context.defaults for context in owners.contexts))
        ordinals = [defaults.index(context.defaults) for context in owners.contexts]
        keys = _keys(rows, suspects)
        if len(defaults) > 1:
            of_rows = pa.array([str(ordinal) for ordinal in ordinals], pa.string())
            prefixes = of_rows.take(pa.array(owners.batches))
            keys = pc.binary_join_element_wise(prefixes, keys, _DIVIDING)
        encoded = pc.dictionary_encode(keys)
        codes = encoded.indices.to_numpy()
        distinct = encoded.dictionary.to_pylist()
        first = np.full(len(distinct), -1, np.int64)
        acceptable = np.flatnonzero(~suspects)[::-1]
        first[codes[acceptable]] = acceptable
        found: list[SeriesIdentity] = []
        place_of = [-1] * len(distinct)
        batches = owners.batches
        for code, (key, row) in enumerate(zip(distinct, first.tolist(), strict=True)):
            if row < 0:
                continue
            if len(defaults) > 1:
                of = defaults[ordinals[batches[row]]]
                identity = self._identity(of, key.partition(_DIVIDER)[2], row, look)
            else:
                identity = self._identity(defaults[0], key, row, look)
            if identity is not None:
                place_of[code] = len(found)
                found.append(identity)
        places = np.array(place_of, np.int64)[codes] if len(codes) else np.zeros(0, np.int64)
        suspects |= places < 0
        return places, found

    def _identity(
        self, defaults: RecordDefaults, key: str, row: int, look: Look
    ) -> SeriesIdentity | None:
        identity = self._young.get(defaults, {}).get(key)
        if identity is not None:
            return identity
        identity = self._old.get(defaults, {}).get(key)
        if identity is None:
            try:
                identity = look(row)
            except Rejection:
                return None
        if self._bytes >= self._capacity_bytes:
            self._old, self._young, self._bytes = self._young, {}, 0
        self._young.setdefault(defaults, {})[key] = identity
        self._bytes += ENTRY_BYTES + BYTES_PER_KEY_CHARACTER * len(key)
        return identity


def _keys(rows: Any, suspects: Mask) -> pa.Array:
    """Join the identity columns of each row; rows with U+0000 in them are suspects."""
    columns = [rows.field(name) for name in _TEXTS]
    for column in columns:
        Texts.of(column).mark_nul(suspects)
    labels = rows.field("labels")
    lengths = list_lengths(labels)
    parts = [_kinds(rows, suspects), *columns]
    if lengths.any():
        names, values = map_entries(labels)
        for texts in (Texts.of(names), Texts.of(values)):
            bad = np.zeros(len(texts.lengths), bool)
            texts.mark_nul(bad)
            mark_owners(bad, lengths, suspects)
        entries = pc.binary_join_element_wise(names, values, _DIVIDING)
        lists = pa.ListArray.from_arrays(list_offsets(lengths), entries)
        parts.append(pc.binary_join(lists, _DIVIDING))
    return pc.binary_join_element_wise(*parts, _DIVIDING)


def _kinds(rows: Any, suspects: Mask) -> pa.Array:
    """Give type and temporality as one text."""
    types = rows.field("metric_type").to_numpy()
    temporalities = rows.field("temporality").to_numpy()
    unknown = (types < 1) | (types > len(METRIC_TYPES))
    unknown |= (temporalities < 0) | (temporalities > len(TEMPORALITIES))
    np.logical_or(suspects, unknown, out=suspects)
    width = len(TEMPORALITIES) + 1
    texts = [str(number) for number in range((len(METRIC_TYPES) + 1) * width)]
    return pa.array(texts, pa.string()).take(
        pa.array(np.where(unknown, 0, types * width + temporalities))
    )
