from __future__ import annotations

import logging
from inspect import isawaitable
from typing import Any

import pytest

from gateway.core.exchange import Exchange, Reply
from gateway.core.failures import Failed, Failure
from gateway.core.hooks import Hooks
from gateway.runtime.pipeline import flatten
from tests.exchange import exchange


async def settled(outcome: Any) -> Any:
    """What a pipeline gives at once, or after something was awaited."""
    return await outcome if isawaitable(outcome) else outcome


class Recorder:
    """Hooks that write down when they ran."""

    def __init__(self) -> None:
        self.ran: list[str] = []

    def hooks(self, name: str, reply: Reply | None = None) -> Hooks:
        def request(exchange: Exchange) -> Reply | None:
            self.ran.append(f"{name}.request")
            return reply

        async def response(exchange: Exchange, reply: Reply) -> None:
            self.ran.append(f"{name}.response")

        def error(exchange: Exchange, failed: Failed) -> Reply | None:
            self.ran.append(f"{name}.error")
            return Reply(failed.failure.status) if name == "first" else None

        def finish(exchange: Exchange) -> None:
            self.ran.append(f"{name}.finish")

        return Hooks(request, response, error, finish)


async def test_hooks_run_in_the_order_of_the_lists():
    seen = Recorder()
    first, second = seen.hooks("first"), seen.hooks("second")
    pipeline = flatten("p", [first, second], [second, first], [first, second])
    one = exchange()
    assert await settled(pipeline.ask(one)) is None
    await settled(pipeline.answer(one, Reply(200)))
    pipeline.done(one)
    assert seen.ran == [
        "first.request", "second.request", "second.response", "first.response", "first.finish", "second.finish",
    ]  # fmt: skip


async def test_the_first_request_hook_that_answers_ends_the_asking():
    seen = Recorder()
    answered = Reply(204)
    pipeline = flatten("p", [seen.hooks("a", answered), seen.hooks("b")], [], [])
    assert await settled(pipeline.ask(exchange())) is answered
    assert seen.ran == ["a.request"]


async def test_failures_are_rendered_changed_and_finished_by_the_error_list_alone():
    seen = Recorder()
    pipeline = flatten(
        "p", [seen.hooks("only_request")], [], [seen.hooks("first"), seen.hooks("second")]
    )
    one = exchange()
    reply = await settled(pipeline.fail(one, Failed(Failure.NO_ROUTE)))
    assert reply.status == 404 and one.failed is not None and one.reply is reply
    pipeline.done(one)
    assert seen.ran == ["first.error", "second.error", "first.finish", "second.finish"]
    assert pipeline.render(exchange(), Failed(Failure.NO_ROUTE)).status == 404


async def test_awaited_hooks_are_recognised_whatever_they_are():
    class Object:
        async def __call__(self, exchange: Exchange) -> Reply | None:
            return Reply(200)

        async def method(self, exchange: Exchange) -> Reply | None:
            return Reply(201)

    for hook, status in ((Object(), 200), (Object().method, 201)):
        pipeline = flatten("p", [Hooks(request=hook)], [], [])
        reply = await settled(pipeline.ask(exchange()))
        assert reply is not None and reply.status == status


@pytest.mark.parametrize("answered", [None, Reply(200)])
async def test_a_plain_request_hook_may_return_an_awaitable(answered: Reply | None):
    async def later() -> Reply | None:
        return answered

    seen = Recorder()
    pipeline = flatten("p", [Hooks(request=lambda _: later()), seen.hooks("a")], [], [])
    assert all(not awaited for _, awaited, _ in pipeline.request)
    assert await settled(pipeline.ask(exchange())) is answered
    assert seen.ran == ([] if answered else ["a.request"])


async def test_awaited_error_hooks_are_awaited():
    async def error(exchange: Exchange, failed: Failed) -> Reply | None:
        return Reply(418)

    pipeline = flatten("p", [], [], [Hooks(error=error)])
    assert (await settled(pipeline.fail(exchange(), Failed(Failure.INTERNAL)))).status == 418


async def test_a_plain_error_hook_may_return_an_awaitable():
    async def later() -> Reply | None:
        return Reply(418)

    for hooks in ([Hooks(error=lambda *_: later())], [Hooks(error=lambda *_: later())] * 2):
        pipeline = flatten("p", [], [], hooks)
        assert (await settled(pipeline.fail(exchange(), Failed(Failure.INTERNAL)))).status == 418


async def test_a_stop_iteration_after_a_hook_that_waited_ends_nothing_well():
    """A compiled coroutine would return with it: nothing refused, and hooks left out."""

    async def wait(*_: Any) -> None:
        pass

    def stop(*_: Any) -> None:
        raise StopIteration

    hooks = [Hooks(wait, wait), Hooks(stop, stop)]
    pipeline = flatten("p", hooks, hooks, [])
    for outcome in (pipeline.ask(exchange()), pipeline.answer(exchange(), Reply(200))):
        with pytest.raises(RuntimeError, match="StopIteration"):
            await settled(outcome)


def test_a_finish_hook_that_fails_does_not_stop_the_others(caplog):
    def broken(exchange: Exchange) -> None:
        raise ZeroDivisionError

    seen = Recorder()
    with caplog.at_level(logging.ERROR):
        flatten("p", [Hooks(finish=broken), seen.hooks("a")], [], []).done(exchange())
    assert seen.ran == ["a.finish"]
    assert "ZeroDivisionError" in caplog.text


def test_a_middleware_in_two_lists_finishes_once():
    seen = Recorder()
    both = seen.hooks("a")
    flatten("p", [both], [both], []).done(exchange())
    assert seen.ran == ["a.finish"]


async def test_an_error_list_that_renders_nothing_is_a_bug():
    with pytest.raises(AssertionError):
        await settled(flatten("p", [], [], [Hooks()]).fail(exchange(), Failed(Failure.INTERNAL)))
