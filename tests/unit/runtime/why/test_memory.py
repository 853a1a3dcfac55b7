"""The last requests are remembered: bounded in number, bytes and age, and masked when shown."""

from __future__ import annotations

from typing import Any

from hypothesis import given
from hypothesis import strategies as st

from gateway.core.content.masking import Masks
from gateway.core.exchange import AttemptRecord, Decision
from gateway.runtime.why.memory import Entry, Memories, Memory

NOW = 1_790_000_000.0


class Wall:
    now = NOW

    def __call__(self) -> float:
        return self.now


def entry(request_id: str = "1", **facts: Any) -> Entry:
    given: dict[str, Any] = {
        "ended": NOW, "request_id": request_id, "method": "GET", "path": "/a", "query": "",
        "client_ip": "192.0.2.7", "client": "", "route": "", "pipeline": "", "status": 403,
        "reason": "forbidden", "code": "AUTH_003", "detail": "No.", "took": 0.0125, "upstream": "",
        "endpoint": "", "upstream_seconds": 0.0, "tries": (), "attempts": 0, "ended_by": "",
        "decisions": (), "masks": Masks(),
    }  # fmt: skip
    return Entry(**{**given, **facts})


def ids(memory: Memory, most: int = 100, **wanted: str) -> list[str]:
    return [one["request"]["id"] for one in memory.recent(most, wanted)]


def test_what_is_shown():
    decisions = (
        Decision("auth", "passed", "", "p.toml:3"),
        Decision("upstream", "failed", "it is full of a@example.com"),
    )
    tries = (AttemptRecord("a:1", 0.25, "status 503"),)
    made = entry(
        path="/a/b@example.com",
        query="token=x&b=1",
        client="partner",
        route="cameras",
        pipeline="p",
        decisions=decisions,
        upstream="o",
        endpoint="b:2",
        upstream_seconds=0.75,
        tries=tries,
        attempts=2,
        ended_by="status 503",
        masks=Masks(("token",), ("email",), query=True, networks=True),
    )
    assert made.shown() == {
        "time": "2026-09-21T14:13:20.000Z",
        "request": {
            "id": "1", "method": "GET", "path": "/a/***?token=***&b=1", "client_ip": "192.0.2.0",
        },
        "client": "partner",
        "route": "cameras",
        "pipeline": "p",
        "decisions": [
            {"hook": "auth", "outcome": "passed", "why": None, "at": "p.toml:3"},
            {"hook": "upstream", "outcome": "failed", "why": "it is full of ***", "at": None},
        ],
        "upstream": "o",
        "attempts": [
            {"endpoint": "a:1", "ms": 250.0, "why": "status 503"},
            {"endpoint": "b:2", "ms": 500.0, "why": "status 503"},
        ],
        "status": 403,
        "reason": "forbidden",
        "code": "AUTH_003",
        "detail": "No.",
        "duration_ms": 12.5,
    }  # fmt: skip


def test_of_one_id_the_last_is_found():
    memory = Memory(Wall())
    memory.add(entry("a", status=401))
    memory.add(entry("b"))
    memory.add(entry("a", status=403))
    found = memory.find("a")
    assert found is not None and found["status"] == 403
    assert memory.find("c") is None


def test_the_newest_first_and_those_that_are_wanted():
    memory = Memory(Wall())
    for number in range(6):
        memory.add(entry(str(number), client=f"c{number % 2}", route="r"))
    assert ids(memory, 2) == ["5", "4"]
    assert ids(memory, client="c0", route="r") == ["4", "2", "0"]
    assert ids(memory, reason="other") == []


def test_what_is_too_old_is_forgotten():
    wall = Wall()
    memory = Memory(wall)
    memory.bound(10, 10**6, 60.0)
    memory.add(entry("1"))
    wall.now += 61
    memory.add(entry("2", ended=wall.now))
    assert ids(memory) == ["2"] and memory.find("1") is None


@given(st.lists(st.text(max_size=50), max_size=40), st.integers(0, 10), st.integers(0, 20_000))
def test_its_bounds_hold(paths: list[str], most: int, most_bytes: int):
    memory = Memory(Wall())
    memory.bound(most, most_bytes, 60.0)
    for path in paths:
        memory.add(entry(path=path))
        kept = [one for one, _ in memory._entries]
        assert len(kept) <= most and sum(one.size for one in kept) <= most_bytes
        assert memory._bytes == sum(one.size for one in kept)
    memory.bound(0, most_bytes, 60.0)
    assert ids(memory) == [] and memory._bytes == 0
    assert repr(memory) == "<Memory, 0 requests, 0 bytes>"


def test_shadows_have_a_place_of_their_own():
    memories = Memories(Wall())
    memories.bound(10, 10**6, 60.0)
    for number in range(20):
        memories.failures.add(entry(f"failed {number}"))
        memories.shadows.add(entry(f"shadow {number}", client=f"c{number}"))
    assert [len(memories.recent(100, wanted)) for wanted in ({}, {"shadow": "1"})] == [8, 2]
    [found] = memories.recent(100, {"shadow": "", "client": "c18"})
    assert found == memories.find("shadow 18")
    assert memories.find("failed 19") and not memories.find("failed 2")
