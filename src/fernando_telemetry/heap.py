"""How memory is managed: the C library's allocator, and Python's collector of cycles.

gRPC reads into blocks of 64 KiB, and glibc keeps those in heaps that fill with holes: while 200
streams wait for their turn that alone was a quarter of the process, so the allocator is told to
give them back (docs/decisions/0004-memory.md).
"""

from __future__ import annotations

import ctypes
import gc
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
