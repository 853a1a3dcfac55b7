from __future__ import annotations

from gateway.core.headers import Memo, lower


def test_a_memo_decides_once_and_is_bounded():
    asked: list[bytes] = []

    def decide(name: bytes) -> int:
        asked.append(name)
        return len(name)

    memo = Memo(decide, most=3, longest=4)
    assert [memo[b"a"], memo[b"a"], memo[b"bb"]] == [1, 1, 2]
    assert asked == [b"a", b"bb"]
    assert memo[b"long name"] == 9
    assert b"long name" not in memo, "decided, not remembered"
    memo[b"c"], memo[b"d"]
    assert len(memo) == 1, "all are forgotten when there are too many"
    assert memo[b"a"] == 1


def test_names_in_lower_case():
    assert [lower(b"X-Key"), lower(b"x-key"), lower(b"X-" + b"A" * 100)] == [
        b"x-key",
        b"x-key",
        b"x-" + b"a" * 100,
    ]
