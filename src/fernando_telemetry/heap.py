"""How memory is managed: the C library's allocator, and Python's collector of cycles.

gRPC reads into blocks of 64 KiB, and glibc keeps those in heaps that fill with holes: while 200
streams wait for their turn that alone was a quarter of the process. With many streams blocks are
therefore given back one by one, which costs time (docs/decisions/0004-memory.md).
"""

from __future__ import annotations

import asyncio
import ctypes
import gc
import os
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Final

# From malloc.h of glibc.
_M_TRIM_THRESHOLD: Final = -1
_M_MMAP_THRESHOLD: Final = -3
_M_ARENA_MAX: Final = -8

# gRPC's threads would open eight heaps per core, each with holes of its own.
HEAPS: Final = 2
# From so many streams on, memory goes before speed.
MANY_STREAMS: Final = 64
# A block this large is a mapping of its own that a free gives back. Below gRPC's blocks, so that
# many streams leave no holes; but each mapping costs a page fault for every 4 KiB, which was a
# third of the server's time under load.
MAPPED_FROM_BYTES_OF_MANY: Final = 32 * 1024
MAPPED_FROM_BYTES: Final = 4 * 1024 * 1024
# Free memory that may stay at the end of a heap: a group's columns come and go.
KEPT_AT_END_BYTES: Final = 64 * 1024 * 1024

TRIM_INTERVAL_SECONDS: Final = 1.0
TRIM_GROWTH_BYTES: Final = 32 * 1024 * 1024
_STATM: Final = Path("/proc/self/statm")


class Heap:
    """Sets the C library's allocator up; without effect where there is no mallopt (musl, macOS).

    The promise of bounded memory holds there too, with more room for holes.
    """

    def __init__(self) -> None:
        self._many = False
        self._library: ctypes.CDLL | None = None
        if sys.platform.startswith("linux"):
            library = ctypes.CDLL(None)
            if hasattr(library, "mallopt") and hasattr(library, "malloc_trim"):
                self._library = library

    def begin(self) -> None:
        """Set it up, before the process has threads."""
        self._set(_M_ARENA_MAX, HEAPS)
        self._set(_M_TRIM_THRESHOLD, KEPT_AT_END_BYTES)
        self._set(_M_MMAP_THRESHOLD, MAPPED_FROM_BYTES)

    def note_streams(self, count: int) -> None:
        """Choose between speed and memory by the number of open streams."""
        many = count >= MANY_STREAMS
        if many == self._many or self._library is None:
            return
        # Not back and forth at the border.
        if not many and count > MANY_STREAMS // 2:
            return
        self._many = many
        self._set(_M_MMAP_THRESHOLD, MAPPED_FROM_BYTES_OF_MANY if many else MAPPED_FROM_BYTES)
        self._set(_M_TRIM_THRESHOLD, 0 if many else KEPT_AT_END_BYTES)
        self._library.malloc_trim(0)

    async def keep_trimmed(self, is_busy: Callable[[], bool]) -> None:
        """Give back what a time of load has left, once it is over; never ends.

        Args:
            is_busy: Tells whether memory is in use that will be wanted again at once.
        """
        least = _resident_bytes()
        while True:
            await asyncio.sleep(TRIM_INTERVAL_SECONDS)
            resident = _resident_bytes()
            least = min(least, resident)
            # With many streams memory goes before speed, and a queue that stalls never empties.
            waits = is_busy() and not self._many
            if self._library is None or waits or resident < least + TRIM_GROWTH_BYTES:
                continue
            # In a thread: it walks through all heaps, and the interpreter runs meanwhile.
            await asyncio.to_thread(self._library.malloc_trim, 0)
            least = _resident_bytes()

    def _set(self, option: int, value: int) -> None:
        if self._library is not None:
            self._library.mallopt(option, value)


def _resident_bytes() -> int:
    """Give the memory of this process; 0 where that cannot be told so easily."""
    try:
        return int(_STATM.read_text().split()[1]) * os.sysconf("SC_PAGE_SIZE")
    except OSError:
        return 0


# Container objects made and not yet freed before the collector looks at the youngest ones. A
# group's messages alone are more than Python's default, and none of them is in a cycle.
YOUNG_OBJECTS: Final = 20_000


def settle() -> None:
    """Take what the start has made out of the collector's sight, once, when all is running.

    The modules are some 300,000 objects that live as long as the process; each full collection
    walked through them (a fifth of the server's time under load).
    """
    gc.collect()
    gc.freeze()
    gc.set_threshold(YOUNG_OBJECTS, 20, 20)
