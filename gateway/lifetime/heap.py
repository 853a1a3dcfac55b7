"""Memory that is free inside the process, given back to the system.

A table of 10^6 states is some 30 MiB in one piece. glibc answers the freeing of such pieces by raising the size from which it
maps them apart from the heap, and by keeping twice that size of free heap for itself (mallopt(3), M_MMAP_THRESHOLD): so the
second such table is never given back, unless it is asked to. CPython, too, keeps some objects that it has freed for the next.
"""

from __future__ import annotations

import ctypes
import gc
from collections.abc import Callable

# Found when this is imported: what lives long and is made among a million states keeps pages of theirs.
_trim: Callable[[int], object] | None
try:
    _trim = ctypes.CDLL(None).malloc_trim
except (AttributeError, OSError):  # musl and macOS keep nothing of that kind
    _trim = None


def give_back() -> None:
    """Returns what is free to the system, after very many objects have gone: some milliseconds, so not for a few.

    A full collection empties CPython's free lists (gc.collect): those keep some of the first objects that went, from everywhere
    among the others, and every one of them a MiB of the allocator's.
    """
    gc.collect()
    if _trim is not None:
        _trim(0)
