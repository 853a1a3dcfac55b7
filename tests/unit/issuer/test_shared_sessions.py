"""Sessions, attempts and users in a real Redis: as the local ones are, and what several gateways
are to each other."""

from __future__ import annotations

import math
import random
from collections.abc import AsyncIterator, Callable
from dataclasses import replace
from functools import partial
from typing import Any

import pytest

from gateway.core.clock import Clock
from gateway.core.telemetry import Telemetry
from gateway.credentials.files import CredentialError
from gateway.credentials.users import user_edits
from gateway.credentials.users.redis_users import RedisUsers, packed, unpacked
from gateway.credentials.users.user_file import User
from gateway.issuer import sessions
from gateway.issuer.attempts import AttemptRule, LocalAttempts
from gateway.issuer.sessions import LocalSessions, SessionLimits, Sessions
from gateway.issuer.shared_attempts import SharedAttempts
from gateway.issuer.shared_sessions import SharedSessions
from gateway.issuer.stored_users import StoredUsers
from gateway.store import stores
from gateway.store.redis.client import RedisClient
from gateway.store.stores import StoreDown
from tests.redis import Cluster, RedisServer, redis, shared_redis  # noqa: F401
from tests.until import until

LIMITS = SessionLimits(idle=100.0, lifetime=1000.0, most_of_user=3, most=10, access=50.0)
T = 1_700_000_000.0
RULE = AttemptRule(free=3, delay=1.0, longest=60.0, forget=600.0)
WIDE = AttemptRule(free=1000, delay=1.0, longest=60.0, forget=600.0)
HASH = "$argon2id$v=19$m=8,t=1,p=1$c29tZXNhbHQ$" + "A" * 43


def reader(url: str) -> RedisClient:
    return RedisClient(stores.parse(url), 1.0, Clock(wall=lambda: T), Telemetry())


@pytest.fixture
async def store(shared_redis: RedisServer) -> AsyncIterator[Callable[[], RedisClient]]:  # noqa: F811
    """Ways to a database of the test's own, one for each gateway."""
    url = f"{shared_redis.url}/9"
    made: list[RedisClient] = []

    def one() -> RedisClient:
        made.append(reader(url))
        return made[-1]

    await one().command(b"FLUSHDB", key=b"x")
    yield one
    for way in made:
        way.close()


async def read(shared: SharedSessions) -> SharedSessions:
    """The same once it knows which sessions have ended."""
    await until(lambda: shared._read)
    return shared


@pytest.fixture(params=["local", "shared"])
async def kept(request: pytest.FixtureRequest, store: Any) -> AsyncIterator[Sessions]:
    if request.param == "local":
        yield LocalSessions()
        return
    one = await read(SharedSessions(store()))
    yield one
    one.close()


async def test_a_life(kept: Sessions):
    told: list[int] = []
    kept.listeners.add(lambda: told.append(1))
    session, first = await kept.begin("alice", ("pwd", "otp"), T, LIMITS)
    claims = {"sid": session.id, "sub": "alice"}
    assert kept.why(claims) == "" and await kept.find(session.id) == session
    turn = await kept.refresh(first, T + 50, LIMITS)
    assert turn.result == "ok" and turn.session is not None
    kept.delivered(turn.session)
    assert replace(turn.session, before="", salt="") == replace(session, seen=T + 50, digest=sessions.digest(turn.token))
    assert (await kept.refresh(turn.token, T + 120, LIMITS)).result == "ok"
    reused = await kept.refresh(first, T + 130, LIMITS)
    assert reused.result == "reused" and reused.session is not None and reused.session.user == "alice" and told
    assert kept.why(claims) and await kept.find(session.id) is None
    for token in (turn.token, first, "x"):
        assert (await kept.refresh(token, T + 130, LIMITS)).result == "unknown"


async def test_a_client_that_tries_again_is_no_thief(kept: Sessions):
    """As long as nobody was given the next token, the one before gets it: the same one, however
    often."""
    _, first = await kept.begin("alice", ("pwd",), T, LIMITS)
    turns = [await kept.refresh(first, T + number, LIMITS) for number in range(3)]
    assert {turn.result for turn in turns} == {"ok"} and len({turn.token for turn in turns}) == 1
    assert turns[0].session is not None
    kept.delivered(turns[0].session)
    following = await kept.refresh(turns[0].token, T + 5, LIMITS)
    assert following.result == "ok" and following.session is not None
    kept.delivered(turns[0].session)  # late: what it says is of a token that is no longer good
    assert (await kept.refresh(turns[0].token, T + 5, LIMITS)).token == following.token
    assert (await kept.refresh(first, T + 5, LIMITS)).result == "reused"
    assert (await kept.refresh(following.token, T + 5, LIMITS)).result == "unknown"
    _, late = await kept.begin("alice", ("pwd",), T, LIMITS)
    await kept.refresh(late, T, LIMITS)
    assert (await kept.refresh(late, T + 100, LIMITS)).result == "expired"


async def test_an_answer_that_comes_too_late(store: Any, monkeypatch: pytest.MonkeyPatch):
    """The store did what was asked, the gateway was told too late: the client tries again, at
    another gateway even."""
    one, two = SharedSessions(store()), SharedSessions(store())
    _, token = await one.begin("alice", ("pwd",), T, LIMITS)
    run = one._run

    async def late(*words: Any) -> Any:
        await run(*words)
        raise StoreDown("too late")

    monkeypatch.setattr(one, "_run", late)
    with pytest.raises(StoreDown):
        await one.refresh(token, T + 1, LIMITS)
    turn = await two.refresh(token, T + 2, LIMITS)
    assert turn.result == "ok" and turn.session is not None
    two.delivered(turn.session)
    assert (await two.refresh(turn.token, T + 3, LIMITS)).result == "ok"
    assert (await two.refresh(token, T + 3, LIMITS)).result == "reused"
    one.close()
    two.close()


async def test_a_code_whose_login_came_to_nothing(store: Any, monkeypatch: pytest.MonkeyPatch):
    one, run = SharedSessions(store()), SharedSessions._run

    async def late(self: SharedSessions, *words: Any) -> Any:
        await run(self, *words)
        raise StoreDown("too late")

    with monkeypatch.context() as patched:
        patched.setattr(SharedSessions, "_run", late)
        with pytest.raises(StoreDown):
            await one.claim("alice", 10)
    assert [await one.claim("alice", 10) for _ in range(2)] == [True, False]
    assert not await one.claim("alice", 9)
    one.close()


async def test_ends_are_known_after_the_store_has_lost_its_data(store: Any):
    shared, way = await read(SharedSessions(store())), store()
    session, _ = await shared.begin("alice", ("pwd",), T, LIMITS)
    await shared.end(session.id)
    await way.command(b"FLUSHDB", key=b"x")
    await shared.load()
    assert shared.why({"sid": session.id, "sub": "alice"})
    shared._ended = {"old": T - 1, "other": T + 1}
    await shared.load()
    assert shared._ended == {"other": T + 1}
    shared.close()


async def test_expiry(kept: Sessions):
    _, idle = await kept.begin("alice", ("pwd",), T, LIMITS)
    assert (await kept.refresh(idle, T + 100, LIMITS)).result == "expired"
    _, token = await kept.begin("alice", ("pwd",), T, LIMITS)
    for now in range(90, 1000, 90):
        turn = await kept.refresh(token, T + now, LIMITS)
        assert turn.result == "ok"
        token = turn.token
    assert (await kept.refresh(token, T + 1000, LIMITS)).result == "expired"


async def test_the_oldest_goes(kept: Sessions):
    begun = [(await kept.begin("alice", ("pwd",), T + now, LIMITS))[0].id for now in range(5)]
    assert [await kept.find(id) is not None for id in begun] == [False, False, True, True, True]
    assert await kept.count("alice", T + 5, LIMITS) == 3


async def test_there_is_a_bound_over_all(kept: Sessions):
    begun = [(await kept.begin(f"user{number}", ("pwd",), T + number, LIMITS))[0].id for number in range(25)]
    assert [await kept.find(id) is not None for id in begun] == [False] * 15 + [True] * 10


async def test_ending(kept: Sessions):
    begun = [(await kept.begin("alice", ("pwd",), T, LIMITS))[0].id for _ in range(3)]
    other, _ = await kept.begin("bob", ("pwd",), T, LIMITS)
    assert await kept.end_others("alice", begun[1], T + 5) == 2
    found = await kept.find(begun[1])
    assert found is not None and found.checked == T + 5 and await kept.find(other.id) == other
    assert await kept.end_others("nobody", "no such", T + 5) == 0
    assert await kept.end("no such") is None and await kept.end("é\ud800") is None
    ended = await kept.end(other.id)
    assert ended == other and kept.why({"sid": other.id, "sub": "bob"})
    assert kept.why({}) and kept.why({"sid": ["x"]})


async def test_ending_those_before(kept: Sessions):
    begun = [(await kept.begin("alice", ("pwd",), T + number, LIMITS))[0].id for number in range(3)]
    other, _ = await kept.begin("bob", ("pwd",), T, LIMITS)
    assert await kept.end_before("alice", T + 1) == 1
    assert [await kept.find(id) is not None for id in (*begun, other.id)] == [False, True, True, True]
    assert await kept.end_before("alice", T + 1) == 0 and await kept.end_before("nobody", T) == 0
    assert await kept.end_before("alice", math.inf) == 2 and await kept.find(other.id) == other


async def test_steps_are_good_once(kept: Sessions):
    assert [await kept.claim("alice", step) for step in (10, 10, 9, 11)] == [True, False, False, True]
    assert await kept.claim("bob", 10)


async def test_gateways_tell_each_other(store: Any):
    one, two = await read(SharedSessions(store())), await read(SharedSessions(store()))
    await until(lambda: two._feed.subscribed and two._feed.version is not None)
    told: list[int] = []
    two.listeners.add(lambda: told.append(1))
    session, token = await one.begin("alice", ("pwd",), T, LIMITS)
    claims = {"sid": session.id, "sub": "alice"}
    assert two.why(claims) == ""
    assert (await two.refresh(token, T + 1, LIMITS)).result == "ok"  # one session, whichever gateway is asked
    await one.end(session.id)
    await until(lambda: two.why(claims))
    assert told
    # A gateway that comes later knows of it as well; what has expired by itself need not be known.
    three = SharedSessions(store())
    await until(lambda: three._feed.version is not None)
    assert three.why(claims) and repr(three).endswith("1 ended>")
    for each in (one, two, three):
        each.close()


async def test_what_has_ended_is_forgotten_once_its_tokens_have_expired(store: Any):
    shared, way = SharedSessions(store()), store()
    for number in range(3):
        session, _ = await shared.begin("alice", ("pwd",), T - 10_000 * number, LIMITS)
        await shared.end(session.id)
    # The last end swept out those whose time was over at its own time; what is read is what still
    # matters.
    fresh = await read(SharedSessions(store()))
    assert len(fresh._ended) == 1
    fresh.close()
    assert int(await way.command(b"ZCARD", b"gateway:{tokens}:ended")) <= 3
    shared._ended = {str(number): T - 1 for number in range(999)}
    shared._end("one", T + 1)
    assert shared._ended == {"one": T + 1}
    shared.unconfirmed()
    shared.close()


async def test_in_a_cluster():
    """All keys have one slot, so that one script may touch them."""
    with Cluster() as cluster:
        way = reader(cluster.url)
        shared, attempts = SharedSessions(way), SharedAttempts(way, RULE, WIDE)
        begun = [(await shared.begin("alice", ("pwd",), T, LIMITS))[0].id for _ in range(5)]
        assert await shared.count("alice", T, LIMITS) == 3
        assert await shared.end_others("alice", begun[-1], T) == 2 and await shared.claim("alice", 5)
        await until(lambda: shared._feed.version is not None and all(shared.why({"sid": id}) for id in begun[:-1]))
        waits = [await attempts.begin("192.0.2.1", "alice", 0.0) for _ in range(4)]
        assert waits[:3] == [0.0] * 3 and waits[3] > 0
        await attempts.succeeded("192.0.2.1", "alice", 0.0)
        StoredUsers(stores.parse(cluster.url)).add(User("alice", HASH))
        alice = await RedisUsers(way).get("alice")
        assert alice is not None and await RedisUsers(way).change(alice, replace(alice, tier="gold"))
        StoredUsers(stores.parse(cluster.url)).remove("alice")
        assert await shared.count("alice", T, LIMITS) == 0
        shared.close()
        way.close()


async def test_while_the_store_is_away(redis: RedisServer):  # noqa: F811
    way = reader(redis.url)
    shared = SharedSessions(way)
    with pytest.raises(StoreDown, match="not been read yet"):
        shared.why({"sid": "x", "sub": "alice"})
    await read(shared)
    session, token = await shared.begin("alice", ("pwd",), T, LIMITS)
    redis.kill()
    with pytest.raises(StoreDown):
        await shared.refresh(token, T, LIMITS)
    assert shared.why({"sid": session.id, "sub": "alice"}) == ""
    shared.close()
    way.close()


async def test_attempts_decide_as_the_local_ones_do(store: Any):
    """The same random walk over both: every answer is the same."""
    local = LocalAttempts(RULE, AttemptRule(6, 2.0, 30.0, 200.0))
    shared = SharedAttempts(store(), RULE, AttemptRule(6, 2.0, 30.0, 200.0), clock=lambda now: b"%.17g" % now)
    dice, now = random.Random(7), T
    for _ in range(400):
        now += dice.choice((0.0, 0.1, 0.5, 3.0, 40.0))
        address, account = f"192.0.2.{dice.randrange(3)}", dice.choice(("alice", "bob", "nobody"))
        waits = [await each.begin(address, account, now) for each in (local, shared)]
        assert waits[0] == pytest.approx(waits[1], abs=1e-5)
        action = dice.choice(("failed", "failed", "failed", "undone", "succeeded"))
        if waits[0] == 0.0 and action != "failed":
            for each in (local, shared):
                await getattr(each, action)(address, account, now)


async def test_attempts_are_shared(store: Any):
    one, two = SharedAttempts(store(), RULE, WIDE), SharedAttempts(store(), RULE, WIDE)
    waits = [await each.begin("192.0.2.1", "alice", 0.0) for each in (one, two, one, two)]
    assert waits[:3] == [0.0, 0.0, 0.0] and 0 < waits[3] <= 1.0
    assert "SharedAttempts redis://" in repr(one)


async def test_users(store: Any, shared_redis: RedisServer):  # noqa: F811
    url = stores.parse(f"{shared_redis.url}/9")
    stored, live = StoredUsers(url), RedisUsers(store())
    stored.add(User("alice", HASH, roles=frozenset(("b", "a")), totp="A" * 32))
    alice = await live.get("alice")
    assert alice == User("alice", HASH, "alice", roles=frozenset(("b", "a")), totp="A" * 32)
    changed = user_edits.at(replace(alice, hash=HASH[:-1] + "E"), T + 0.123456)
    assert await live.change(alice, changed) and not await live.change(alice, changed)
    assert await live.get("alice") == changed == stored.load()["alice"] == unpacked(packed(changed), "")
    assert stored.change(changed, alice) and not stored.change(changed, alice)
    with pytest.raises(CredentialError, match="has a user alice already"):
        stored.add(alice)
    stored.remove("alice")
    assert await live.get("alice") is None
    with pytest.raises(CredentialError, match="has no user alice"):
        stored.remove("alice")
    assert HASH not in repr(live)


async def test_the_command_line_ends_sessions(store: Any, shared_redis: RedisServer):  # noqa: F811
    stored, shared = StoredUsers(stores.parse(f"{shared_redis.url}/9")), await read(SharedSessions(store()))
    stored.add(User("alice", HASH, "alice"))
    for how in ("change", "remove"):
        session, _ = await shared.begin("alice", ("pwd",), T, LIMITS)
        alice = stored.load()["alice"]
        if how == "change":
            stored.change(alice, user_edits.at(alice, T + 5))
        else:
            stored.remove("alice")
        await until(partial(shared.why, {"sid": session.id}))
        assert await shared.find(session.id) is None
    shared.close()


@pytest.mark.parametrize("text", ["x", "[]", "{}", '{"name": "alice"}', '{"name": "alice", "hash": "x"}', '"x"'])
async def test_users_that_make_no_sense(store: Any, text: str):
    way = store()
    await way.command(b"HSET", b"gateway:{tokens}:users", b"alice", text.encode())
    with pytest.raises(StoreDown, match="a user in the store"):
        await RedisUsers(way).get("alice")


async def test_sessions_decide_as_the_local_ones_do(store: Any):
    """The same random walk over both: every result is the same, for tokens that are good, used,
    ended and of others.

    None expires on the way: in Redis that happens by its own clock.
    """
    limits = replace(LIMITS, idle=1e6, lifetime=1e6)
    local, shared = LocalSessions(), await read(SharedSessions(store()))
    dice, now = random.Random(11), T
    pairs: list[tuple[str, str]] = []  # every token that was ever given out: the local one and its counterpart
    for _ in range(300):
        now += dice.choice((1.0, 20.0, 60.0))
        action = dice.choice(("begin", "refresh", "refresh", "refresh", "end", "others"))
        user = dice.choice(("alice", "bob"))
        if action == "begin" or not pairs:
            pairs.append(
                ((await local.begin(user, ("pwd",), now, limits))[1], (await shared.begin(user, ("pwd",), now, limits))[1])
            )
            continue
        mine, theirs = dice.choice(pairs[-6:])
        ids = sessions.session_of(mine), sessions.session_of(theirs)
        if action == "refresh":
            turns = await local.refresh(mine, now, limits), await shared.refresh(theirs, now, limits)
            results = {turn.result for turn in turns}
            assert len(results) == 1, results
            if turns[0].result == "ok":
                pairs.append((turns[0].token, turns[1].token))
        elif action == "end":
            ended = await local.end(ids[0]), await shared.end(ids[1])
            assert (ended[0] is None) == (ended[1] is None)
        else:
            await local.end_others(user, ids[0], now)
            await shared.end_others(user, ids[1], now)
    shared.close()
