"""Checks of the address column."""

from __future__ import annotations

from functools import lru_cache

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from fernando_telemetry.ingest.checks.values import address
from fernando_telemetry.ingest.columnar.texts import Mask

# PostgreSQL's inet on the wire: family (AF_INET, AF_INET + 1), prefix length, is_cidr, length.
_HEAD_4 = bytes((2, 32, 0, 4))
_HEAD_6 = bytes((3, 128, 0, 16))


@lru_cache(maxsize=8192)
def _inet(text: str) -> bytes | None:
    found = address(text)
    if found is None:
        return None
    return (_HEAD_4 if found.version == 4 else _HEAD_6) + found.packed


def inets(array: pa.Array, suspects: Mask) -> pa.Array:
    """Give addresses as PostgreSQL's inet travels; "" becomes NULL, what is none a suspect."""
    encoded = pc.dictionary_encode(array)
    texts = encoded.dictionary.to_pylist()
    values = [_inet(text) if text else None for text in texts]
    unknown = np.array(
        [bool(text) and value is None for text, value in zip(texts, values, strict=True)], bool
    )
    if unknown.any():
        suspects |= unknown[encoded.indices.to_numpy()]
    return pa.array(values, pa.binary()).take(encoded.indices)
