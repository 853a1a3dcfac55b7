"""Configuration to snapshot: which hooks run for which route, in which order, and every problem of
every part at once."""

from __future__ import annotations

import itertools
from pathlib import Path
from typing import Any

import pytest

from gateway.config.toml.problems import ConfigErrors
from gateway.core.exchange import Exchange, Reply
from gateway.core.failures import Failed, Failure
from gateway.core.hooks import ConfigProblem, Context, Hooks
from gateway.lifetime.registry import Registry
from gateway.runtime.compose import compose, composing
from gateway.runtime.pipeline import Pipeline
from gateway.runtime.reload import load
from gateway.runtime.services import Services
from gateway.runtime.snapshot import Snapshot
from gateway.upstream.connections.transport import Transport
from tests.exchange import exchange
from tests.flow.conftest import write

UPSTREAM = '[upstream.origin]\nurl = "http://127.0.0.1:9"\n'
ROUTE = '[[route]]\nname = "all"\nprefix = "/"\nupstream = "origin"\n'
NOTES = f"{__name__}:notes"
CONTEXTS: list[Context] = []


def notes(config: dict[str, Any], context: Context) -> Hooks:
    """A middleware that writes down that it ran."""
    CONTEXTS.append(context)
    if "wrong" in config:
        raise ConfigProblem("wrong is wrong", at=("wrong",), hint="say right")
    if "breaks" in config:
        raise ZeroDivisionError("by zero")

    def note(exchange: Exchange, word: str) -> None:
        exchange.notes.setdefault("ran", []).append(f"{word} {config.get('says', '')}")

    return Hooks(
        request=lambda exchange: note(exchange, "request"),
        response=lambda exchange, reply: note(exchange, "response"),
        error=lambda exchange, failed: note(exchange, "error"),
        finish=lambda exchange: note(exchange, "finish"),
    )


@pytest.fixture(autouse=True)
def contexts() -> list[Context]:
    CONTEXTS.clear()
    return CONTEXTS


def composed(
    directory: Path, pipeline: str, upstreams: str = UPSTREAM, gateway: str = ""
) -> Snapshot:
    write(directory, pipeline, upstreams, gateway)
    return compose(load(directory / "gateway.toml", {}), Registry().draft(), Services(Transport()))


def lists(*names: str) -> str:
    return "".join(
        f"{kind} = {list(names)}\n".replace("'", '"') for kind in ("request", "response", "error")
    )


def run(pipeline: Pipeline) -> list[str]:
    """What ran for a request that was answered."""
    made = exchange()
    assert pipeline.ask(made) is None
    assert pipeline.answer(made, Reply(200)) is None
    pipeline.done(made)
    return made.notes["ran"]


def test_hooks_run_as_the_lists_say(tmp_path: Path):
    snapshot = composed(tmp_path, f'{lists(NOTES)}["{NOTES}"]\nsays = "pipeline"\n{ROUTE}')
    [route] = snapshot.routes
    assert run(route.pipeline) == ["request pipeline", "response pipeline", "finish pipeline"]
    assert [(one.name, one.pipeline, one.route, one.directory.name) for one in CONTEXTS] == [
        (NOTES, "test", "", "pipelines")
    ]


def test_a_route_may_bring_lists_and_keys_of_its_own(tmp_path: Path):
    own = (
        '[[route]]\nname = "own"\npath = "/own"\nupstream = "origin"\n'
        + f'"{NOTES}" = {{ says = "route" }}\n'
    )
    without = (
        f'[[route]]\nname = "without"\npath = "/without"\nupstream = "origin"\n"{NOTES}" = false\n'
    )
    bare = '[[route]]\nname = "bare"\npath = "/bare"\nupstream = "origin"\nrequest = []\n'
    snapshot = composed(
        tmp_path, f'{lists(NOTES)}["{NOTES}"]\nsays = "pipeline"\n{ROUTE}{own}{without}{bare}'
    )
    ran = {route.name: route.pipeline for route in snapshot.routes}
    assert run(ran["all"])[0] == "request pipeline"
    assert run(ran["own"])[0] == "request route"
    assert run(ran["bare"]) == ["response pipeline", "finish pipeline"]
    made = exchange()
    assert ran["without"].ask(made) is None and made.notes == {}
    assert sorted(one.route for one in CONTEXTS) == ["", "own"]


def test_errors_are_rendered_before_others_change_them(tmp_path: Path):
    snapshot = composed(
        tmp_path, f"{lists(NOTES)}{ROUTE}", gateway='[errors]\nformat = "envelope"\n'
    )
    made = exchange(request_id="r-1")
    reply = snapshot.routes[0].pipeline.fail(made, Failed(Failure.NO_ENDPOINT))
    assert isinstance(reply, Reply) and reply.status == 503
    assert made.notes["ran"] == ["error "]
    assert isinstance(reply.body, bytes) and reply.body.startswith(b'{"error":{"code":"SVC_001"')


def test_what_matches_no_route_is_rendered(tmp_path: Path):
    snapshot = composed(tmp_path, ROUTE.replace('prefix = "/"', 'path = "/only"'))
    made = exchange(target="/other")
    with pytest.raises(Failed) as caught:
        snapshot.router.match(made)
    reply = snapshot.unrouted.fail(made, caught.value)
    assert isinstance(reply, Reply) and reply.status == 404


def test_every_problem_is_found_at_once_and_where_it_stands(tmp_path: Path):
    other = (
        f'["{NOTES}"]\nbreaks = 1\n[[route]]\npath = "/other"\nupstream = '
        f'"origin"\n"{NOTES}" = {{ wrong = 2 }}\n'
    )
    with pytest.raises(ConfigErrors) as caught:
        composed(tmp_path, f"{lists(NOTES)}{other}")
    assert [
        (problem.file.name, problem.line, problem.message) for problem in caught.value.problems
    ] == [
        ("test.toml", 4, f"{NOTES}: build failed: ZeroDivisionError: by zero"),
        ("test.toml", 9, f"{NOTES}: wrong is wrong"),
    ]


def test_at_most_one_middleware_is_built_between_two_steps(tmp_path: Path):
    """So that the loop never stands for longer than that takes, however many routes there are."""
    own = "".join(
        f'[[route]]\npath = "/{number}"\nupstream = "origin"\n"{NOTES}" = {{}}\n'
        for number in range(40)
    )
    write(tmp_path, f"{lists(NOTES)}{own}", UPSTREAM)
    steps = composing(
        load(tmp_path / "gateway.toml", {}), Registry().draft(), Services(Transport())
    )
    built, value = [0], None
    with pytest.raises(StopIteration):
        while True:
            apart = steps.send(value)
            value = None if apart is None else apart()
            built.append(len(CONTEXTS))
    assert max(later - earlier for earlier, later in itertools.pairwise(built)) == 1
    assert built[-1] == 41 and len(built) > 80, "each route is a step besides"


def test_pools_are_kept_by_their_names(tmp_path: Path):
    write(tmp_path, ROUTE, UPSTREAM)
    keep, world = Registry(), Services(Transport())
    first = compose(load(tmp_path / "gateway.toml", {}), draft := keep.draft(), world)
    draft.commit()
    write(
        tmp_path,
        ROUTE,
        UPSTREAM + 'balance = "random"\n[upstream.other]\nurl = "http://127.0.0.1:10"\n',
    )
    second = compose(load(tmp_path / "gateway.toml", {}), keep.draft(), world, 2)
    assert second.pools["origin"] is first.pools["origin"] and set(second.pools) == {
        "origin",
        "other",
    }
    assert (first.number, second.number) == (1, 2)


def test_only_routes_whose_hooks_ask_who_calls_are_guarded(tmp_path: Path):
    jwt = (
        '[auth]\nmethods = ["jwt"]\n[[auth.jwt]]\nissuer = "x"\nalgorithms = ["HS256"]\nsecret = '
        '"%s"\n'
    ) % ("a" * 64)
    bare = '[[route]]\nname = "open"\npath = "/open"\nupstream = "origin"\nauth = false\n'
    snapshot = composed(tmp_path, f'request = ["auth"]\n{jwt}{ROUTE}{bare}')
    assert {route.name: route.guarded for route in snapshot.routes} == {"all": True, "open": False}
