"""A clock that tests move by hand, with timers (lifetime.supervised.Timers)."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field


@dataclass(eq=False)
class Timer:
    when: float
    callback: Callable[[], None]
    cancelled: bool = False

    def cancel(self) -> None:
        self.cancelled = True


@dataclass
class Timers:
    """`now` starts at 100 s. Callbacks run within `advance`, in the order of their times."""

    now: float = 100.0
    timers: list[Timer] = field(default_factory=list)

    def time(self) -> float:
        return self.now

    def call_at(self, when: float, callback: Callable[[], None]) -> Timer:
        self.timers.append(timer := Timer(when, callback))
        return timer

    @property
    def waiting(self) -> list[float]:
        """Seconds from now to each timer that is set."""
        return sorted(timer.when - self.now for timer in self.timers if not timer.cancelled)

    def advance(self, seconds: float) -> None:
        """Let so much time pass, and run what becomes due on the way."""
        end = self.now + seconds
        while due := [timer for timer in self.timers if not timer.cancelled and timer.when <= end]:
            first = min(due, key=lambda timer: timer.when)
            self.timers.remove(first)
            self.now = max(self.now, first.when)
            first.callback()
        self.now = end
