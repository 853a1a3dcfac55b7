"""What was lately found out about credentials: bounded whatever comes, and what is in use stays."""

from __future__ import annotations

from gateway.middlewares.auth.memory import LONGEST, Memory


def test_what_is_put_is_found():
    memory: Memory[str] = Memory(2)
    memory.put("a", ("alice", 10.0))
    assert memory.get("a") == ("alice", 10.0) and memory.get("b") is None
    memory.clear()
    assert memory.get("a") is None and len(memory) == 0


def test_the_newest_stay_and_no_more_than_twice_as_many():
    memory: Memory[int] = Memory(10)
    for number in range(1000):
        memory.put(str(number), (number, 0.0))
        assert len(memory) <= 20
        assert all(
            memory._young.get(str(recent)) or memory._old.get(str(recent))
            for recent in range(max(0, number - 9), number + 1)
        )


def test_a_flood_of_others_does_not_displace_what_is_in_use():
    memory: Memory[str] = Memory(10)
    memory.put("mine", ("alice", 0.0))
    for number in range(1000):
        memory.put(f"flood-{number}", ("nobody", 0.0))
        if number % 5 == 0:
            assert memory.get("mine") == ("alice", 0.0)


def test_what_is_too_long_is_not_remembered():
    memory: Memory[str] = Memory(10)
    memory.put("x" * LONGEST, ("alice", 0.0))
    memory.put("x" * (LONGEST + 1), ("alice", 0.0))
    assert len(memory) == 1
