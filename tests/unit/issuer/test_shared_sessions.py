"""Sessions, attempts and users in a real Redis: as the local ones are, and what several gateways
are to each other."""

from __future__ import annotations

import math
import random
from collections.abc import AsyncIterator
from dataclasses import replace
from typing import Any

import pytest

from gateway.credentials.users.redis_users import RedisUsers
from gateway.credentials.users.user_file import User
from gateway.issuer import sessions
from gateway.issuer.sessions import LocalSessions, SessionLimits, Sessions
from gateway.issuer.shared_attempts import SharedAttempts
from gateway.issuer.shared_sessions import SharedSessions
from gateway.issuer.stored_users import StoredUsers
from gateway.store import stores
from gateway.store.stores import StoreDown
from tests.redis import Cluster, RedisServer
from tests.unit.issuer.shared import RULE, WIDE, T, reader
from tests.until import until

LIMITS = SessionLimits(idle=100.0, lifetime=1000.0, most_of_user=3, most=10, access=50.0)
HASH = "$argon2id$v=19$m=8,t=1,p=1$c29tZXNhbHQ$" + "A" * 43


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
    assert replace(turn.session, before="", salt="") == replace(
        session, seen=T + 50, digest=sessions.digest(turn.token)
    )
    assert (await kept.refresh(turn.token, T + 120, LIMITS)).result == "ok"
    reused = await kept.refresh(first, T + 130, LIMITS)
    assert (
        reused.result == "reused"
        and reused.session is not None
        and reused.session.user == "alice"
        and told
    )
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


async def test_only_a_session_near_its_end_is_prolonged(kept: Sessions):
    limits = replace(LIMITS, renewal=30.0)
    _, token = await kept.begin("alice", ("pwd",), T, limits)
    for now, seen in ((60.0, 0.0), (70.0, 70.0), (139.0, 70.0), (140.0, 140.0)):
        turn = await kept.refresh(token, T + now, limits)
        assert turn.session is not None and turn.session.seen == T + seen
        kept.delivered(turn.session)
        token = turn.token
    token = (await kept.refresh(token, T + 200.0, limits)).token
    assert (await kept.refresh(token, T + 240.0, limits)).result == "expired"


async def test_the_oldest_goes(kept: Sessions):
    begun = [(await kept.begin("alice", ("pwd",), T + now, LIMITS))[0].id for now in range(5)]
    assert [await kept.find(id) is not None for id in begun] == [False, False, True, True, True]
    assert await kept.count("alice", T + 5, LIMITS) == 3


async def test_there_is_a_bound_over_all(kept: Sessions):
    begun = [
        (await kept.begin(f"user{number}", ("pwd",), T + number, LIMITS))[0].id
        for number in range(25)
    ]
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
    assert [await kept.find(id) is not None for id in (*begun, other.id)] == [
        False,
        True,
        True,
        True,
    ]
    assert await kept.end_before("alice", T + 1) == 0 and await kept.end_before("nobody", T) == 0
    assert await kept.end_before("alice", math.inf) == 2 and await kept.find(other.id) == other


async def test_steps_are_good_once(kept: Sessions):
    assert [await kept.claim("alice", step) for step in (10, 10, 9, 11)] == [
        True,
        False,
        False,
        True,
    ]
    assert await kept.claim("bob", 10)


async def test_gateways_tell_each_other(store: Any):
    one, two = await read(SharedSessions(store())), await read(SharedSessions(store()))
    await until(lambda: two._feed.subscribed and two._feed.version is not None)
    told: list[int] = []
    two.listeners.add(lambda: told.append(1))
    session, token = await one.begin("alice", ("pwd",), T, LIMITS)
    claims = {"sid": session.id, "sub": "alice"}
    assert two.why(claims) == ""
    assert (
        await two.refresh(token, T + 1, LIMITS)
    ).result == "ok"  # one session, whichever gateway is asked
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
        assert await shared.end_others("alice", begun[-1], T) == 2 and await shared.claim(
            "alice", 5
        )
        await until(
            lambda: (
                shared._feed.version is not None
                and all(shared.why({"sid": id}) for id in begun[:-1])
            )
        )
        waits = [await attempts.begin("192.0.2.1", "alice", 0.0) for _ in range(4)]
        assert waits[:3] == [0.0] * 3 and waits[3] > 0
        await attempts.succeeded("192.0.2.1", "alice", 0.0)
        StoredUsers(stores.parse(cluster.url)).add(User("alice", HASH))
        alice = await RedisUsers(way).get("alice")
        assert alice is not None and await RedisUsers(way).change(
            alice, replace(alice, tier="gold")
        )
        StoredUsers(stores.parse(cluster.url)).remove("alice")
        assert await shared.count("alice", T, LIMITS) == 0
        shared.close()
        way.close()


async def test_while_the_store_is_away(redis: RedisServer):
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


async def test_sessions_decide_as_the_local_ones_do(store: Any):
    """The same random walk over both: every result is the same, for tokens that are good, used,
    ended and of others.

    None expires on the way: in Redis that happens by its own clock.
    """
    limits = replace(LIMITS, idle=1e6, lifetime=1e6)
    local, shared = LocalSessions(), await read(SharedSessions(store()))
    dice, now = random.Random(11), T
    pairs: list[
        tuple[str, str]
    ] = []  # every token that was ever given out: the local one and its counterpart
    for _ in range(300):
        now += dice.choice((1.0, 20.0, 60.0))
        action = dice.choice(("begin", "refresh", "refresh", "refresh", "end", "others"))
        user = dice.choice(("alice", "bob"))
        if action == "begin" or not pairs:
            pairs.append(
                (
                    (await local.begin(user, ("pwd",), now, limits))[1],
                    (await shared.begin(user, ("pwd",), now, limits))[1],
                )
            )
            continue
        mine, theirs = dice.choice(pairs[-6:])
        ids = sessions.session_of(mine), sessions.session_of(theirs)
        if action == "refresh":
            turns = (
                await local.refresh(mine, now, limits),
                await shared.refresh(theirs, now, limits),
            )
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
