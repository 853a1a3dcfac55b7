"""Asking a service whether a request may pass: what it is told, what its answers do."""

from __future__ import annotations

from typing import Any

import pytest

from gateway.core.exchange import Exchange, Identity, Reply
from gateway.core.failures import Failed, Failure
from gateway.core.hooks import Hooks
from gateway.middlewares import forward_auth
from gateway.middlewares.forward_auth import BODY_MAX, REMEMBERED
from tests.exchange import Stream, World, exchange

URL = "http://authz.internal/check"


class Service:
    """What is asked: keeps the questions, and answers each with `answer`."""

    def __init__(self, answer: Reply | Failed) -> None:
        self.answer = answer
        self.asked: list[Exchange] = []

    async def __call__(self, question: Exchange) -> Reply:
        self.asked.append(question)
        if isinstance(self.answer, Failed):
            raise self.answer
        return self.answer


def yes(**fields: str) -> Reply:
    return Reply(
        204, [(name.replace("_", "-").encode(), value.encode()) for name, value in fields.items()]
    )


def built(service: Service, world: World | None = None, **keys: Any) -> Hooks:
    table = {"url": URL, **keys}
    return (world or World()).build(forward_auth, table, ask=lambda: service)


async def passes(hooks: Hooks, request: Exchange) -> Reply | None:
    assert hooks.request is not None
    reply: Any = hooks.request(request)
    return reply if reply is None or isinstance(reply, Reply) else await reply


def asking(**headers: str) -> Exchange:
    return exchange(
        "POST",
        "/orders?id=7",
        {name.replace("_", "-"): value for name, value in headers.items()},
        peer="192.0.2.1",
        request_id="r1",
    )


async def test_what_the_service_is_told():
    service = Service(yes())
    hooks = built(service, send=["Authorization"])
    request = asking(Authorization="Bearer x", Cookie="c=1", X_User="me", traceparent="00-1")
    assert await passes(hooks, request) is None
    (question,) = service.asked
    assert (question.method, question.target, question.body) == ("GET", "/check", None)
    assert question.raw_headers == [(b"Authorization", b"Bearer x"), (b"traceparent", b"00-1")]
    assert question.forward_headers == [
        (b"X-Forwarded-Method", b"POST"),
        (b"X-Forwarded-Uri", b"/orders?id=7"),
    ]
    assert (question.peer, question.request_id) == ("192.0.2.1", "r1")


async def test_what_it_keeps_replaces_what_clients_say():
    service = Service(yes(X_User="alice", X_Other="no"))
    hooks = built(service, keep=["X-User", "X-Group"])
    request = asking(X_User="root", X_Group="wheel")
    request.forward_headers = [(b"x-user", b"earlier"), (b"X-A", b"1")]
    assert await passes(hooks, request) is None
    assert request.drop_headers == {b"x-user", b"x-group"}
    assert request.forward_headers == [(b"X-A", b"1"), (b"X-User", b"alice")]
    assert request.identity is not None
    assert (request.identity.client, request.identity.method) == ("alice", "forward_auth")


async def test_an_identity_that_is_known_stays():
    known = Identity("acme", "api_key")
    request = asking()
    request.identity = known
    await passes(built(Service(yes(X_User="alice")), keep=["X-User"]), request)
    assert request.identity is known


async def test_callers_that_the_service_does_not_name_differ_by_what_they_send():
    hooks = built(Service(yes()), keep=["X-User"])
    seen = []
    for token in ("1", "2", "1"):
        request = asking(Authorization=token, traceparent=f"00-{len(seen)}")
        await passes(hooks, request)
        seen.append(request.identity)
    assert [one.client for one in seen if one is not None] == ["192.0.2.1"] * 3
    assert seen[0] == seen[2] != seen[1]


async def test_callers_with_the_same_name_and_other_fields_are_told_apart():
    service = Service(yes())
    hooks, seen = built(service, keep=["X-User", "X-Group"]), []
    for group in ("a", "b", "a"):
        request, service.answer = asking(), yes(X_User="x", X_Group=group)
        await passes(hooks, request)
        seen.append(request.identity)
    assert seen[0] == seen[2] != seen[1]


@pytest.mark.parametrize("status", [302, 401, 403, 500])
async def test_other_answers_go_to_the_client(status: int):
    body = Stream(b"no", b"!")
    answer = Reply(status, ((b"Location", b"/login"), (b"Set-Cookie", b"a=1")), body)
    request = asking()
    reply = await passes(built(Service(answer)), request)
    assert reply is not None
    assert (reply.status, reply.body, reply.length) == (status, b"no!", 3)
    assert reply.headers == [(b"Location", b"/login"), (b"Set-Cookie", b"a=1")]
    assert request.reason == "forward_auth"


async def test_long_answers_are_broken_off():
    body = Stream(bytes(BODY_MAX), b"x", b"never read")
    reply = await passes(built(Service(Reply(403, (), body))), asking())
    assert reply is not None and (reply.status, reply.body) == (403, b"")
    assert (body.aborted, body.chunks) == (1, [b"never read"])


async def test_no_answer_closed():
    world = World()
    with pytest.raises(Failed) as raised:
        await passes(built(Service(Failed(Failure.READ_TIMEOUT)), world), asking())
    failed = raised.value
    assert (failed.failure, failed.by) == (Failure.NO_ENDPOINT, "forward_auth")
    assert (b"Retry-After", b"1") in failed.headers
    assert "read_timeout" in failed.why and "timeout" not in failed.detail
    assert world.telemetry.auth.get(("forward_auth", "failed")) == 1


@pytest.mark.parametrize("answer", [Failed(Failure.CONNECT_FAILED), Reply(503)])
async def test_no_answer_open(answer: Reply | Failed):
    request = asking(X_User="root")
    assert await passes(built(Service(answer), on_failure="open", keep=["X-User"]), request) is None
    assert request.drop_headers == {b"x-user"} and not request.forward_headers


async def test_a_body_that_breaks_off_is_no_answer():
    broken = Reply(200, (), Stream(b"x", Failed(Failure.CONNECTION_RESET)))
    with pytest.raises(Failed, match="forward_auth"):
        await passes(built(Service(broken)), asking())


async def test_remembered_yeses():
    world, service = World(), Service(yes(X_User="alice"))
    hooks = built(service, world, cache="10s", keep=["X-User"])
    for _ in range(3):
        request = asking(Authorization="1")
        assert await passes(hooks, request) is None
        assert request.forward_headers == [(b"X-User", b"alice")]
    assert len(service.asked) == 1
    await passes(hooks, asking(Authorization="2"))
    other_target = asking(Authorization="1")
    other_target.target = "/orders?id=8"
    await passes(hooks, other_target)
    other_place = asking(Authorization="1")
    other_place.peer = "192.0.2.2"
    await passes(hooks, other_place)
    assert len(service.asked) == 4
    world.now += 10
    await passes(hooks, asking(Authorization="1"))
    assert len(service.asked) == 5


async def test_what_is_not_remembered():
    for answer in (Reply(403), yes(Cache_Control="private, no-store"), yes(X_User="x" * 5000)):
        service = Service(answer)
        hooks = built(service, cache="10s", keep=["X-User"])
        await passes(hooks, asking())
        await passes(hooks, asking())
        assert len(service.asked) == 2


async def test_memory_is_bounded():
    service = Service(yes())
    hooks = built(service, cache="1h")
    for number in range(REMEMBERED + 10):
        await passes(hooks, asking(Authorization=str(number)))
    assert f"{REMEMBERED} remembered" in repr(hooks.request.__self__)  # type: ignore[union-attr]
    await passes(hooks, asking(Authorization="0"))
    assert len(service.asked) == REMEMBERED + 11


async def test_a_dry_run_asks_nobody():
    service = Service(yes())
    request = exchange(explained=True)
    assert await passes(built(service), request) is None
    assert service.asked == [] and request.decisions is not None
    assert request.decisions[0].outcome == "skipped"


def test_a_route_without_it_drops_the_fields():
    config = forward_auth.CONFIG().load({"url": URL, "keep": ["X-User"]})
    hooks = forward_auth.left_out(config, World().context("forward_auth"))
    assert hooks is not None and hooks.request is not None
    request = asking(X_User="root")
    hooks.request(request)
    assert request.drop_headers == {b"x-user"}
    bare = forward_auth.CONFIG().load({"url": URL})
    assert forward_auth.left_out(bare, World().context("forward_auth")) is None
