from __future__ import annotations

import asyncio
import logging
from collections.abc import Iterable
from functools import partial
from itertools import permutations

import pytest

from gateway.lifetime.registry import ConflictingSettings, Draft, Registry, close_all


class Kept:
    def __init__(self, name: str = "", log: list[str] | None = None) -> None:
        self.name = name
        self.log = log
        self.closed = 0

    def close(self) -> None:
        self.closed += 1
        if self.log is not None:
            self.log.append(self.name)


def test_the_same_key_and_fingerprint_give_the_same_object():
    registry = Registry()
    draft = registry.draft()
    one = draft.keep(("a",), 1, Kept)
    assert draft.keep(("a",), 1, Kept) is one
    draft.commit()
    assert registry.draft().keep(("a",), 1, Kept) is one
    assert list(registry) == [one]
    assert repr(registry) == "<Registry 1 objects>"


def test_another_fingerprint_makes_another_object():
    registry = Registry()
    first = registry.draft()
    one = first.keep(("a",), 1, Kept)
    first.commit()
    second = registry.draft()
    two = second.keep(("a",), 2, Kept)
    second.commit()
    assert two is not one and list(registry) == [one, two]
    assert one.closed == 0, "the first snapshot may still use it"
    first.release()
    assert one.closed == 1 and list(registry) == [two]


def test_a_refused_draft_closes_only_what_was_made_for_it():
    registry = Registry()
    first = registry.draft()
    old = first.keep(("a",), None, Kept)
    first.commit()
    refused = registry.draft()
    assert refused.keep(("a",), None, Kept) is old
    new = refused.keep(("b",), None, Kept)
    refused.release()
    refused.release()
    assert (old.closed, new.closed) == (0, 1)
    assert list(registry) == [old]


def taken(registry: Registry, keys: Iterable[str]) -> Draft:
    draft = registry.draft()
    for key in keys:
        draft.keep((key,), None, partial(Kept, key))
    draft.commit()
    return draft


@pytest.mark.parametrize("order", [*permutations(range(3))])
def test_the_last_snapshot_that_lets_go_closes_in_whatever_order_they_end(order: tuple[int, ...]):
    uses = ("ab", "b", "ac")
    registry = Registry()
    drafts = [taken(registry, keys) for keys in uses]
    objects = {kept.name: kept for kept in registry}
    alive = set(range(3))
    for number in order:
        drafts[number].release()
        alive.remove(number)
        needed = {key for other in alive for key in uses[other]}
        assert {name: kept.closed for name, kept in objects.items()} == {
            name: int(name not in needed) for name in "abc"
        }
    assert list(registry) == []


def test_what_an_older_snapshot_still_uses_is_found_again():
    registry = Registry()
    first = registry.draft()
    one = first.keep(("a",), 1, Kept)
    first.commit()
    taken(registry, "b")
    assert registry.draft().keep(("a",), 1, Kept) is one, (
        "two writers of one log file would tear its lines"
    )


def test_what_needs_others_is_closed_before_them():
    order: list[str] = []
    registry = Registry()
    draft = registry.draft()
    for name in ("store", "keys", "ring"):
        draft.keep((name,), None, partial(Kept, name, order))
    draft.release()
    assert order == ["ring", "keys", "store"]
    draft = registry.draft()
    for name in ("store", "keys"):
        draft.keep((name,), None, partial(Kept, name, order))
    registry.close()
    registry.close()
    draft.release()
    assert order[3:] == ["keys", "store"], "and only once"


class Slow:
    """Takes a while to close."""

    def __init__(self) -> None:
        self.may_end = asyncio.Event()
        self.closed = False

    async def close(self) -> None:
        await self.may_end.wait()
        self.closed = True


async def test_closings_that_take_time_are_awaited():
    registry = Registry()
    draft = registry.draft()
    slow = draft.keep(("slow",), None, Slow)
    draft.release()
    waiting = asyncio.create_task(registry.closed())
    await asyncio.sleep(0)
    assert not waiting.done()
    slow.may_end.set()
    await waiting
    assert slow.closed


def test_without_a_loop_they_are_run_at_once():
    said: list[str] = []

    class Quick:
        async def close(self) -> None:
            said.append("closed")

    draft = Registry().draft()
    draft.keep(("quick",), None, Quick)
    draft.release()
    assert said == ["closed"]


class Bad:
    def close(self) -> None:
        raise OSError("disk")


class BadLater:
    async def close(self) -> None:
        raise OSError("network")


async def test_closing_goes_on_after_a_failure(caplog: pytest.LogCaptureFixture):
    registry = Registry()
    draft = registry.draft()
    good = draft.keep(("good",), None, Kept)
    draft.keep(("bad",), None, Bad)
    draft.keep(("later",), None, BadLater)
    draft.keep(("without",), None, object)
    with caplog.at_level(logging.ERROR):
        draft.release()
        await registry.closed()
    assert good.closed == 1
    assert "disk" in caplog.text and "network" in caplog.text


def test_close_all(caplog: pytest.LogCaptureFixture):
    good = Kept()
    close_all([Bad(), object(), good])
    assert good.closed == 1 and "disk" in caplog.text


class Adopting:
    def __init__(self) -> None:
        self.adopted: list[int] = []

    def adopt(self, settings: int) -> None:
        self.adopted.append(settings)


def test_settings_are_adopted_at_the_commit_and_not_before():
    registry = Registry()
    draft = registry.draft()
    one = draft.keep(("a",), None, Adopting, 1)
    assert draft.keep(("a",), None, Adopting, 1) is one
    with pytest.raises(ConflictingSettings):
        draft.keep(("a",), None, Adopting, 2)
    draft.commit()
    assert one.adopted == [1]
    refused = registry.draft()
    refused.keep(("a",), None, Adopting, 3)
    refused.release()
    draft = registry.draft()
    draft.keep(("a",), None, Adopting, 2)
    assert one.adopted == [1]
    draft.commit()
    assert one.adopted == [1, 2]


def test_steps_run_at_the_commit_after_settings_and_not_for_a_refused_draft(
    caplog: pytest.LogCaptureFixture,
):
    registry = Registry()
    done: list[object] = []
    refused = registry.draft()
    refused.at_commit(lambda: done.append("refused"))
    refused.release()
    draft = registry.draft()
    one = draft.keep(("a",), None, Adopting, 1)

    def fail() -> None:
        raise KeyError("step")

    draft.at_commit(fail)
    draft.at_commit(lambda: done.append(tuple(one.adopted)))
    assert done == []
    draft.commit()
    draft.commit()
    assert done == [(1,)]
    assert "KeyError: 'step'" in caplog.text


class Remembering:
    """Has a state, which a program leaves to the next."""

    def __init__(self) -> None:
        self.state: object = "new"

    def dump_state(self) -> object:
        return self.state

    def load_state(self, state: object) -> None:
        if state == "broken":
            raise ValueError("no such state")
        self.state = state


def test_the_next_program_goes_on_with_what_this_one_knew():
    before = Registry()
    draft = before.draft()
    draft.keep(("a",), 1, Remembering).state = {"b": 1}
    draft.keep(("gone",), 1, Remembering)
    draft.keep(("other",), 1, Kept)
    draft.commit()
    after = Registry()
    after.load(before.dump())
    draft = after.draft()
    assert draft.keep(("a",), 2, Remembering).state == {"b": 1}
    assert draft.keep(("a",), 3, Remembering).state == "new", "only the first takes it"
    assert draft.keep(("new",), 1, Remembering).state == "new"
    assert isinstance(draft.keep(("other",), 1, Kept), Kept)


def test_what_cannot_be_taken_over_begins_anew(caplog: pytest.LogCaptureFixture):
    before, after = Registry(), Registry()
    draft = before.draft()
    draft.keep(("a",), 1, Remembering).state = "broken"
    draft.commit()
    after.load(before.dump())
    assert after.draft().keep(("a",), 1, Remembering).state == "new"
    assert "begins anew" in caplog.text
    caplog.clear()
    after.load(b"of another version")
    assert "cannot be read" in caplog.text
