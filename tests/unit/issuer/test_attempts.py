from __future__ import annotations

from hypothesis import given, settings
from hypothesis import strategies as st

from gateway.issuer.attempts import FRESH, AttemptRule, LocalAttempts, State, begin, undone

RULE = AttemptRule(free=3, delay=1.0, longest=60.0, forget=600.0)
WIDE = AttemptRule(free=1000, delay=1.0, longest=60.0, forget=600.0)

rules = st.builds(
    AttemptRule, st.integers(1, 20), st.floats(0.1, 10), st.floats(10, 600), st.floats(60, 7200)
)


def test_waits_grow_and_have_an_end():
    assert [RULE.wait(failures) for failures in (0, 2, 3, 4, 5, 9, 10_000)] == [
        0,
        0,
        1,
        2,
        4,
        60,
        60,
    ]


@settings(max_examples=150, deadline=None)
@given(rules, st.lists(st.floats(0, 400), min_size=1, max_size=60))
def test_whoever_waits_as_told_is_admitted_and_not_sooner(rule: AttemptRule, pauses: list[float]):
    state, now, admitted = FRESH, 1e6, 0
    for pause in pauses:
        now += pause
        after, wait = begin(state, rule, now)
        if wait == 0.0:
            admitted += 1
            assert after.failures <= admitted
        else:
            assert (
                after == state and 0 < wait <= rule.longest + 1e-6
            )  # refused: nothing changes, so nobody can prolong it
            assert begin(state, rule, now + wait * 0.999)[1] > 0
            assert begin(state, rule, now + wait + 1e-6)[1] == 0
        state = after


@settings(max_examples=100, deadline=None)
@given(rules, st.floats(1, 86400))
def test_guesses_in_a_time_are_bounded(rule: AttemptRule, seconds: float):
    """A guesser who never stops gets the free ones, those while the wait grows, and one in
    `longest` from then on."""
    state, now, guesses = FRESH, 0.0, 0
    while now < seconds and guesses < 2000:
        state, wait = begin(state, rule, now)
        guesses += wait == 0.0
        now += wait
    assert guesses <= rule.free + 15 + seconds / rule.longest or guesses == 2000


@given(rules, st.integers(1, 50))
def test_undone_is_as_if_it_had_not_been(rule: AttemptRule, count: int):
    state = State(count, 100.0, 1e9)
    after = undone(state, rule, 50.0)
    assert after.failures == count - 1 and after.until <= 50.0 + rule.wait(count - 1)
    assert undone(FRESH, rule, 1.0).failures == 0


def test_forgotten():
    state = begin(State(50, 10.0, 700.0), RULE, 700.0)[0]
    assert state.failures == 1


async def guess(attempts: LocalAttempts, address: str, account: str, now: float, times: int) -> int:
    return [await attempts.begin(address, account, now) for _ in range(times)].count(0.0)


async def test_at_once_is_no_better_than_one_after_another():
    attempts = LocalAttempts(RULE, WIDE)
    assert await guess(attempts, "192.0.2.1", "alice", 0.0, 100) == 3


async def test_success_forgives_the_account_and_takes_back_one_of_the_address():
    attempts = LocalAttempts(RULE, RULE)
    for name in ("alice", "bob"):
        await attempts.begin("192.0.2.1", name, 0.0)
    await attempts.succeeded("192.0.2.1", "bob", 0.0)
    assert (
        await guess(attempts, "192.0.2.1", "carol", 0.0, 9) == 2
    )  # own successes do not buy guesses at others
    assert await guess(attempts, "192.0.2.2", "bob", 0.0, 9) == 3


async def test_a_stranger_cannot_keep_anybody_out():
    attempts = LocalAttempts(RULE, WIDE)
    await attempts.begin("192.0.2.1", "alice", 0.0)
    await attempts.succeeded("192.0.2.1", "alice", 0.0)
    for second in range(1000):
        await attempts.begin(f"198.51.100.{second % 250}", "alice", float(second))
        assert await attempts.begin("192.0.2.1", "alice", float(second)) == 0.0
        await attempts.succeeded("192.0.2.1", "alice", float(second))
    # From somewhere new, waiting has an end however long the strangers have been at it.
    assert await attempts.begin("203.0.113.9", "alice", 1000.0) <= RULE.longest


async def test_known_addresses_do_not_guess_for_ever():
    attempts = LocalAttempts(RULE, WIDE)
    await attempts.begin("192.0.2.1", "alice", 0.0)
    await attempts.succeeded("192.0.2.1", "alice", 0.0)
    assert await guess(attempts, "192.0.2.1", "alice", 0.0, 100) == 3


async def test_undone_attempts():
    attempts = LocalAttempts(RULE, RULE)
    for _ in range(20):
        assert await attempts.begin("192.0.2.1", "alice", 0.0) == 0.0
        await attempts.undone("192.0.2.1", "alice", 0.0)
    assert repr(attempts) == "<LocalAttempts 0>"


async def test_memory_is_bounded():
    attempts = LocalAttempts(RULE, WIDE, most=50)
    for number in range(500):
        await attempts.begin(f"192.0.2.{number % 200}", f"user{number}", 0.0)
        await attempts.begin("198.51.100.1", f"good{number}", 0.0)
        await attempts.succeeded("198.51.100.1", f"good{number}", 0.0)
    assert len(attempts._states) <= 50 and len(attempts._known) <= 50


async def test_another_program_goes_on_counting():
    before, after = LocalAttempts(RULE, WIDE), LocalAttempts(RULE, WIDE)
    await before.succeeded("192.0.2.1", "alice", 0.0)
    for _ in range(RULE.free):
        assert await before.begin("192.0.2.2", "alice", 0.0) == 0.0
    after.load_state(before.dump_state())
    assert await after.begin("192.0.2.2", "alice", 0.0) > 0
    assert await after.begin("192.0.2.1", "alice", 0.0) == 0.0, "known from before"
