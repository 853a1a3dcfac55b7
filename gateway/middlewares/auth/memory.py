"""What was lately found out about credentials: bounded, and cheap to ask."""

from __future__ import annotations

from typing import Generic, TypeVar

T = TypeVar("T")

LONGEST = 16 * 1024
"""Letters of something that is worth remembering."""


class Memory(Generic[T]):
    """Values with the time until which they hold, by what was presented: at least the `size` newest, at most twice as many.

    Two generations: when the young one is full it becomes the old one, and the old one is forgotten at once. What is in use moves
    back to the young; so a flood of other entries costs a hit at most one more look-up, never a scan.
    """

    __slots__ = ("_old", "_size", "_young")

    def __init__(self, size: int) -> None:
        self._size = size
        self._young: dict[str, tuple[T, float]] = {}
        self._old: dict[str, tuple[T, float]] = {}

    def __len__(self) -> int:
        return len(self._young.keys() | self._old.keys())

    def get(self, presented: str) -> tuple[T, float] | None:
        """The value and until when it holds; whoever asks compares."""
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
