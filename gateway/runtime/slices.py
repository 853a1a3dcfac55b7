"""Run long work on the event loop without standing in its way: in slices of a few milliseconds.

The work is a generator that yields where it may be interrupted. It can also yield a function that
touches nothing shared; that runs in a thread, and the generator is sent what it returns.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Generator
from contextlib import closing
from time import monotonic
from typing import Any, TypeVar

T = TypeVar("T")

Steps = Generator[Callable[[], Any] | None, Any, T]

SLICE = 0.005
"""Seconds of work after which the loop does everything else that is due."""


async def in_slices(steps: Steps[T], *, clock: Callable[[], float] = monotonic) -> T:
    """Run `steps` to its end, with turns of the loop in between. Raises what it raises."""
    until = clock() + SLICE
    value: Any = None
    with closing(steps):
        while True:
            try:
                apart = steps.send(value)
            except StopIteration as end:
                return end.value  # type: ignore[no-any-return]
            value = None
            if apart is not None:
                value = await asyncio.to_thread(apart)
                until = clock() + SLICE
            elif clock() >= until:
                await asyncio.sleep(0)
                until = clock() + SLICE


def at_once(steps: Steps[T]) -> T:
    """Run `steps` to its end here and now. Raises what it raises."""
    value: Any = None
    while True:
        try:
            apart = steps.send(value)
        except StopIteration as end:
            return end.value  # type: ignore[no-any-return]
        value = None if apart is None else apart()
