from __future__ import annotations

import asyncio
from dataclasses import replace

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from gateway.issuer import sessions
from gateway.issuer.sessions import LocalSessions, Session, SessionLimits

LIMITS = SessionLimits(idle=100.0, lifetime=1000.0, most_of_user=3, most=10)


def test_tokens():
    token = sessions.new_token()
    following = sessions.next_token(token, salt := sessions.new_salt())
    assert (
        following
        == sessions.next_token(token, salt)
        != sessions.next_token(token, sessions.new_salt())
    )
    assert len(token) == len(following) == 64 and token != following
    assert sessions.looks_like(token) and sessions.session_of(token) == sessions.session_of(
        following
    )
    assert sessions.session_of(token) != sessions.session_of(sessions.new_token())
    assert token[:21] == following[:21]  # the shared part, which its id does not give away
    assert token[:21] not in sessions.session_of(token)
    for wrong in ("", token[:-1], token + "A", token[:-1] + "=", token[:-1] + "é", token + "\n"):
        assert not sessions.looks_like(wrong)


@settings(max_examples=100, deadline=None)
@given(st.floats(0, 2000), st.floats(0, 2000), st.booleans())
def test_judging(created: float, age: float, current: bool):
    session = Session("id", "alice", 0.0, created, 0.0, ("pwd",), sessions.digest("one"))
    result = sessions.judge(
        session, sessions.digest("one" if current else "other"), created + age, LIMITS
    )
    if not current:
        assert result == "reused"  # also when its time is over
    else:
        assert (result == "ok") == (age < LIMITS.idle and created + age < LIMITS.lifetime)


async def test_a_life():
    kept = LocalSessions()
    told: list[int] = []
    kept.listeners.add(lambda: told.append(1))
    session, first = await kept.begin("alice", ("pwd",), 0.0, LIMITS)
    claims = {"sid": session.id, "sub": "alice"}
    assert (
        kept.why(claims) == ""
        and first not in repr(session)
        and session.digest not in repr(session)
    )
    turn = await kept.refresh(first, 50.0, LIMITS)
    assert (
        turn.result == "ok"
        and turn.session is not None
        and turn.session.seen == 50.0
        and turn.token not in repr(turn)
    )
    assert turn.session.salt not in repr(turn)
    kept.delivered(turn.session)
    assert (await kept.refresh(turn.token, 120.0, LIMITS)).result == "ok" and not told
    assert (await kept.refresh(first, 130.0, LIMITS)).result == "reused" and told
    assert kept.why(claims) and await kept.find(session.id) is None
    assert (await kept.refresh(turn.token, 130.0, LIMITS)).result == "unknown"
    assert (await kept.refresh("x", 130.0, LIMITS)).result == "unknown"
    assert repr(kept) == "<LocalSessions 0>" and not kept._of


async def test_expiry():
    kept = LocalSessions()
    _, idle = await kept.begin("alice", ("pwd",), 0.0, LIMITS)
    assert (await kept.refresh(idle, 100.0, LIMITS)).result == "expired"
    _, token = await kept.begin("alice", ("pwd",), 0.0, LIMITS)
    for now in range(90, 1000, 90):
        turn = await kept.refresh(token, float(now), LIMITS)
        assert turn.result == "ok"
        token = turn.token
    assert (await kept.refresh(token, 1000.0, LIMITS)).result == "expired"


async def test_only_a_session_near_its_end_is_prolonged():
    kept = LocalSessions()
    limits = replace(LIMITS, renewal=30.0)
    _, token = await kept.begin("alice", ("pwd",), 0.0, limits)
    for now, seen in ((60.0, 0.0), (70.0, 70.0), (139.0, 70.0), (140.0, 140.0)):
        turn = await kept.refresh(token, now, limits)
        assert turn.session is not None and turn.session.seen == seen
        kept.delivered(turn.session)
        token = turn.token
    token = (await kept.refresh(token, 200.0, limits)).token
    assert (await kept.refresh(token, 240.0, limits)).result == "expired"


async def test_the_oldest_goes():
    kept = LocalSessions()
    begun = [(await kept.begin("alice", ("pwd",), float(now), LIMITS))[0].id for now in range(5)]
    assert [await kept.find(id) is not None for id in begun] == [False, False, True, True, True]
    # Those whose time is over make room before any that is in use.
    _, token = await kept.begin("bob", ("pwd",), 10.0, LIMITS)
    others = [(await kept.begin("bob", ("pwd",), 90.0, LIMITS))[0].id for _ in range(2)]
    await kept.begin("bob", ("pwd",), 115.0, LIMITS)
    assert all([await kept.find(id) for id in others])
    assert (await kept.refresh(token, 115.0, LIMITS)).result == "unknown"
    assert (
        await kept.count("bob", 115.0, LIMITS) == 3
        and await kept.count("alice", 115.0, LIMITS) == 0
    )


async def test_there_is_a_bound_over_all():
    kept = LocalSessions()
    for number in range(30):
        await kept.begin(f"user{number}", ("pwd",), float(number), LIMITS)
    assert len(kept._all) == len(kept._of) == 10


async def test_ending_others():
    kept = LocalSessions()
    begun = [(await kept.begin("alice", ("pwd",), 0.0, LIMITS))[0].id for _ in range(3)]
    other, _ = await kept.begin("bob", ("pwd",), 0.0, LIMITS)
    assert await kept.end_others("alice", begun[1], 5.0) == 2
    found = await kept.find(begun[1])
    assert found is not None and found.checked == 5.0 and await kept.find(other.id) == other
    assert await kept.end_others("alice", "no such", 5.0) == 1
    assert await kept.end_others("nobody", "no such", 5.0) == 0
    assert await kept.end("no such") is None


@pytest.mark.parametrize(
    "claims", [{}, {"sid": 1}, {"sid": ["x"]}, {"sid": None}, {"sid": "x", "sub": "alice"}]
)
def test_tokens_without_a_session(claims: dict[str, object]):
    assert LocalSessions().why(claims) == sessions.ENDED


async def test_tokens_of_somebody_elses_session():
    kept = LocalSessions()
    session, _ = await kept.begin("alice", ("pwd",), 0.0, LIMITS)
    assert kept.why({"sid": session.id, "sub": "bob"}) == sessions.ENDED


async def test_steps_are_good_once():
    kept = LocalSessions()
    assert [await kept.claim("alice", step) for step in (10, 10, 9, 11)] == [
        True,
        False,
        False,
        True,
    ]
    assert await kept.claim("bob", 10)
    for step in range(100, 200):
        await kept.claim(f"user{step}", step)
    assert len(kept._steps) <= 12


@settings(max_examples=30, deadline=None)
@given(
    st.lists(
        st.tuples(st.sampled_from(["begin", "refresh", "old", "end"]), st.integers(0, 3)),
        max_size=40,
    )
)
def test_a_session_has_one_good_token(steps: list[tuple[str, int]]):
    """Whatever happens, of all tokens ever given out for a session at most the last is taken."""

    async def play() -> None:
        kept, tokens = LocalSessions(), [[sessions.new_token()] for _ in range(4)]
        for action, who in steps:
            if action == "begin":
                tokens[who] = [(await kept.begin(str(who), ("pwd",), 0.0, LIMITS))[1]]
            elif action == "end":
                await kept.end(sessions.session_of(tokens[who][-1]))
            else:
                given_token = tokens[who][-1 if action == "refresh" else 0]
                turn = await kept.refresh(given_token, 1.0, LIMITS)
                if turn.result == "ok":
                    assert given_token == tokens[who][-1] and turn.session is not None
                    kept.delivered(turn.session)
                    tokens[who].append(turn.token)
                elif turn.result == "reused":
                    assert given_token != tokens[who][-1]
                    assert (await kept.refresh(tokens[who][-1], 1.0, LIMITS)).result == "unknown"

    asyncio.run(play())


def test_limits_can_change_under_sessions():
    session = Session("id", "alice", 0.0, 0.0, 0.0, ("pwd",), "")
    assert sessions.over(session, 50.0, replace(LIMITS, idle=40.0)) and not sessions.over(
        session, 50.0, LIMITS
    )


async def test_another_program_goes_on():
    before, after = LocalSessions(5.0), LocalSessions(50.0)
    first, _ = await before.begin("alice", ("pwd",), 10.0, LIMITS)
    second, token = await before.begin("alice", ("pwd",), 20.0, LIMITS)
    token = (await before.refresh(token, 30.0, LIMITS)).token
    assert await before.claim("alice", 7)
    after.load_state(before.dump_state())
    assert after.since == 5.0
    assert (await after.refresh(token, 40.0, LIMITS)).result == "ok"
    assert not await after.claim("alice", 7)
    for moment in (50.0, 60.0):  # the oldest of four ends
        await after.begin("alice", ("pwd",), moment, LIMITS)
    assert await after.find(first.id) is None and await after.find(second.id) is not None
