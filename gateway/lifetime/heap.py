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
_set: Callable[[int, int], int] | None
try:
    _trim = ctypes.CDLL(None).malloc_trim
    _set = ctypes.CDLL(None).mallopt
except (AttributeError, OSError):  # musl and macOS keep nothing of that kind
    _trim = _set = None

_TRIM_THRESHOLD, _MMAP_THRESHOLD = -1, -3
"""M_TRIM_THRESHOLD and M_MMAP_THRESHOLD of mallopt(3)."""
KEPT = 8 * 2**20
"""Bytes of free heap at its end that are not given back at once."""
MAPPED = 2**20
"""Bytes from which on a piece is mapped apart from the heap, and given back when it is freed."""


def settle() -> bool:
    """Set glibc's thresholds for what streams through; False where there are none to set.

    Pieces of a body are 64 to 256 KiB. With glibc's own thresholds (128 KiB, then what was freed last)
    the heap grows and is trimmed with every few of them: a third of a large body's CPU.
    """
    if _set is None:
        return False
    return bool(_set(_TRIM_THRESHOLD, KEPT) and _set(_MMAP_THRESHOLD, MAPPED))


def give_back() -> None:
    """Returns what is free to the system, after very many objects have gone: some milliseconds, so not for a few.

    A full collection empties CPython's free lists (gc.collect): those keep some of the first objects that went, from everywhere
    among the others, and every one of them a MiB of the allocator's.
    """
    gc.collect()
    if _trim is not None:
        _trim(0)
