from __future__ import annotations

import asyncio
import sys
from collections.abc import Callable
from typing import Any

import pytest

from gateway.core.exchange import Reply
from gateway.core.failures import Failed, Failure
from gateway.core.hooks import ConfigProblem, Hooks
from gateway.runtime.operators.hooks import HookError, checked
from tests.exchange import exchange


def hooked(kind: str, hook: Any) -> Callable[..., Any]:
    made: Callable[..., Any] = getattr(checked("mine:build", Hooks(**{kind: hook})), kind)
    return made


def waiting(function: Callable[..., Any]) -> Callable[..., Any]:
    async def hook(*arguments: Any) -> Any:
        await asyncio.sleep(0)
        return function(*arguments)

    return hook


def sometimes(function: Callable[..., Any]) -> Callable[..., Any]:
    """A plain hook that returns an awaitable."""
    return lambda *arguments: waiting(function)(*arguments)


async def outcome(hook: Callable[..., Any], *arguments: Any) -> Any:
    result = hook(*arguments)
    return await result if hasattr(result, "__await__") else result


WAYS = [pytest.param(lambda function: function, id="plain"), waiting, sometimes]


@pytest.mark.parametrize("way", WAYS)
async def test_what_is_right_passes(way: Any):
    reply = Reply(200, body=b"ok")
    assert await outcome(hooked("request", way(lambda exchange: reply)), exchange()) is reply
    assert await outcome(hooked("request", way(lambda exchange: None)), exchange()) is None
    assert (
        await outcome(
            hooked("error", way(lambda exchange, failed: reply)),
            exchange(),
            Failed(Failure.INTERNAL),
        )
        is reply
    )


async def generator() -> Any:
    yield b""


@pytest.mark.parametrize("way", WAYS)
@pytest.mark.parametrize(
    ("result", "message"),
    [
        ("no", "the request hook of mine:build returned str, which is no Reply"),
        (Reply(200, body="text"), "returned a reply whose body is str, neither bytes nor a stream"),
        (Reply(200, body=generator()), "body is async_generator, neither"),
    ],
)
async def test_what_is_returned_must_be_a_reply(way: Any, result: Any, message: str):
    with pytest.raises(HookError, match=message):
        await outcome(hooked("request", way(lambda exchange: result)), exchange())


def leave(*arguments: Any) -> None:
    sys.exit("goodbye")


def divide(*arguments: Any) -> None:
    raise ZeroDivisionError


@pytest.mark.parametrize("way", WAYS)
@pytest.mark.parametrize(
    ("function", "name"), [(leave, "SystemExit"), (divide, "ZeroDivisionError")]
)
async def test_what_is_raised_is_the_hooks_fault(way: Any, function: Any, name: str):
    with pytest.raises(HookError, match=f"the request hook of mine:build raised {name}") as caught:
        await outcome(hooked("request", way(function)), exchange())
    assert type(caught.value.__cause__).__name__ == name


@pytest.mark.parametrize("kind", ["finish", "release"])
def test_hooks_at_the_end_do_not_end_the_process(kind: str):
    with pytest.raises(HookError, match=f"the {kind} hook of mine:build raised SystemExit"):
        hooked(kind, leave)(exchange())


def refuse(*arguments: Any) -> None:
    raise Failed(Failure.FORBIDDEN)


@pytest.mark.parametrize("way", WAYS)
async def test_refusing_is_not(way: Any):
    with pytest.raises(Failed):
        await outcome(hooked("request", way(refuse)), exchange())


@pytest.mark.parametrize("way", WAYS[:2])
async def test_a_response_hook_must_leave_a_body_that_can_be_sent(way: Any):
    def spoil(exchange: Any, reply: Reply) -> None:
        reply.body = "text"  # type: ignore[assignment]

    reply = Reply(200, body=b"before")
    with pytest.raises(HookError, match="the response hook of mine:build made the body str"):
        await outcome(hooked("response", way(spoil)), exchange(), reply)
    assert reply.body == b"before", "so that what still arrives can be given up"


async def test_one_that_does_not_return_has_the_routes_timeout():
    async def never(*arguments: Any) -> None:
        await asyncio.Event().wait()

    request = exchange(route="cameras")
    request.route.config = type("Config", (), {"timeout": 0.01})  # type: ignore[union-attr]
    with pytest.raises(Failed) as caught:
        await outcome(hooked("request", never), request)
    assert caught.value.failure is Failure.TIMEOUT
    assert (
        caught.value.why
        == "the request hook of mine:build did not return within the route's timeout of 0.01 s"
    )


async def test_a_hooks_own_timeout_is_its_own():
    async def impatient(*arguments: Any) -> None:
        raise TimeoutError

    with pytest.raises(HookError, match="raised TimeoutError"):
        await outcome(hooked("request", impatient), exchange())


@pytest.mark.parametrize("made", [None, {}, Reply(200)])
def test_what_build_returns_must_be_hooks(made: object):
    with pytest.raises(ConfigProblem, match="build must return Hooks, not"):
        checked("mine:build", made)


async def finish(exchange: Any) -> None:
    pass


@pytest.mark.parametrize("kind", ["finish", "release"])
def test_hooks_at_the_end_cannot_wait(kind: str):
    with pytest.raises(ConfigProblem, match=f"the {kind} hook must be a plain function"):
        checked("mine:build", Hooks(**{kind: finish}))


def test_what_is_not_there_stays_so():
    assert checked("mine:build", Hooks()) == Hooks()
