"""Checks of text columns: length in bytes, U+0000, and "" as NULL."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Final

import numpy as np
import pyarrow as pa

from fernando_telemetry.domain import limits

OFFSET_BYTES: Final = 4

Mask = np.ndarray[Any, np.dtype[np.bool_]]
Bytes = np.ndarray[Any, np.dtype[np.uint8]]
Integers = np.ndarray[Any, np.dtype[np.int64]]


def bitmap(valid: Mask) -> pa.Buffer:
    """Give a validity bitmap."""
    return pa.py_buffer(np.packbits(valid, bitorder="little"))


@dataclass(frozen=True, slots=True)
class Texts:
    """A string column taken apart.

    Attributes:
        array: The column, without NULLs; "" stands for absent.
        offsets: N + 1 places in `data`.
        lengths: Bytes of each text.
        data: Bytes of all texts, one behind the other.
    """

    array: pa.StringArray
    offsets: np.ndarray[Any, np.dtype[np.int32]]
    lengths: np.ndarray[Any, np.dtype[np.int32]]
    data: np.ndarray[Any, np.dtype[np.uint8]]

    @classmethod
    def of(cls, array: Any) -> Texts:
        """Take a column of ptars apart; nothing is copied."""
        _, offsets_buffer, data_buffer = array.buffers()
        offsets = np.frombuffer(offsets_buffer, np.int32)[array.offset :][: len(array) + 1]
        if not len(offsets):
            offsets = np.zeros(1, np.int32)
        data = (np.frombuffer(data_buffer, np.uint8) if data_buffer else np.zeros(0, np.uint8))[
            offsets[0] : offsets[-1]
        ]
        return cls(array, offsets - offsets[0] if offsets[0] else offsets, np.diff(offsets), data)

    def rows_of(self, places: Integers) -> Integers:
        """Give the rows that hold these places of `data`."""
        return np.searchsorted(self.offsets, places, side="right") - 1

    def mark_nul(self, suspects: Mask) -> None:
        """Mark rows with U+0000, which PostgreSQL cannot store."""
        found = self.data == 0
        if found.any():
            suspects[self.rows_of(np.flatnonzero(found))] = True

    def mark_bad(self, suspects: Mask, limit: int = limits.INDEXED_TEXT_BYTES) -> None:
        """Mark rows that are too long or hold U+0000."""
        if len(self.lengths) and self.lengths.max() > limit:
            suspects |= self.lengths > limit
        self.mark_nul(suspects)

    def nullable(self) -> pa.Array:
        """Give the column with NULL for ""."""
        return nullable(self.array, self.lengths > 0)


def nullable(array: Any, valid: Mask) -> pa.Array:
    """Give a string column without NULLs with NULL where it is not valid; nothing is copied."""
    if valid.all():
        return array
    _, offsets, data = array.buffers()
    first = array.offset * OFFSET_BYTES
    return pa.StringArray.from_buffers(len(array), offsets.slice(first), data, bitmap(valid))


def numbers(array: Any) -> tuple[np.ndarray[Any, Any], Mask]:
    """Give a number column's values (0 where NULL) and where it has one."""
    valid = np.ones(len(array), bool)
    if array.null_count:
        valid = array.is_valid().to_numpy(zero_copy_only=False)
        array = array.fill_null(0)
    return array.to_numpy(zero_copy_only=False), valid


def list_lengths(array: Any) -> np.ndarray[Any, np.dtype[np.int32]]:
    """Give the lengths of a list or map column's rows."""
    offsets = np.frombuffer(array.buffers()[1], np.int32)[array.offset :][: len(array) + 1]
    return np.diff(offsets) if len(offsets) else np.zeros(0, np.int32)


def list_offsets(lengths: np.ndarray[Any, Any]) -> pa.Array:
    """Give the offsets of lists of these lengths, one behind the other."""
    return pa.array(np.concatenate(([0], np.cumsum(lengths))).astype(np.int32))


def mark_owners(bad: Mask, lengths: np.ndarray[Any, Any], suspects: Mask) -> None:
    """Mark the rows, of lists of these lengths, that own a bad item."""
    if bad.any():
        suspects[np.repeat(np.arange(len(lengths)), lengths)[bad]] = True


def constant(text: str) -> Any:
    """Give a text as an Arrow scalar.

    With its type: where Arrow has to find that out it looks for optional packages, in every
    call, which takes longer than a small column.
    """
    return pa.scalar(text, pa.string())


def words_of(numbers_given: np.ndarray[Any, Any], words: tuple[str, ...]) -> pa.Array:
    """Give the words of an enum's numbers; NULL for 0 and for what is out of range."""
    known = (numbers_given > 0) & (numbers_given <= len(words))
    places = np.where(known, numbers_given, 0)
    return pa.array([None, *words], pa.string()).take(pa.array(places))
