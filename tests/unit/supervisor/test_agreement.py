"""A configuration is taken by all workers or by none; one that fails to is replaced."""

from __future__ import annotations

import pickle
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest

from gateway.config.toml.problems import ConfigErrors, Problem
from gateway.core.wait import Wait
from gateway.lifetime.channel import ChannelClosed, ChannelError
from gateway.supervisor.agreement import Agreement
from gateway.supervisor.member import Member

BAD = Problem(Path("a.toml"), 1, 1, "bad")


@dataclass(frozen=True)
class Loaded:
    hash: str
    files: tuple[Path, ...] = (Path("gateway.toml"),)


@dataclass
class Channel:
    """Answers as a test says, and notes what it was told."""

    answers: dict[str, Any] = field(default_factory=dict)
    told: list[str] = field(default_factory=list)

    def ask(self, kind: str, *body: Any) -> Wait[Any]:
        self.told.append(kind)
        wait: Wait[Any] = Wait()
        answer = self.answers.get(kind, pickle.dumps(()))
        if isinstance(answer, Exception):
            wait.fail(answer)
        else:
            wait.wake(answer)
        return wait

    def post(self, kind: str) -> None:
        self.told.append(kind)


class Killed(Member):
    def kill(self) -> None:
        self.problem = RuntimeError("killed")


def members(*answers: dict[str, Any]) -> list[Any]:
    made = [Killed(index) for index in range(len(answers))]
    for one, given in zip(made, answers, strict=True):
        one.channel = Channel(given)  # type: ignore[assignment]
    return made


def begun() -> Agreement:
    agreement = Agreement()
    agreement.begin(Loaded("first"))  # type: ignore[arg-type]
    return agreement


async def test_all_can():
    agreement, crew = begun(), members({}, {})
    await agreement.prepare(Loaded("second"), crew)  # type: ignore[arg-type]
    assert agreement.loaded.hash == "first"
    assert await agreement.commit(crew)
    assert agreement.loaded.hash == "second"
    assert pickle.loads(agreement.configuration).hash == "second"
    assert [one.channel.told for one in crew] == [["prepare", "commit"]] * 2
    assert not await agreement.commit(crew), "nothing is prepared any more"


@pytest.mark.parametrize(
    ("answer", "why"),
    [
        (pickle.dumps((BAD,)), "bad"),
        (ChannelClosed(), "worker 1 ended while it composed it"),
        (ChannelError("prepare: MemoryError"), "worker 1 cannot compose it: prepare: MemoryError"),
        (TimeoutError(), "worker 1 did not compose it within 60 s"),
    ],
)
async def test_one_cannot(answer, why):
    agreement, crew = begun(), members({}, {"prepare": answer}, {})
    with pytest.raises(ConfigErrors) as caught:
        await agreement.prepare(Loaded("second"), crew)  # type: ignore[arg-type]
    assert [problem.message for problem in caught.value.problems] == [why]
    assert all(one.channel.told == ["prepare", "discard"] for one in crew)
    assert not await agreement.commit(crew)
    assert agreement.loaded.hash == "first"


async def test_one_that_began_meanwhile_prepares_first():
    agreement, crew = begun(), members({}, {})
    await agreement.prepare(Loaded("second"), crew[:1])  # type: ignore[arg-type]
    await agreement.commit(crew)
    assert [one.channel.told for one in crew] == [["prepare", "commit"]] * 2


@pytest.mark.parametrize(
    ("answer", "killed"),
    [(ChannelError("no"), True), (TimeoutError(), True), (ChannelClosed(), False)],
)
async def test_one_that_fails_to_take_it_is_replaced(answer, killed):
    agreement, crew = begun(), members({}, {"commit": answer})
    await agreement.prepare(Loaded("second"), crew)  # type: ignore[arg-type]
    await agreement.commit(crew)
    assert agreement.loaded.hash == "second"
    assert [one.problem is not None for one in crew] == [False, killed]


async def test_before_the_beginning_there_is_nothing_to_agree_on():
    agreement, crew = Agreement(), members({})
    await agreement.prepare(Loaded("first"), crew)  # type: ignore[arg-type]
    assert crew[0].channel.told == [] and "nothing" in repr(agreement)
