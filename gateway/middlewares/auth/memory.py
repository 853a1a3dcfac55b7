"""A bounded cache of what was found out about credentials."""

from __future__ import annotations

from typing import Generic, TypeVar

T = TypeVar("T")

LONGEST = 16 * 1024
"""Letters of something that is worth remembering."""


class Memory(Generic[T]):
    """Values by what was presented, each with the time until which it holds.

    At least the `size` newest are kept, at most twice as many, in two generations: a full young one
    becomes the old one, and the old one is dropped at once. A hit in the old one moves to the young
    one. So a flood of other entries costs a hit one more look-up, never a scan.
    """

    __slots__ = ("_old", "_size", "_young")

    def __init__(self, size: int) -> None:
        self._size = size
        self._young: dict[str, tuple[T, float]] = {}
        self._old: dict[str, tuple[T, float]] = {}

    def __len__(self) -> int:
        return len(self._young.keys() | self._old.keys())

    def get(self, presented: str) -> tuple[T, float] | None:
        """Return the value and the time until which it holds; the caller compares."""
        found = self._young.get(presented)
        if found is None and self._old:
            found = self._old.pop(presented, None)
            if found is not None:
                self.put(presented, found)
        return found

    def put(self, presented: str, value: tuple[T, float]) -> None:
        if len(presented) > LONGEST:
            return
        if len(self._young) >= self._size:
            self._old, self._young = self._young, {}
        self._young[presented] = value

    def clear(self) -> None:
        """Forgets everything."""
        self._young.clear()
        self._old.clear()
