"""Which route a request gets: tables of cases, a slow and obvious matcher to compare with, and what
a match costs."""

from __future__ import annotations

import gc
import random
import sys
from dataclasses import replace
from types import FrameType
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from gateway.config.tables.pipeline import RouteConfig
from gateway.config.tables.server import RoutingConfig
from gateway.core.exchange import ALLOWED_METHODS, NO_PARAMS, Exchange
from gateway.core.failures import Failed, Failure
from gateway.routing.router import Router
from tests.exchange import Headers, exchange

STRICT = RoutingConfig()
LOOSE = RoutingConfig(case_sensitive=False, trailing_slash="ignore")


def asks(
    target: str, method: str = "GET", host: str = "example.com", headers: Headers = ()
) -> Exchange:
    return exchange(method, target, headers, host=host)


def router(*routes: RouteConfig, routing: RoutingConfig = STRICT) -> Router[str]:
    return Router([(route, route.name or route.path or route.prefix) for route in routes], routing)


def path(text: str, **more: Any) -> RouteConfig:
    return RouteConfig(path=text, **more)


def prefix(text: str, **more: Any) -> RouteConfig:
    return RouteConfig(prefix=text, **more)


def matched(routes: Router[str], request: Exchange) -> str:
    """The target's name, or the failure's."""
    try:
        return routes.match(request)
    except Failed as failed:
        return failed.failure.name


@pytest.mark.parametrize(
    ("why", "routes", "target", "expected"),
    [
        ("an exact path", [path("/health")], "/health", "/health"),
        ("the query is not part of it", [path("/health")], "/health?x=/other", "/health"),
        ("nothing but that path", [path("/health")], "/health/x", "NO_ROUTE"),
        ("no routes at all", [], "/", "NO_ROUTE"),
        ("a trailing slash is another path", [path("/health")], "/health/", "NO_ROUTE"),
        ("letters count", [path("/health")], "/Health", "NO_ROUTE"),
        ("a prefix takes itself", [prefix("/api")], "/api", "/api"),
        ("and what is below", [prefix("/api")], "/api/x/y", "/api"),
        ("and itself with a slash", [prefix("/api")], "/api/", "/api"),
        ("only by whole segments", [prefix("/api")], "/apix", "NO_ROUTE"),
        ("a prefix with a slash takes what is below", [prefix("/api/")], "/api/x", "/api/"),
        ("and the slash", [prefix("/api/")], "/api/", "/api/"),
        ("but not the path without", [prefix("/api/")], "/api", "NO_ROUTE"),
        ("/ takes everything", [prefix("/")], "/a/b/c", "/"),
        ("and itself", [prefix("/")], "/", "/"),
        ("an asterisk is no path", [prefix("/")], "*", "NO_ROUTE"),
        ("a template takes one segment", [path("/c/{id}")], "/c/7", "/c/{id}"),
        ("not two", [path("/c/{id}")], "/c/7/x", "NO_ROUTE"),
        ("not none", [path("/c/{id}")], "/c", "NO_ROUTE"),
        ("not an empty one", [path("/c/{id}")], "/c/", "NO_ROUTE"),
        ("a variable in front", [path("/{a}/x")], "/7/x", "/{a}/x"),
        ("and another literal behind it", [path("/{a}/x")], "/7/y", "NO_ROUTE"),
        ("exact before template", [path("/c/{id}"), path("/c/me")], "/c/me", "/c/me"),
        ("exact before prefix", [prefix("/c/me"), path("/c/me")], "/c/me", "/c/me"),
        ("template before prefix", [prefix("/c/me"), path("/c/{id}")], "/c/me", "/c/{id}"),
        ("the longest prefix", [prefix("/"), prefix("/a"), prefix("/a/b")], "/a/b/c", "/a/b"),
        ("back to a shorter one", [prefix("/"), prefix("/a"), prefix("/a/b")], "/a/c", "/a"),
        ("with a slash is longer", [prefix("/a"), prefix("/a/")], "/a/b", "/a/"),
        ("without it only one is left", [prefix("/a"), prefix("/a/")], "/a", "/a"),
        ("more literals", [path("/a/{x}/{y}"), path("/{x}/b/c")], "/a/b/c", "/{x}/b/c"),
        ("then the leftmost", [path("/{x}/b"), path("/a/{y}")], "/a/b", "/a/{y}"),
        (
            "a dead end turns back",
            [path("/a/b/{x}/d"), path("/{w}/b/c/e")],
            "/a/b/c/e",
            "/{w}/b/c/e",
        ),
        ("dead everywhere", [path("/a/b/{x}/d"), path("/{w}/b/c/e")], "/a/b/c/f", "NO_ROUTE"),
        ("an escape that needs none", [path("/abc")], "/%61b%63", "/abc"),
        ("written so in TOML", [path("/%61b%63")], "/abc", "/%61b%63"),
        ("a letter outside ASCII in TOML", [path("/caf\u00e9")], "/caf%c3%a9", "/caf\u00e9"),
        ("or on the wire", [path("/caf%C3%A9")], "/caf\u00e9", "/caf%C3%A9"),
        ("a space in TOML", [path("/a b")], "/a%20b", "/a b"),
        ("an encoded sub-delimiter", [prefix("/@me"), prefix("/")], "/%40me/x", "/@me"),
        ("an encoded slash splits nothing", [prefix("/a")], "/a%2Fb", "NO_ROUTE"),
        ("nor ends a template's variable", [path("/{x}")], "/a%2fb", "/{x}"),
        ("a dot segment", [prefix("/")], "/a/../b", "MALFORMED"),
        ("an encoded dot segment", [prefix("/")], "/a/%2E%2e/b", "MALFORMED"),
        ("double slashes are no bypass", [prefix("/"), prefix("/admin")], "//admin", "MALFORMED"),
        ("nor within", [prefix("/"), prefix("/a/admin")], "/a//admin/x", "MALFORMED"),
        ("nor of an exact path", [prefix("/"), path("/admin")], "//admin", "MALFORMED"),
        ("nor of a template", [prefix("/"), path("/c/{id}")], "/c//7", "MALFORMED"),
        ("but otherwise welcome", [prefix("/"), prefix("/a")], "/a//b", "/a"),
        ("where nothing would take them", [prefix("/admin")], "//admin", "NO_ROUTE"),
        ("or where TOML says so", [prefix("/a"), path("/a//b")], "/a//b", "/a//b"),
        ("and a route that ignores them", [prefix("/")], "//x//", "/"),
    ],
)
def test_paths(why: str, routes: list[RouteConfig], target: str, expected: str):
    for order in (routes, routes[::-1]):
        assert matched(router(*order), asks(target)) == expected, why


@pytest.mark.parametrize(
    ("routes", "target", "expected"),
    [
        ([path("/a")], "/A/", "/a"),
        ([path("/a/")], "/a", "/a/"),
        ([path("/")], "/", "/"),
        ([path("/C/{id}")], "/c/Seven/", "/C/{id}"),
        ([path("/c/{id}/")], "/c/7", "/c/{id}/"),
        ([prefix("/Api/")], "/API", "/Api/"),
        ([prefix("/")], "/x", "/"),
        ([path("/a"), path("/a/")], "/a", "/a"),
        ([path("/a"), path("/a/")], "/a/", "/a/"),
        ([path("/a", case_sensitive=True)], "/A", "NO_ROUTE"),
        ([path("/a", trailing_slash="strict")], "/a/", "NO_ROUTE"),
        ([path("/A", case_sensitive=True), path("/a")], "/A", "/A"),
        ([path("/A", case_sensitive=True), path("/a")], "/a", "/a"),
        ([prefix("/A", case_sensitive=True), prefix("/a/b")], "/A/b/c", "/a/b"),
        ([prefix("/A", case_sensitive=True), path("/{x}")], "/A", "/{x}"),
    ],
)
def test_paths_that_are_compared_loosely(routes: list[RouteConfig], target: str, expected: str):
    for order in (routes, routes[::-1]):
        assert matched(router(*order, routing=LOOSE), asks(target)) == expected


def test_a_route_may_be_looser_than_the_rest():
    routes = router(path("/a", case_sensitive=False, trailing_slash="ignore"), path("/b"))
    assert matched(routes, asks("/A/")) == "/a"
    assert matched(routes, asks("/B")) == "NO_ROUTE"
    assert matched(routes, asks("/b")) == "/b"


HOSTS = (
    prefix("/", name="exact", hosts=("Api.example.com", "other.org")),
    prefix("/", name="longer", hosts=("*.eu.example.com",)),
    prefix("/", name="wild", hosts=("*.example.com",)),
    prefix("/", name="any"),
)


@pytest.mark.parametrize(
    ("host", "expected"),
    [
        ("api.example.com", "exact"),
        ("api.example.com.", "exact"),
        ("other.org", "exact"),
        ("x.example.com", "wild"),
        ("a.b.example.com", "wild"),
        ("x.eu.example.com", "longer"),
        ("eu.example.com", "wild"),
        ("example.com", "any"),
        (".example.com", "any"),
        ("badexample.com", "any"),
        ("", "any"),
        ("a." * 200 + "example.com", "any"),
    ],
)
def test_hosts(host: str, expected: str):
    for order in (HOSTS, HOSTS[::-1]):
        assert matched(router(*order), asks("/", host=host)) == expected
    without_any = router(*HOSTS[:3])
    assert matched(without_any, asks("/", host=host)) == (
        "NO_ROUTE" if expected == "any" else expected
    )


def test_the_path_weighs_more_than_the_host():
    routes = router(prefix("/a"), prefix("/", name="host", hosts=("example.com",)))
    assert matched(routes, asks("/a")) == "/a"
    assert matched(routes, asks("/b")) == "host"


HEADERS = (
    prefix("/", name="two", headers={"X-Beta": "1", "X-Team": "*"}),
    prefix("/", name="value", headers={"x-beta": "1"}),
    prefix("/", name="present", headers={"X-Beta": "*"}),
    prefix("/", name="none"),
)


@pytest.mark.parametrize(
    ("headers", "expected"),
    [
        ({"X-BETA": "1", "x-team": "red"}, "two"),
        ({"X-Beta": "1"}, "value"),
        ({"X-Beta": "2"}, "present"),
        ({"X-Beta": "2", "X-Team": "red"}, "present"),
        ({"X-Team": "red"}, "none"),
        ({}, "none"),
    ],
)
def test_headers(headers: dict[str, str], expected: str):
    for order in (HEADERS, HEADERS[::-1]):
        assert matched(router(*order), asks("/", headers=headers)) == expected


@pytest.mark.parametrize(
    ("values", "expected"),
    [
        (("0", "1"), "MALFORMED"),
        (("1", "0"), "MALFORMED"),
        (("1", "1"), "value"),
        (("0", "2"), "present"),
    ],
)
def test_lines_of_a_header_that_lead_to_different_routes(values: tuple[str, ...], expected: str):
    """The first would lead around the pipeline of the second, by which an upstream may go."""
    request = asks("/", headers=[("X-Beta", value) for value in values])
    assert matched(router(*HEADERS), request) == expected


METHODS = (
    path("/c", name="read", methods=("GET",)),
    path("/c", name="write", methods=("post", "PUT")),
    prefix("/c", name="rest", methods=("DELETE",)),
)


@pytest.mark.parametrize(
    ("method", "expected"),
    [
        ("GET", "read"),
        ("HEAD", "read"),
        ("POST", "write"),
        ("PUT", "write"),
        ("DELETE", "rest"),
        ("PATCH", "METHOD_NOT_ALLOWED"),
    ],
)
def test_methods(method: str, expected: str):
    for order in (METHODS, METHODS[::-1]):
        assert matched(router(*order), asks("/c", method)) == expected


def test_method_not_allowed_names_those_that_are():
    routes = router(*METHODS, prefix("/", name="elsewhere", hosts=("other.org",)))
    with pytest.raises(Failed) as caught:
        routes.match(asks("/c", "PATCH"))
    assert caught.value.failure is Failure.METHOD_NOT_ALLOWED
    assert caught.value.headers == ((b"Allow", b"DELETE, GET, HEAD, OPTIONS, POST, PUT"),)


def test_a_route_with_methods_comes_before_one_without():
    routes = router(path("/c", name="all"), path("/c", name="get", methods=("GET",)))
    assert matched(routes, asks("/c")) == "get"
    assert matched(routes, asks("/c", "DELETE")) == "all"


def test_head_has_its_own_route_where_there_is_one():
    routes = router(
        path("/c", name="get", methods=("GET",)), path("/c", name="head", methods=("HEAD",))
    )
    assert matched(routes, asks("/c", "HEAD")) == "head"
    assert matched(routes, asks("/c", "GET")) == "get"


def preflight(target: str, method: str) -> Exchange:
    return asks(
        target,
        "OPTIONS",
        headers={"Origin": "https://a.example", "Access-Control-Request-Method": method},
    )


def test_options_finds_the_route_a_preflight_is_about():
    routes = router(*METHODS)
    assert matched(routes, preflight("/c", "GET")) == "read"
    assert matched(routes, preflight("/c", "POST")) == "write"
    assert matched(routes, preflight("/c", "DELETE")) == "rest"
    assert matched(routes, preflight("/c", "PURGE")) == "read"
    assert matched(routes, preflight("/d", "GET")) == "NO_ROUTE"


def test_options_leaves_the_methods_for_cors():
    routes = router(*METHODS, path("/all"))
    request = preflight("/c", "PATCH")
    routes.match(request)
    assert request.notes[ALLOWED_METHODS] == ("DELETE", "GET", "HEAD", "POST", "PUT")
    request = preflight("/all", "PATCH")
    routes.match(request)
    assert request.notes == {}


def test_plain_options_gets_the_most_specific_route():
    assert matched(router(path("/c", methods=("GET",)), prefix("/")), asks("/c", "OPTIONS")) == "/c"
    assert matched(router(path("/c", methods=("GET",)), prefix("/")), asks("/d", "OPTIONS")) == "/"
    own = router(
        path("/c", name="get", methods=("GET",)), path("/c", name="own", methods=("OPTIONS",))
    )
    assert matched(own, asks("/c", "OPTIONS")) == "own"


def test_a_route_that_lists_options_gets_preflights():
    own = router(
        path("/c", name="a", methods=("DELETE",)), path("/c", name="own", methods=("OPTIONS",))
    )
    assert matched(own, preflight("/c", "GET")) == "own"
    asked = asks("/c", "OPTIONS")
    assert matched(own, asked) == "own"
    assert asked.notes[ALLOWED_METHODS] == ("DELETE", "OPTIONS")


def test_captures_are_decoded():
    request = asks("/Users/J%C3%B6rg%2Fx/p%61rt")
    assert (
        matched(router(path("/users/{name}/{piece}"), routing=LOOSE), request)
        == "/users/{name}/{piece}"
    )
    assert request.params == {"name": "J\u00f6rg/x", "piece": "part"}
    quick = asks("/users/7/Part")
    router(path("/users/{name}/{piece}")).match(quick)
    assert quick.params == {"name": "7", "piece": "Part"}


def test_a_route_without_variables_leaves_the_shared_params():
    request = asks("/x")
    router(prefix("/"), path("/users/{name}")).match(request)
    assert request.params is NO_PARAMS


def test_a_capture_that_is_not_utf8_is_malformed():
    assert matched(router(path("/users/{name}")), asks("/users/%FF")) == "MALFORMED"


def test_equals_do_not_depend_on_the_order_of_the_files():
    routes = [path("/c", name=name, headers={f"X-{name}": "*"}) for name in "abc"]
    request = {f"X-{name}": "1" for name in "abc"}
    for seed in range(6):
        random.Random(seed).shuffle(routes)
        assert matched(router(*routes), asks("/c", headers=request)) == "a"


# A slow and obvious matcher: looks at every route, keeps those that accept the request, takes the
# smallest key.


def slow_path_key(route: RouteConfig, routing: RoutingConfig, path: str) -> tuple[Any, ...] | None:
    """How specifically the route's path accepts this one, or None."""
    sensitive = routing.case_sensitive if route.case_sensitive is None else route.case_sensitive
    ignore = (route.trailing_slash or routing.trailing_slash) == "ignore"
    best = None
    patterns = [route.path or route.prefix] + ([_other_slash(route.path)] if ignore else [])
    for by_slash, pattern in enumerate(patterns):
        if not pattern:
            continue
        wanted, sent = pattern, path
        if not sensitive:
            wanted, sent = wanted.lower(), sent.lower()
        if route.path:
            key = _slow_whole(wanted.split("/"), sent.split("/"))
        else:
            key = _slow_prefix((wanted.rstrip("/") or "/") if ignore else wanted, sent)
        if key is not None and best is None:
            best = (*key, by_slash, not sensitive)
    return best


def _other_slash(path: str) -> str:
    return "" if path in ("", "/") else path[:-1] if path.endswith("/") else path + "/"


def _slow_whole(wanted: list[str], sent: list[str]) -> tuple[Any, ...] | None:
    if len(wanted) != len(sent):
        return None
    varies = [segment.startswith("{") for segment in wanted]
    for segment, vary, got in zip(wanted, varies, sent, strict=True):
        if (not got) if vary else segment != got:
            return None
    return (1, varies.count(False) * -1, varies) if any(varies) else (0, 0, [])


def _slow_prefix(wanted: str, sent: str) -> tuple[Any, ...] | None:
    accepts = (
        sent.startswith(wanted)
        if wanted.endswith("/")
        else sent == wanted or sent.startswith(wanted + "/")
    )
    return (2, -len(wanted), []) if accepts else None


def slow_match(
    routes: list[RouteConfig], routing: RoutingConfig, request: Exchange
) -> tuple[Any, set[str]]:
    """The best key and the names of the routes that have it; the failure's name instead when there
    is none."""
    found = []
    for route in routes:
        path_key = slow_path_key(route, routing, request.path)
        if path_key is None:
            continue
        hosts = (
            [slow_host_key(host, request.host) for host in route.hosts] if route.hosts else [(2, 0)]
        )
        hosts = [key for key in hosts if key is not None]
        if not hosts or any(
            name not in request.headers or value not in ("*", request.headers[name])
            for name, value in route.headers.items()
        ):
            continue
        values = sum(value != "*" for value in route.headers.values())
        key = (path_key, min(hosts), -len(route.headers), -values, not route.methods)
        takes = (
            not route.methods
            or request.method in route.methods
            or (request.method == "HEAD" and "GET" in route.methods)
        )
        found.append((key, takes, route.name))
    accepted = [(key, name) for key, takes, name in found if takes]
    if not accepted:
        return None, {"METHOD_NOT_ALLOWED" if found else "NO_ROUTE"}
    best = min(key for key, _ in accepted)
    return best, {name for key, name in accepted if key == best}


def slow_host_key(pattern: str, host: str) -> tuple[int, int] | None:
    if not pattern.startswith("*."):
        return (0, 0) if pattern == host else None
    return (1, -len(pattern)) if host.endswith(pattern[1:]) and len(host) >= len(pattern) else None


segments = st.sampled_from(["a", "b", "A", "cd"])
literal_paths = st.lists(segments, max_size=3).map(lambda found: "/" + "/".join(found))
slashed_paths = st.tuples(literal_paths, st.sampled_from(["", "/"])).map(
    lambda both: both[0].rstrip("/") + both[1] or "/"
)
template_paths = st.lists(st.one_of(segments, st.just("{}")), min_size=1, max_size=4).map(
    lambda found: (
        "/"
        + "/".join(
            f"{{v{place}}}" if segment == "{}" else segment for place, segment in enumerate(found)
        )
    )
)
route_configs = st.builds(
    lambda kind, path, template, **more: RouteConfig(
        path={"path": path, "template": template}.get(kind, ""),
        prefix=path if kind == "prefix" else "",
        **more,
    ),
    kind=st.sampled_from(["path", "template", "prefix"]),
    path=slashed_paths,
    template=template_paths,
    methods=st.sampled_from([(), (), ("GET",), ("POST", "PUT")]),
    hosts=st.lists(
        st.sampled_from(["x.org", "a.x.org", "*.x.org", "*.org"]), max_size=2, unique=True
    ).map(tuple),
    headers=st.dictionaries(
        st.sampled_from(["X-A", "X-B"]), st.sampled_from(["1", "*"]), max_size=2
    ),
    case_sensitive=st.sampled_from([None, None, True, False]),
    trailing_slash=st.sampled_from([None, None, "strict", "ignore"]),
)
requests = st.builds(
    asks,
    st.lists(segments, max_size=4).map(lambda found: "/" + "/".join(found)),
    st.sampled_from(["GET", "HEAD", "POST", "DELETE"]),
    st.sampled_from(["x.org", "a.x.org", "b.a.x.org", "else.net"]),
    st.dictionaries(st.sampled_from(["X-A", "X-B"]), st.sampled_from(["1", "2"]), max_size=2),
)


@settings(max_examples=200, deadline=None)
@given(
    st.lists(route_configs, max_size=12),
    st.sampled_from([STRICT, LOOSE]),
    st.lists(requests, min_size=1, max_size=8),
    st.randoms(),
)
def test_against_the_slow_matcher(
    routes: list[RouteConfig], routing: RoutingConfig, sent: list[Exchange], rng: random.Random
):
    routes = [replace(route, name=f"r{number}") for number, route in enumerate(routes)]
    compiled = router(*routes, routing=routing)
    shuffled = router(*rng.sample(routes, len(routes)), routing=routing)
    for request in sent:
        key, expected = slow_match(routes, routing, request)
        got = matched(compiled, request)
        assert got in expected, (request.method, request.path, request.host, key)
        assert matched(shuffled, request) == got
        params, request.params = request.params, NO_PARAMS
        assert (matched(compiled, request), request.params) == (got, params), (
            "the path is known now"
        )


@settings(max_examples=100, deadline=None)
@given(
    st.lists(route_configs, max_size=8),
    st.lists(st.sampled_from(["a", "b", "", ""]), min_size=1, max_size=5),
)
def test_empty_segments_never_lead_around_a_route(routes: list[RouteConfig], sent: list[str]):
    """What the merged path has to itself, the path with double slashes does not get elsewhere."""
    routes = [
        replace(route, name=f"r{number}", hosts=(), headers={}, methods=())
        for number, route in enumerate(routes)
    ]
    target = "/" + "/".join(sent)
    merged = target
    while "//" in merged:
        merged = merged.replace("//", "/")
    got = matched(router(*routes), asks(target))
    raw_key, raw = slow_match(routes, STRICT, asks(target))
    merged_key, straight = slow_match(routes, STRICT, asks(merged))
    if raw_key is None:
        assert got == "NO_ROUTE"
    elif merged_key is None or raw_key <= merged_key:
        assert got in raw
    else:
        assert got == "MALFORMED" or got in raw & straight


def steps(function: Any, *arguments: Any) -> int:
    """How many byte codes it takes, in the gateway's own functions."""
    counted(
        function, *arguments
    )  # From Python 3.12 on, code counts only once a trace before has seen it.
    return counted(function, *arguments)


def counted(function: Any, *arguments: Any) -> int:
    count = 0

    def trace(frame: FrameType, event: str, argument: Any) -> Any:
        nonlocal count
        frame.f_trace_opcodes = True
        frame.f_trace_lines = False
        count += event == "opcode"
        return trace

    before, collects = sys.gettrace(), gc.isenabled()
    gc.disable()  # Libraries of tests run code of their own when it collects.
    sys.settrace(trace)
    try:
        function(*arguments)
    finally:
        sys.settrace(before)
        if collects:
            gc.enable()
    return count


def many(number: int) -> list[RouteConfig]:
    """`number` of each kind."""
    found = [prefix("/", name="all"), path("/c/{id}"), path("/c/{id}/x")]
    for index in range(number):
        found += [
            path(f"/exact/{index}"),
            prefix(f"/api/v1/service-{index}"),
            path(f"/things-{index}/{{id}}"),
            prefix("/", name=f"h{index}", hosts=(f"h{index}.example.com",)),
            prefix("/", name=f"w{index}", hosts=(f"*.w{index}.example.com",)),
            prefix("/", name=f"t{index}", headers={"X-Team": str(index)}),
        ]
    return found


FEW, LOTS = router(*many(10)), router(*many(1000))
