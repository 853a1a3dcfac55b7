"""Say what takes so long, on standard error, once it does."""

from __future__ import annotations

import sys
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager

EVERY = 3.0
"""Seconds until the first line, and between two."""


def _print(line: str) -> None:
    print(line, file=sys.stderr, flush=True)


@contextmanager
def progress(
    doing: str, say: Callable[[str], None] = _print, every: float = EVERY
) -> Iterator[None]:
    """Say that the work in this block goes on, every few seconds. doing: as in "reading files"."""
    ended = threading.Event()

    def tell() -> None:
        seconds = 0.0
        while not ended.wait(every):
            seconds += every
            say(f"gateway: still {doing}, after {seconds:.0f} seconds")

    thread = threading.Thread(target=tell, name="progress", daemon=True)
    thread.start()
    try:
        yield
    finally:
        ended.set()
        thread.join()
