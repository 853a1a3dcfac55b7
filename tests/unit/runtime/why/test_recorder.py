"""What is written down of a finished request. Every reason is in tests/flow/test_why.py."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from gateway.config.check.compile import LoadedConfig
from gateway.config.tables.pipeline import RouteConfig
from gateway.config.tables.server import GatewayConfig, ServerConfig
from gateway.core.exchange import DECIDED, SHADOW, Exchange, Reply
from gateway.core.failures import Failed, Failure
from gateway.core.hooks import Hooks
from gateway.core.refusals import WOULD, WouldRefuse
from gateway.lifetime.registry import Registry
from gateway.runtime.pipeline import Pipeline, flatten
from gateway.runtime.services import Services
from gateway.runtime.why.memory import LONGEST, Memories
from gateway.runtime.why.recorder import Recorder, masks_of, remembering
from gateway.upstream.connections.transport import Transport
from tests.exchange import Stream, exchange


def passes(exchange: Exchange) -> None:
    return None


def configuration(**server: Any) -> LoadedConfig:
    gateway = GatewayConfig(server=replace(ServerConfig(), **server))
    return LoadedConfig(gateway, {}, (), (Path("gateway.toml"),), "hash")


def recorded(one: Exchange, took: float = 0.0, *hooks: Hooks, slow: float = 5.0) -> Any:
    """What is remembered of a request."""
    memories = Memories(lambda: 0.0)
    recorder = Recorder(configuration(slow=slow), memories, (), lambda: 0.0)
    recorder(flatten("p", hooks, (), ()), one, took)
    found = [*memories.recent(1, {}), *memories.recent(1, {"shadow": ""})]
    return found[0] if found else None


def asked(reply: Reply | None = None, **facts: Any) -> Exchange:
    made = exchange(route="r", reply=reply, written=reply is not None, **facts)
    made.route.config = RouteConfig("r")
    return made


def hooks_of(entry: Any) -> list[tuple[str, str, str | None]]:
    return [(one["hook"], one["outcome"], one["why"]) for one in entry["decisions"]]


def test_hooks_before_the_one_that_decided_have_passed():
    def refuses(exchange: Exchange) -> None:
        raise Failed(Failure.FORBIDDEN)

    first = Hooks(passes, name="auth", passed=lambda exchange: "bob")
    unnamed, last = Hooks(lambda exchange: None), Hooks(refuses, name="limit")
    one = asked(failed=Failed(Failure.FORBIDDEN, why="too much"))
    one.notes[DECIDED] = refuses
    assert hooks_of(recorded(one, 0.0, first, unnamed, last, Hooks(passes, name="never"))) == [
        ("routing", "matched", "route r"),
        ("auth", "passed", "bob"),
        ("limit", "refused", "too much"),
    ]


def test_a_hook_that_answered():
    one = asked(Reply(401), cache="hit")
    one.notes[DECIDED] = passes
    assert hooks_of(recorded(one, 0.0, Hooks(passes, name="mine")))[-1] == (
        "mine",
        "answered",
        "401, hit",
    )


def test_hooks_in_shadow():
    noted = [
        WouldRefuse("auth", "expired", "too late", ("api_key",), "late"),
        WouldRefuse("limits", "rate_limited", "a"),
        WouldRefuse("limits", "rate_limited", "b"),
    ]
    one = asked(Reply(200), upstream="o", reason="shadow:limits")
    one.notes[SHADOW] = noted
    found = recorded(one, 0.0, Hooks(passes, name="auth"), Hooks(lambda _: None, name="limits"))
    assert (found["client"], found["reason"], found["status"]) == ("late", "shadow:limits", 200)
    assert hooks_of(found)[1:-1] == [
        ("auth", WOULD, "too late"),
        ("limits", WOULD, "a"),
        ("limits", WOULD, "b"),
    ]


def test_the_gateways_own_answer():
    one = asked(Reply(503))
    one.route.config = RouteConfig("r", builtin="health")
    assert hooks_of(recorded(one))[-1] == ("health", "answered", "503")
    failed = Failed(Failure.UNAUTHENTICATED, "Who are you?")
    one.failed, one.reply = failed, None
    assert hooks_of(recorded(one))[-1] == ("health", "refused", "Who are you?")


def test_a_response_hook_that_failed():
    one = asked(upstream="o", failed=Failed(Failure.BAD_RESPONSE, why="no JSON", by="transform"))
    assert hooks_of(recorded(one))[1:] == [
        ("upstream", "answered", "answered"),
        ("transform", "failed", "no JSON"),
    ]


@pytest.mark.parametrize(
    ("reply", "upstream_seconds", "kept"),
    [
        (Reply(200), 0.0, True),
        (Reply(101), 0.1, False),
        (Reply(200, body=Stream()), 0.1, False),
        (Reply(200, body=Stream()), 6.0, True),
    ],
)
def test_how_long_a_stream_takes_does_not_make_it_slow(
    reply: Reply, upstream_seconds: float, kept: bool
):
    found = recorded(asked(reply, upstream_seconds=upstream_seconds), 60.0)
    assert (found is not None) is kept


def test_a_call_that_failed():
    call = asked(Reply(200, body=Stream()), reason="grpc_unavailable", upstream="o")
    entry = recorded(call)
    assert (entry["status"], entry["reason"]) == (200, "grpc_unavailable")
    assert hooks_of(entry)[-1] == ("upstream", "answered", "status 200, grpc_unavailable")


def test_texts_of_strangers_are_cut():
    one = asked(failed=Failed(Failure.FORBIDDEN, why="y" * 5000, client="c" * 5000))
    one.path, one.method = "/" + "x" * 5000, "M" * 5000
    found = recorded(one)
    texts = [found["request"]["path"], found["request"]["method"], found["client"]]
    assert [len(text) for text in (*texts, found["decisions"][-1]["why"])] == [LONGEST] * 4


def test_what_is_masked():
    def log(**more: Any) -> Any:
        given = {"mask": ("A",), "mask_patterns": (), "query": False, "client_ip": "full"}
        return SimpleNamespace(**{**given, **more})

    route = SimpleNamespace(settings={"logging": log(mask=("B",), mask_patterns=("email",))})
    pipeline = SimpleNamespace(settings={"logging.x": log(query=True), "auth": 1}, routes=[route])
    masks = masks_of(pipeline, frozenset(("c",)))
    assert masks.target("/a@b.cd", "a=1&b=2&c=3&d=4") == "/***?a=***&b=***&c=***&d=4"
    assert masks.address("192.0.2.7") == "192.0.2.7"
    without = masks_of(SimpleNamespace(settings={}, routes=[]), frozenset())
    assert without.target("/a@b.cd", "token=1") == "/a@b.cd"


def test_bounds_change_when_the_configuration_comes_to_be():
    services, registry = Services(Transport()), Registry()
    for workers, most in ((1, 100), (4, 25)):
        draft = registry.draft()
        remember, slow = remembering(configuration(why=100, workers=workers), draft, services, ())
        assert remember is not None and slow == 5.0
        assert services.why.failures.most != most * 4 // 5
        draft.commit()
        assert services.why.failures.most == most * 4 // 5
    remember, slow = remembering(configuration(why=0), registry.draft(), services, ())
    assert remember is None and slow == float("inf")


def test_a_pipeline_hands_over_what_was_refused_failed_or_slow():
    seen: list[Exchange] = []

    def remember(pipeline: Pipeline, exchange: Exchange, took: float) -> None:
        seen.append(exchange)

    pipeline = flatten("p", (), (), (), remember, 3600.0)
    failed = asked(failed=Failed(Failure.CLIENT_GONE))
    call = asked(Reply(200), reason="grpc_unavailable")
    well = [asked(Reply(200)), asked(Reply(399))]
    ones = [*well, asked(Reply(400)), failed, call, asked(Reply(200))]
    for one in ones:
        one.started = 1e12  # In the future.
    ones[-1].started = -1e12
    for one in ones:
        pipeline.done(one)
    assert seen == ones[2:]
