"""Checks of trace and span ids: lower-case hex of a fixed width."""

from __future__ import annotations

from typing import Final

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from fernando_telemetry.ingest.columnar.texts import Mask, Texts, constant, nullable

_HEX: Final = np.zeros(256, bool)
_HEX[list(b"0123456789abcdef")] = True
SHORT_TRACE_ID: Final = 16


def hex_ids(array: pa.Array, width: int, suspects: Mask) -> pa.Array:
    """Check a column of ids; "" becomes NULL.

    A trace id of 16 digits (Zipkin, B3) is padded to 32 on the left. Upper case, all zeros and
    everything else is left to the record checks.
    """
    texts = Texts.of(array)
    present = texts.lengths > 0
    if not present.any():
        return pa.nulls(len(array), pa.string())
    fits = texts.lengths == width
    if width == 2 * SHORT_TRACE_ID:
        short = texts.lengths == SHORT_TRACE_ID
        if short.any():
            array = pc.ascii_lpad(array, width, "0")
            fits |= short
    suspects |= present & ~fits
    bad = ~_HEX[texts.data]
    if bad.any():
        suspects[texts.rows_of(np.flatnonzero(bad))] = True
    # The digit 0 alone: compared byte by byte and only where a zero leads.
    zeros = pc.equal(array, constant("0" * width)).to_numpy(zero_copy_only=False)
    suspects |= zeros & present
    return nullable(array, present)
