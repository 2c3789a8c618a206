"""A page of a response: as many messages as fit into its bytes."""

from __future__ import annotations

from collections.abc import Callable
from typing import Final, Generic, TypeVar

from google.protobuf.message import Message

from fernando_telemetry.domain.limits import PAGE_BYTES

Item = TypeVar("Item")
Record = TypeVar("Record", bound=Message)

# What is in a response beside the records: the token, a trace's root and times.
_RESERVED_BYTES: Final = 8 * 1024
# A record's tag and length in front of it.
_FRAME_BYTES: Final = 6


class PageOf(Generic[Item, Record]):
    """Collects the records of one response.

    Args:
        convert: Makes a record of a row.
    """

    def __init__(self, convert: Callable[[Item], Record]) -> None:
        self.records: list[Record] = []
        self._convert = convert
        self._bytes = _RESERVED_BYTES

    def take(self, row: Item) -> bool:
        """Add a row; False, and nothing added, where the page would grow past 2 MiB.

        The first one always fits: a record has at most 512 KiB.
        """
        record = self._convert(row)
        grown = self._bytes + record.ByteSize() + _FRAME_BYTES
        if grown > PAGE_BYTES and self.records:
            return False
        self.records.append(record)
        self._bytes = grown
        return True
