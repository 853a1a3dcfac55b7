"""What is said about routes agrees with what runtime/ makes of them: its errors would come too late
to be told with others."""

from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from gateway.config.check.placed import Placed
from gateway.config.check.routes import check_reachable, check_route, name_routes
from gateway.config.tables.pipeline import RouteConfig
from gateway.config.tables.server import RoutingConfig
from gateway.config.toml.problems import Problems
from gateway.config.toml.read import Document
from gateway.core.exchange import Exchange
from gateway.core.failures import Failed
from gateway.core.hooks import ConfigProblem
from gateway.routing.rewrite import rewritten
from gateway.routing.router import Router
from tests.exchange import exchange

UNLESS_SAID = RoutingConfig()

TEXTS = st.lists(
    st.sampled_from(
        [
            "/",
            "a",
            "A",
            ".",
            "..",
            "%2e",
            "%2F",
            "%5c",
            "%",
            "%00",
            "%41",
            "{",
            "}",
            "{id}",
            "{path}",
            "?",
            "#",
            ";",
            "\\",
            " ",
            "é",
            "&",
        ]
    ),
    max_size=7,
).map("".join)


def complained_of(route: RouteConfig, routing: RoutingConfig) -> bool:
    document = Document(Path("/x.toml"), Problems())
    check_route(Placed(document, ("route", 0), route), ("one",), routing)
    return bool(document.problems.of("error"))


@settings(max_examples=200, deadline=None)
@given(
    path=TEXTS.map("/".__add__),
    is_path=st.booleans(),
    strip=st.just("") | TEXTS.map("/".__add__),
    rewrite=st.just("") | TEXTS.map("/".__add__) | TEXTS,
    ignore=st.booleans(),
)
def test_what_is_good_here_is_good_for_runtime(
    path: str, is_path: bool, strip: str, rewrite: str, ignore: bool
) -> None:
    routing = RoutingConfig(
        case_sensitive=not ignore, trailing_slash="ignore" if ignore else "strict"
    )
    route = RouteConfig(
        path=path if is_path else "",
        prefix="" if is_path else path,
        strip_prefix=strip,
        rewrite=rewrite,
        upstream="one",
    )
    if complained_of(route, routing):
        return
    try:
        Router([(route, 1)], routing)
        rewritten(route, routing)
    except ConfigProblem as problem:
        pytest.fail(f"{route}: {problem}")


ROUTES = st.builds(
    lambda path, kind, methods, hosts, headers: RouteConfig(
        **{kind: path}, methods=methods, hosts=hosts, headers=headers, upstream="one"
    ),
    st.sampled_from(["/a", "/{x}", "/{y}"]),
    st.just("path"),
    st.sets(st.sampled_from(["GET", "HEAD", "POST", "PUT"])).map(tuple),
    st.sets(st.sampled_from(["a.com", "b.com", "*.com"])).map(tuple),
    st.sampled_from([{}, {"X": "1"}, {"x": "1"}, {"X": "*"}]),
)


@settings(max_examples=200, deadline=None)
@given(routes=st.lists(ROUTES, min_size=2, max_size=5))
def test_runtime_never_chooses_what_is_said_to_be_never_reached(routes: list[RouteConfig]) -> None:
    document = Document(
        Path("/x.toml"),
        Problems(),
        {},
        {("route", index): (index + 1, 1) for index in range(len(routes))},
    )
    placed = [Placed(document, ("route", index), route) for index, route in enumerate(routes)]
    named = name_routes(placed)
    check_reachable(
        [Placed(document, ("route", index), route) for index, route in enumerate(named)],
        UNLESS_SAID,
    )
    unreachable = {problem.line - 1 for problem in document.problems.all()}
    reachable = {index for index in range(len(routes)) if index not in unreachable}
    everything = Router(list(zip(named, range(len(named)), strict=True)), UNLESS_SAID)
    without = Router([(named[index], index) for index in sorted(reachable)], UNLESS_SAID)
    for method in ("GET", "HEAD", "POST", "PUT", "DELETE"):
        for path in ("/a", "/b"):
            for host in ("a.com", "b.com", "c.com", "d.org"):
                for headers in ({}, {"X": "1", "x": "1"}, {"X": "2", "x": "2"}):
                    request = exchange(method, path, headers, host=host)
                    chosen, otherwise = match(everything, request), match(without, request)
                    # Taking it out changes nothing, but for which of two with the very same match
                    # it is.
                    assert chosen == otherwise or same(named, chosen, otherwise)


def match(router: Router[int], request: Exchange) -> int | str:
    try:
        return router.match(request)
    except Failed as failed:
        return failed.failure.reason


def same(routes: list[RouteConfig], one: int | str, other: int | str) -> bool:
    if isinstance(one, str) or isinstance(other, str):
        return False
    first, second = routes[one], routes[other]
    lower = [
        {name.lower(): value for name, value in route.headers.items()} for route in (first, second)
    ]
    return set(first.methods) == set(second.methods) and lower[0] == lower[1]
