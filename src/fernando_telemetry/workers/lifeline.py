"""Ends a worker when its parent has ended, however that came.

The kernel sends SIGKILL where it can (Linux): a killed parent takes its workers with it at once,
as a killed server of one process would end. Elsewhere the end of stdin, whose other end only the
parent holds, tells the same.
"""

from __future__ import annotations

import asyncio
import ctypes
import os
import signal
import sys
from typing import Final

_PR_SET_PDEATHSIG: Final = 1
PARENT_IS_GONE: Final = 75


def die_with_parent(parent_pid: int) -> None:
    """Ask the kernel to end this process with its parent; at once where it has ended already.

    The "parent" is the thread that made this process: it has to be the parent's main thread.
    """
    if sys.platform.startswith("linux"):
        ctypes.CDLL(None).prctl(_PR_SET_PDEATHSIG, int(signal.SIGKILL), 0, 0, 0)
    if os.getppid() != parent_pid:
        os._exit(PARENT_IS_GONE)


def watch_parent(stdin: int) -> None:
    """End this process when `stdin` ends; inside a running loop."""

    def look() -> None:
        if not os.read(stdin, 4096):
            os._exit(PARENT_IS_GONE)

    asyncio.get_running_loop().add_reader(stdin, look)
