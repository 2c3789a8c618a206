"""Tells the C library's allocator to give back what large messages took.

gRPC reads into blocks of 64 KiB, and glibc keeps those in heaps that fill with holes: while 200
streams wait for their turn that alone was a quarter of the process (docs/decisions/0004-memory.md).
"""

from __future__ import annotations

import ctypes
import sys
from typing import Final

# From malloc.h of glibc.
_M_MMAP_THRESHOLD: Final = -3
_M_ARENA_MAX: Final = -8

# Below gRPC's blocks, so that each is a mapping of its own that a free gives back.
MAPPED_FROM_BYTES: Final = 32 * 1024
# gRPC's threads would open eight heaps per core, each with holes of its own.
HEAPS: Final = 2


def limit_heap_holes() -> bool:
    """Set the allocator up, before the process has threads.

    Returns:
        False where the C library has no mallopt (musl, macOS): the promise of bounded memory
        holds there too, with more room for holes.
    """
    if not sys.platform.startswith("linux"):
        return False
    mallopt = getattr(ctypes.CDLL(None), "mallopt", None)
    if mallopt is None:
        return False
    done = [mallopt(_M_MMAP_THRESHOLD, MAPPED_FROM_BYTES), mallopt(_M_ARENA_MAX, HEAPS)]
    return all(done)
