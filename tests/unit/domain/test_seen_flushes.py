"""What a reader of a few rows has seen."""

from __future__ import annotations

import struct

import pytest

from fernando_telemetry.domain.flush_ids import flush_id_of
from fernando_telemetry.domain.seen_flushes import SeenFlushes


def test_rows_of_later_flushes_and_other_lanes_were_not_there() -> None:
    seen = SeenFlushes.of([flush_id_of(1, 3), flush_id_of(2, 9), flush_id_of(1, 7)])
    for known in (seen, SeenFlushes.unpacked(seen.packed())):
        assert known.has(flush_id_of(1, 3))
        assert known.has(flush_id_of(1, 7))
        assert not known.has(flush_id_of(1, 8))
        assert known.has(flush_id_of(2, 9))
        assert not known.has(flush_id_of(2, 10))
        assert not known.has(flush_id_of(3, 1))


def test_half_a_flush_is_refused() -> None:
    with pytest.raises(struct.error):
        SeenFlushes.unpacked(SeenFlushes.of([flush_id_of(1, 1)]).packed()[:-1])
