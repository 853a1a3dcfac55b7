"""The last refused, failed and slow requests of a process, bounded in number, bytes and age.

Values are masked when they are shown, as the pipeline's log masks them.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Iterator, Mapping
from typing import Any, NamedTuple

from gateway.core.content.masking import Masks
from gateway.core.exchange import AttemptRecord, Decision
from gateway.core.problems import timestamp

MOST = 10_000
"""Requests remembered by default."""
MOST_BYTES = 32 * 1024 * 1024
"""About, of all of them."""
LONGEST = 1024
"""Characters of one text; of a longer one the rest is left out."""
OVERHEAD = 900
"""Bytes of an entry beside its texts."""
PER_DECISION = 120
SHADOWS = 5
"""One of so many places is for requests that only hooks in shadow would have refused."""

Shown = dict[str, Any]


class Entry(NamedTuple):
    """One request. ended: Unix time. took, upstream_seconds: seconds. masks: of its pipeline."""

    ended: float
    request_id: str
    method: str
    path: str
    query: str
    client_ip: str
    client: str
    route: str
    pipeline: str
    status: int
    reason: str
    code: str
    detail: str
    took: float
    upstream: str
    endpoint: str
    upstream_seconds: float
    tries: tuple[AttemptRecord, ...]
    attempts: int
    ended_by: str
    decisions: tuple[Decision, ...]
    masks: Masks

    @property
    def size(self) -> int:
        """About how many bytes it takes."""
        texts = len(self.path) + len(self.query) + len(self.request_id) + len(self.client)
        each = sum(PER_DECISION + len(one.why) for one in self.decisions)
        return OVERHEAD + texts + each + sum(100 + len(one.why) for one in self.tries)

    def shown(self) -> Shown:
        """Return it as `gateway why --json` shows it."""
        text = self.masks.text
        return {
            "time": timestamp(self.ended),
            "request": {
                "id": self.request_id,
                "method": self.method,
                "path": text(self.masks.target(self.path, self.query)),
                "client_ip": self.masks.address(self.client_ip),
            },
            "client": text(self.client) or None,
            "route": self.route or None,
            "pipeline": self.pipeline or None,
            "decisions": [shown_decision(one, text) for one in self.decisions],
            "upstream": self.upstream or None,
            "attempts": [
                {"endpoint": name, "ms": milliseconds(seconds), "why": text(why)}
                for name, seconds, why in self._attempts()
            ],
            "status": self.status,
            "reason": self.reason or None,
            "code": self.code or None,
            "detail": text(self.detail) or None,
            "duration_ms": milliseconds(self.took),
        }

    def _attempts(self) -> Iterator[AttemptRecord]:
        yield from self.tries
        if self.attempts > len(self.tries):
            last = self.upstream_seconds - sum(one.seconds for one in self.tries)
            yield AttemptRecord(self.endpoint, last, self.ended_by)


class Memory:
    """Entries in the order in which they ended. wall: Unix time in seconds."""

    def __init__(self, wall: Callable[[], float]) -> None:
        self._wall = wall
        self._entries: deque[tuple[Entry, int]] = deque()
        self._bytes = 0
        self.most, self.most_bytes, self.retention = MOST, MOST_BYTES, float("inf")

    def __repr__(self) -> str:
        return f"<Memory, {len(self._entries)} requests, {self._bytes} bytes>"

    def bound(self, most: int, most_bytes: int, retention: float) -> None:
        """Keep at most so many requests and bytes, and each for `retention` seconds."""
        self.most, self.most_bytes, self.retention = most, most_bytes, retention
        self._trim()

    def add(self, entry: Entry) -> None:
        """Remember a request; the oldest ones make room for it."""
        size = entry.size
        self._entries.append((entry, size))
        self._bytes += size
        if len(self._entries) > self.most or self._bytes > self.most_bytes:
            self._trim()

    def find(self, request_id: str) -> Shown | None:
        """Return the last request of that id."""
        return next((one.shown() for one in self._newest() if one.request_id == request_id), None)

    def recent(self, most: int, wanted: Mapping[str, str]) -> list[Shown]:
        """Return the last requests, the newest first.

        wanted: values of Entry's fields `client`, `route`, `reason`, that those shown have.
        """
        found: list[Shown] = []
        for one in self._newest():
            if len(found) >= most:
                break
            if all(getattr(one, name) == value for name, value in wanted.items()):
                found.append(one.shown())
        return found

    def _newest(self) -> Iterator[Entry]:
        self._trim()
        return (entry for entry, _ in reversed(self._entries))

    def _trim(self) -> None:
        entries, since = self._entries, self._wall() - self.retention
        while entries and (
            len(entries) > self.most or self._bytes > self.most_bytes or entries[0][0].ended < since
        ):
            self._bytes -= entries.popleft()[1]


class Memories:
    """The requests that `gateway why` knows.

    shadows: those that were answered well, and that hooks in shadow would have refused. They may be
    all there are, so they have a place of their own.
    """

    def __init__(self, wall: Callable[[], float]) -> None:
        self.failures, self.shadows = Memory(wall), Memory(wall)

    def bound(self, most: int, most_bytes: int, retention: float) -> None:
        """As Memory's, for all together."""
        few, few_bytes = most // SHADOWS, most_bytes // SHADOWS
        self.failures.bound(most - few, most_bytes - few_bytes, retention)
        self.shadows.bound(few, few_bytes, retention)

    def find(self, request_id: str) -> Shown | None:
        """As Memory's."""
        return self.failures.find(request_id) or self.shadows.find(request_id)

    def recent(self, most: int, wanted: Mapping[str, str]) -> list[Shown]:
        """As Memory's; with `shadow` among `wanted`, of the shadows."""
        fields = {name: value for name, value in wanted.items() if name != "shadow"}
        return (self.shadows if "shadow" in wanted else self.failures).recent(most, fields)


def shown_decision(one: Decision, text: Callable[[str], str] = str) -> Shown:
    """Return a decision as JSON has it."""
    return {
        "hook": one.hook,
        "outcome": one.outcome,
        "why": text(one.why) or None,
        "at": one.at or None,
    }


def milliseconds(seconds: float) -> float:
    return int(seconds * 1e6) / 1e3
