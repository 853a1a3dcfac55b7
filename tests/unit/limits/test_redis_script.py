"""Memory, Redis and a supervisor decide alike: every algorithm's decisions in Python, in Lua and in
the book, request by request, on an injected clock."""

from __future__ import annotations

import socket
from collections import deque
from collections.abc import Iterator
from dataclasses import dataclass, field
from itertools import count

import hiredis
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from gateway.core.clock import Clock
from gateway.limits import book
from gateway.limits.algorithms import LEEWAY, REFUND_DEPTH, Limit, Taking
from gateway.limits.buckets import Buckets
from gateway.limits.ledger import limit_terms
from gateway.limits.quotas import ALL_ALGORITHMS, quota_limit, zone_of
from gateway.limits.redis_script import LIMITS
from tests.redis import RedisServer, shared_redis

__all__ = ["shared_redis"]

names = count()
TIMED = [name for name in ALL_ALGORITHMS if name != "concurrency"]


@dataclass
class Lua:
    """The script on a real server, asked synchronously."""

    socket: socket.socket
    reader: hiredis.Reader = field(default_factory=hiredis.Reader)

    def call(
        self, now: float, action: str, *rules: tuple[str, str, Limit, float, float, str, str]
    ) -> list[int]:
        """rules: key, algorithm, limit, cost, flag, and the algorithm's own two."""
        words: list[bytes | str] = [
            "EVAL",
            LIMITS.text,
            str(len(rules)),
            *(rule[0] for rule in rules),
            f"{now!r}",
            action,
        ]
        for _, algorithm, limit, cost, flag, first, second in rules:
            words += [
                algorithm,
                *(
                    repr(one)
                    for one in (limit.quota, limit.rate, limit.window, limit.burst, cost, flag)
                ),
            ]
            words += [first, second]
        self.socket.sendall(hiredis.pack_command(tuple(words)))
        while (answer := self.reader.gets()) is False:
            self.reader.feed(self.socket.recv(65536))
        if isinstance(answer, Exception):
            raise answer
        return answer


class Booked:
    """The supervisor's book, asked likewise."""

    def __init__(self) -> None:
        self.now = 0.0
        self.book = book.Book(Clock(lambda: self.now, lambda: self.now))

    def call(
        self, now: float, action: str, *rules: tuple[str, str, Limit, float, float, str, str]
    ) -> list[int]:
        self.now = now
        terms: list[bytes] = []
        for _, algorithm, limit, cost, flag, first, second in rules:
            terms += limit_terms(algorithm, limit)
            terms += (repr(cost).encode(), repr(flag).encode(), first.encode(), second.encode())
        return self.book.run(action.encode(), [rule[0].encode() for rule in rules], terms, 1)


@pytest.fixture(scope="module", params=["redis", "book"])
def lua(request: pytest.FixtureRequest) -> Iterator[Lua | Booked]:
    if request.param == "book":
        with pytest.MonkeyPatch.context() as patch:
            patch.setattr(book, "SETTLING", 0.0)
            yield Booked()
        return
    server: RedisServer = request.getfixturevalue("shared_redis")
    with socket.create_connection(("127.0.0.1", server.port)) as connection:
        yield Lua(connection)


def limits(name: str) -> st.SearchStrategy[Limit]:
    if name == "quota":
        return st.builds(
            lambda quota: quota_limit(quota, "hour", zone_of("UTC")), st.integers(1, 9)
        )
    windowed = st.builds(Limit.windowed, st.integers(1, 9), st.sampled_from([0.5, 1.0, 4.0]))
    if name != "token_bucket":
        return windowed
    return st.builds(
        Limit.refilled, st.integers(1, 12), st.sampled_from([0.5, 1.0, 8.0]), st.integers(0, 6)
    )


requests = st.lists(
    st.tuples(
        st.one_of(st.just(0), st.integers(1, 40), st.integers(40, 400)),
        st.sampled_from(["take", "take", "take", "charge", "refund"]),
        st.integers(1, 4),
    ),
    min_size=1,
    max_size=25,
)
"""Gap in 64ths of a second, what is done and its cost. A refund is of the oldest request that had
none."""


@pytest.mark.parametrize("name", TIMED)
@settings(max_examples=60, deadline=None)
@given(data=st.data(), steps=requests)
def test_lua_decides_like_python(
    lua: Lua, name: str, data: st.DataObject, steps: list[tuple[int, str, int]]
):
    limit, key = data.draw(limits(name)), f"{{contract}}:{next(names)}"
    buckets, ticks = Buckets(name, limit), 100_000 * 64
    takings: deque[Taking] = deque()
    for gap, action, cost in steps:
        ticks += gap * (60 if name == "quota" else 1)
        now, cost = ticks / 64, min(cost, int(limit.quota))
        ends = (
            (repr(limit.ends(now)), repr(limit.ends(limit.ends(now)))) if limit.ends else ("", "")
        )
        if action == "charge":
            buckets.charge(key, now, cost)
            lua.call(now, "charge", (key, name, limit, cost, 0, *ends))
        elif action == "refund":
            if takings:
                taking = takings.popleft()
                buckets.refund(key, now, cost, taking)
                own = repr(taking.left if limit.ends is None else limit.ends(taking.at))
                lua.call(now, "refund", (key, name, limit, cost, taking.at * 1e6, own, ""))
        else:
            state, (after, left, wait) = buckets.check(key, now, cost, 10)
            told_left, told_wait, clock = lua.call(now, "take", (key, name, limit, cost, 0, *ends))
            assert (left >= 0) is (told_left >= 0) and clock == now * 1e6
            if left >= 0:
                buckets.commit(key, after, now, cost)
                takings.append(Taking(now, left))
                assert told_left / 1e6 == pytest.approx(left, abs=2e-6)
            else:
                buckets.undo(state, after, cost)
                assert told_wait / 1e6 == pytest.approx(wait, abs=2e-5)
        left, _ = buckets.algorithm.left(buckets.find(key), limit, now)
        assert lua.call(now, "peek", (key, name, limit, 1, 0, *ends))[0] / 1e6 == pytest.approx(
            max(0.0, left), abs=2e-6
        )


changes = st.lists(
    st.tuples(
        st.integers(1, 200),
        st.lists(st.integers(1, 9), max_size=5),
        st.integers(1, 9),
        st.sampled_from([0.5, 1.0, 4.0]),
    ),
    min_size=2,
    max_size=6,
)
"""Gap in 64ths of a second, what requests then cost, and the limit by which the next count."""


@pytest.mark.parametrize("name", TIMED)
@settings(max_examples=60, deadline=None)
@given(steps=changes)
def test_a_changed_limit_makes_the_same_of_a_state(
    lua: Lua, name: str, steps: list[tuple[int, list[int], int, float]]
):
    key, ticks = f"{{changed}}:{next(names)}", 100_000 * 64

    def limit_of(quota: int, window: float) -> Limit:
        return (
            quota_limit(quota, "hour", zone_of("UTC"))
            if name == "quota"
            else Limit.windowed(quota, window)
        )

    limit = limit_of(5, 1.0)
    clock = Clock(lambda: ticks / 64, lambda: ticks / 64)
    buckets = Buckets(name, limit, clock)
    for gap, costs, quota, window in steps:
        ticks += gap * (60 if name == "quota" else 1)
        now = ticks / 64
        for cost in costs:
            ends = (
                (repr(limit.ends(now)), repr(limit.ends(limit.ends(now))))
                if limit.ends
                else ("", "")
            )
            cost = min(cost, int(limit.quota))
            state, (after, left, _) = buckets.check(key, now, cost, 10)
            told, _, _ = lua.call(now, "take", (key, name, limit, cost, 0, *ends))
            assert (left >= 0) is (told >= 0)
            if left >= 0:
                buckets.commit(key, after, now, cost)
                assert told / 1e6 == pytest.approx(left, abs=2e-6)
            else:
                buckets.undo(state, after, cost)
        limit = limit_of(quota, window)
        buckets.adopt(limit)
        buckets.charge(key, now, 0)
        # Redis rescales when it first hears of the new limit.
        ends = (
            (repr(limit.ends(now)), repr(limit.ends(limit.ends(now)))) if limit.ends else ("", "")
        )
        lua.call(now, "charge", (key, name, limit, 0, 0, *ends))


@pytest.mark.parametrize("name", TIMED)
def test_none_counts_unless_all_have_room(lua: Lua, name: str):
    wide, narrow = f"{{pair}}:{next(names)}", f"{{pair}}:{next(names)}"
    limit, one = Limit(3.0, 0.01, 300.0), Limit(1.0, 0.01, 300.0)
    both = ((wide, name, limit, 1, 0, "9e9", "9.1e9"), (narrow, name, one, 1, 0, "9e9", "9.1e9"))
    assert [value >= 0 for value in lua.call(1000.0, "take", *both)[:-1:2]] == [True, True]
    for _ in range(4):
        assert [value >= 0 for value in lua.call(1000.0, "take", *both)[:-1:2]] == [True, False]
    assert lua.call(1000.0, "peek", both[0])[0] == 2_000_000
    # A shadow says what it would have refused, and stops nobody.
    shadow = (*both[1][:4], 1, *both[1][5:])
    assert [value >= 0 for value in lua.call(1000.0, "take", both[0], shadow)[:-1:2]] == [
        True,
        False,
    ]
    assert lua.call(1000.0, "peek", both[0])[0] == 1_000_000


@pytest.mark.parametrize("name", ["token_bucket", "fixed_window", "sliding_window", "quota"])
def test_a_lease_grants_what_there_is_and_counts_debts_in_any_case(lua: Lua, name: str):
    key, limit = f"{{lease}}:{next(names)}", Limit(10.0, 0.01, 1000.0)

    def lease(debt: float, wanted: float) -> tuple[float, float, bool]:
        left, granted, _, wait, _ = lua.call(
            1000.0, "lease", (key, name, limit, debt, wanted, "9e9", "9.1e9")
        )
        return left / 1e6, granted / 1e6, wait > 0

    assert lease(2, 5) == (3, 5, False)
    assert lease(0, 5) == (0, 3, True)
    assert lease(4, 5) == (0, 0, True)
    assert lease(-5, 0) == (1, 0, False)
    assert lease(0, 5) == (0, 1, True)


bursts = st.lists(
    st.tuples(
        st.integers(0, 80),
        st.sampled_from(["take", "lease"]),
        st.integers(-3, 3),
        st.integers(0, 9),
    ),
    min_size=1,
    max_size=25,
)
"""Gap in 64ths of a second, what is done, its debt (less than 0: credit that goes back), units wanted."""


@pytest.mark.parametrize("lua", ["redis"], indirect=True)
@settings(max_examples=150, deadline=None)
@given(burst=st.integers(1, 6), steps=bursts)
def test_a_burst_is_leased_alike_and_never_beyond_itself(
    lua: Lua, burst: int, steps: list[tuple[int, str, int, int]]
):
    limit, key, booked = Limit.refilled(40, 8.0, burst), f"{{burst}}:{next(names)}:p", Booked()
    ticks, admitted = 100_000 * 64, list[float]()
    for gap, action, debt, wanted in steps:
        ticks += gap
        now = ticks / 64
        cost, flag = (1, 0) if action == "take" else (debt, 0 if debt < 0 else wanted)
        rule = (key, "token_bucket", limit, cost, flag, "", "")
        told = lua.call(now, action, rule)
        assert told[:-1] == pytest.approx(booked.call(now, action, rule)[:-1], abs=30)
        before = sum(at > now - 1.0 for at in admitted)
        if action == "take":
            assert (told[0] >= 0) is (before < burst)
            admitted += [now] * (told[0] >= 0)
        else:
            debt = max(0, debt)
            assert told[1] / 1e6 == max(0, min(flag, burst - before - debt))
            admitted += [now] * (debt + told[1] // 1_000_000)
            assert (told[3] > 0) is (sum(at > now - 1.0 for at in admitted) >= burst)


@pytest.mark.parametrize("lua", ["redis"], indirect=True)
def test_slots_are_by_name_and_free_by_themselves(lua: Lua):
    key, limit = f"{{slots}}:{next(names)}", Limit(2.0, 1.0, 1.0)

    def call(now: float, action: str, cost: int, slot: str) -> bool:
        return lua.call(now, action, (key, "concurrency", limit, cost, 0, slot, "60"))[0] >= 0

    assert [call(1000.0, "take", 1, slot) for slot in "abc"] == [True, True, False]
    call(1000.0, "refund", 1, "a")
    call(1000.0, "refund", 1, "a")
    assert [call(1001.0, "take", 1, slot) for slot in "cd"] == [True, False]
    call(1030.0, "charge", 1, "c")  # renewed
    assert [call(1061.0, "take", 1, slot) for slot in "ef"] == [True, False]


@pytest.mark.parametrize("lua", ["redis"], indirect=True)
def test_keys_expire_when_they_would_decide_like_fresh_ones(lua: Lua, shared_redis: RedisServer):
    for name in TIMED:
        key = f"{{expiry}}:{next(names)}"
        lua.call(1000.0, "take", (key, name, Limit(2.0, 0.2, 10.0), 1, 0, "1010", "1020"))
        milliseconds = int(shared_redis.command("PTTL", key)[1:])
        assert 4000 < milliseconds <= 21_000, name


def test_a_clock_that_goes_back_gives_nothing_away(lua: Lua):
    for name in TIMED:
        key, rule = f"{{back}}:{next(names)}", Limit(2.0, 1.0, 2.0)
        for now in (1000.0, 1000.0):
            lua.call(now, "take", (key, name, rule, 1, 0, "2000", "3000"))
        for now in (990.0, 995.0, 999.0):
            assert lua.call(now, "take", (key, name, rule, 1, 0, "2000", "3000"))[0] == -1, name


def test_the_leeway_is_the_same():
    assert f"local LEEWAY = {LEEWAY:.0e}".replace("e-0", "e-") in LIMITS.text.decode()
    assert f"r.count - index > {REFUND_DEPTH} then" in LIMITS.text.decode()


@pytest.mark.parametrize("lua", ["redis"], indirect=True)
def test_a_log_costs_the_same_whatever_a_request_costs(lua: Lua, shared_redis: RedisServer):
    """An upstream may report any cost: 5e6 units once kept Redis busy for 18 s."""
    key, limit = f"{{dear}}:{next(names)}", Limit.windowed(100_000, 60.0)
    lua.call(1000.0, "take", (key, "sliding_log", limit, 1, 0, "", ""))
    lua.call(1000.0, "charge", (key, "sliding_log", limit, 99_999, 0, "", ""))
    assert shared_redis.command("LLEN", key) == ":2\r\n"
    left, wait, _ = lua.call(1030.0, "take", (key, "sliding_log", limit, 50_000, 0, "", ""))
    assert (left, wait) == (-1, pytest.approx(30e6, abs=2))


@pytest.mark.parametrize("lua", ["redis"], indirect=True)
def test_what_comes_back_from_an_old_log_is_begun_afresh(lua: Lua, shared_redis: RedisServer):
    """Version 0.1 kept a time for every unit."""
    key, limit = f"{{old}}:{next(names)}", Limit.windowed(2, 60.0)
    shared_redis.command("RPUSH", key, "999", "999.5")
    shared_redis.command("SET", f"{key}:limit", "2 60")
    assert lua.call(1000.0, "take", (key, "sliding_log", limit, 1, 0, "", ""))[0] == 1_000_000


def test_a_refund_looks_through_so_many_later_requests(lua: Lua):
    key, limit = f"{{deep}}:{next(names)}", Limit.windowed(5000, 60.0)
    for number in range(REFUND_DEPTH + 1):
        lua.call(1000.0 + number / 64, "take", (key, "sliding_log", limit, 1, 0, "", ""))
    now = 1000.0 + REFUND_DEPTH / 64
    lua.call(now, "refund", (key, "sliding_log", limit, 1, 1000.0 * 1e6, "", ""))
    assert (
        lua.call(now, "peek", (key, "sliding_log", limit, 1, 0, "", ""))[0]
        == (4999 - REFUND_DEPTH) * 1_000_000
    )
    lua.call(now, "refund", (key, "sliding_log", limit, 1, (1000.0 + 1 / 64) * 1e6, "", ""))
    assert (
        lua.call(now, "peek", (key, "sliding_log", limit, 1, 0, "", ""))[0]
        == (5000 - REFUND_DEPTH) * 1_000_000
    )
