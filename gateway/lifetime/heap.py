"""Memory of the process: what it keeps, and giving back to the system what is free.

A table of 10^6 states is some 30 MiB in one piece. When such a piece is freed, glibc raises the
size from which it maps pieces apart from the heap, and keeps twice that size of free heap for
itself (mallopt(3), M_MMAP_THRESHOLD). So the second such table is not given back unless glibc is
asked to. CPython, too, keeps some objects that it has freed.
"""

from __future__ import annotations

import ctypes
import gc
from collections.abc import Callable

# Looked up at import: an object made among a million states, and kept, would keep pages of theirs.
_trim: Callable[[int], object] | None
_set: Callable[[int, int], int] | None
try:
    _trim = ctypes.CDLL(None).malloc_trim
    _set = ctypes.CDLL(None).mallopt
except (AttributeError, OSError):  # musl and macOS have neither
    _trim = _set = None

_TRIM_THRESHOLD, _MMAP_THRESHOLD = -1, -3
"""M_TRIM_THRESHOLD and M_MMAP_THRESHOLD of mallopt(3)."""
KEPT = 8 * 2**20
"""Bytes of free heap at its end that are not given back at once."""
MAPPED = 2**20
"""Bytes from which on a piece is mapped apart from the heap, and given back when it is freed."""


def settle() -> bool:
    """Set glibc's thresholds for what streams through; False where there are none to set.

    Pieces of a body are 64 to 256 KiB. With glibc's own thresholds (128 KiB, then what was freed
    last) the heap grows and is trimmed with every few of them: a third of a large body's CPU.
    """
    if _set is None:
        return False
    return bool(_set(_TRIM_THRESHOLD, KEPT) and _set(_MMAP_THRESHOLD, MAPPED))


def settle_process() -> None:
    """Prepare the memory of a process that has started and now serves.

    The collector is spared what lives as long as the process, and looks less often at the rest: a
    request leaves no reference cycles behind, so collecting after every 700 new objects, Python's
    default, only walks again and again over what is in flight, a third of a request's cost at a
    high rate.
    """
    settle()
    gc.collect()
    gc.freeze()
    # The middle generation is collected early: a reload makes some 400,000 objects, and looking at
    # all of them at once would stop traffic for 60 ms.
    gc.set_threshold(10_000, 5, 400)


def give_back() -> None:
    """Return free memory to the system. Takes some milliseconds: for when very many objects have
    gone.

    A full collection empties CPython's free lists. Each object in them can keep a MiB of the
    allocator's.
    """
    gc.collect()
    if _trim is not None:
        _trim(0)
