"""Counts what retention has taken of the flushes that an export reads."""

from __future__ import annotations

from collections.abc import Mapping

from fernando_telemetry.domain.export_place import FlushPlace
from fernando_telemetry.queries.export_chunks import Piece


class ExpiryCount:
    """How many records of a step's flushes are gone; tells it of those it is through with.

    Args:
        committed: Records by flush id, as many as they were.
        present: Those that are left; None: they are those that are given.
        inside: Where a cut goes on within the first of the flushes: what was given of it is not
            gone, though retention may have taken it since. None: at its beginning.
    """

    def __init__(
        self,
        committed: Mapping[int, int],
        present: Mapping[int, int] | None,
        inside: FlushPlace | None,
    ) -> None:
        self._inside_id = 0 if inside is None else inside.flush_id
        self._given_before = 0 if inside is None else inside.given
        self._committed = dict(committed)
        if present is None and self._inside_id in self._committed:
            self._committed[self._inside_id] -= self._given_before
        self._present = present
        self._row_count = 0
        self._last_id = 0
        self._last_rows = 0

    def give(self, piece: Piece) -> None:
        """Note a piece that is given; they come in the order of flushes."""
        flush_id = piece.last.keys[0]
        known = self._last_rows if flush_id == self._last_id else 0
        self._last_id, self._last_rows = flush_id, known + piece.last_flush_rows
        self._row_count += piece.row_count

    def below_last(self) -> int:
        """Give how many are gone of the flushes below that of the last piece."""
        if self._present is None:
            left = self._row_count - self._last_rows
        else:
            left = self._below(self._present)
        return self._below(self._committed) - left

    def given_of_last(self) -> int:
        """Give how many records of the last piece's flush were given, before a cut as well."""
        before = self._given_before if self._last_id == self._inside_id else 0
        return before + self._last_rows

    def of_all(self) -> int:
        """Give how many are gone of all, when all pieces are given."""
        left = self._row_count if self._present is None else sum(self._present.values())
        return sum(self._committed.values()) - left

    def _below(self, rows: Mapping[int, int]) -> int:
        return sum(count for flush_id, count in rows.items() if flush_id < self._last_id)
