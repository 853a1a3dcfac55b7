"""What is said about one route, and about routes beside one another."""

from pathlib import Path

import pytest

from gateway.config.check.placed import Placed
from gateway.config.check.routes import check_route, name_routes
from gateway.config.tables.pipeline import RouteConfig
from gateway.config.tables.server import RoutingConfig
from gateway.config.toml.problems import Problems
from gateway.config.toml.read import Document
from tests.unit.config.tree import Tree

UNLESS_SAID = RoutingConfig()
DOTS = " has a '.' or '..' segment; requests that have one are refused"


def checked(
    route: RouteConfig, upstreams: tuple[str, ...] = ("one",), routing: RoutingConfig = UNLESS_SAID
) -> list[str]:
    document = Document(Path("/x.toml"), Problems())
    check_route(Placed(document, ("route", 0), route), upstreams, routing)
    return [f"{problem.severity}: {problem.message}" for problem in document.problems.all()]


@pytest.mark.parametrize(
    ("what", "keys"),
    [
        ("a prefix", {"prefix": "/api"}),
        ("all there is", {"prefix": "/"}),
        ("a path", {"path": "/health"}),
        ("a template", {"path": "/cameras/{id}/images/{image-id}"}),
        ("letters beyond ASCII, as runtime encodes them", {"path": "/straße"}),
        ("an escape", {"path": "/a%20b"}),
        ("a dot in a segment", {"path": "/a.b/.well-known/..."}),
        ("methods", {"prefix": "/", "methods": ("GET", "PROPFIND", "M-SEARCH")}),
        (
            "hosts",
            {
                "prefix": "/",
                "hosts": (
                    "example.com",
                    "*.example.com",
                    "localhost",
                    "10.0.0.1",
                    "[::1]",
                    "my_service",
                ),
            },
        ),
        ("a prefix to strip", {"prefix": "/api/v1/x", "strip_prefix": "/api/v1"}),
        ("all of it", {"prefix": "/api/v1", "strip_prefix": "/api/v1"}),
        ("with a slash", {"prefix": "/api/v1", "strip_prefix": "/api/"}),
        ("from a path", {"path": "/api/{id}", "strip_prefix": "/api"}),
        (
            "in other letters",
            {"prefix": "/API/v1", "strip_prefix": "/api", "case_sensitive": False},
        ),
        ("a rewrite", {"prefix": "/", "rewrite": "/v1{path}"}),
        ("several", {"paths": ("/a/{id}", "/b/{id}"), "rewrite": "/x/{id}"}),
        ("a rewrite with a name", {"path": "/a/{id}", "rewrite": "/b/{id}"}),
        ("a rewrite with a query", {"path": "/a/{id}", "rewrite": "/b?id={id}&path={path}&x=.."}),
        ("a rewrite of the path alone", {"prefix": "/", "rewrite": "{path}"}),
        ("a name called path that is not used", {"path": "/{path}", "rewrite": "/x"}),
    ],
)
def test_good_routes(what: str, keys: dict[str, object]) -> None:
    assert checked(RouteConfig(upstream="one", **keys)) == [], what  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("what", "keys", "said"),
    [
        ("neither path nor prefix", {}, "error: route: has neither path nor prefix"),
        (
            "both",
            {"path": "/a", "prefix": "/b"},
            "error: route.prefix: stands beside path; a route has one of them",
        ),
        (
            "both in several",
            {"paths": ("/a",), "prefix": "/b"},
            "error: route.paths: stands beside prefix; a route has one of them",
        ),
        (
            "one of several",
            {"paths": ("/a", "b")},
            "error: route.paths: must start with '/', not 'b'",
        ),
        (
            "a name that only one of them has",
            {"paths": ("/a/{id}", "/b"), "rewrite": "/x/{id}"},
            "error: route.rewrite: there is nothing called {id}",
        ),
        (
            "a prefix to strip that one does not have",
            {"prefixes": ("/api/a", "/b"), "strip_prefix": "/api"},
            "error: route.strip_prefix: '/api' is not a prefix of '/b'",
        ),
        ("no slash", {"prefix": "api"}, "error: route.prefix: must start with '/', not 'api'"),
        (
            "a query",
            {"path": "/a?b"},
            "error: route.path: '/a?b' holds a query or a fragment, which are no part of a path",
        ),
        (
            "a fragment",
            {"prefix": "/a#b"},
            "error: route.prefix: '/a#b' holds a query or a fragment, which are no part of a path",
        ),
        (
            "a bad escape",
            {"path": "/a%2"},
            "error: route.path: '/a%2' holds a '%' that starts no valid escape",
        ),
        (
            "a NUL",
            {"path": "/a%00"},
            "error: route.path: '/a%00' holds a '%' that starts no valid escape",
        ),
        ("dots", {"path": "/a/../b"}, f"error: route.path: '/a/../b'{DOTS}"),
        ("escaped dots", {"prefix": "/%2e"}, f"error: route.prefix: '/%2e'{DOTS}"),
        ("dots with a parameter", {"path": "/..;a"}, f"error: route.path: '/..;a'{DOTS}"),
        ("dots behind a backslash", {"path": "/a\\.."}, f"error: route.path: '/a\\\\..'{DOTS}"),
        (
            "a template in a prefix",
            {"prefix": "/a/{id}"},
            "error: route.prefix: is literal; templates are for path",
        ),
        (
            "a brace in a prefix",
            {"prefix": "/a{"},
            "error: route.prefix: holds a brace; a path sends those percent-encoded",
        ),
        (
            "half a segment",
            {"path": "/a-{id}"},
            "error: route.path: 'a-{id}' is no template: a name in braces has a segment to itself",
        ),
        (
            "no name",
            {"path": "/{}"},
            "error: route.path: '{}' is no template: a name in braces has a segment to itself",
        ),
        (
            "a bad name",
            {"path": "/{1}"},
            "error: route.path: '{1}' is no template: a name in braces has a segment to itself",
        ),
        ("a name twice", {"path": "/{a}/{a}"}, "error: route.path: a template's names must differ"),
        (
            "a method in small letters",
            {"prefix": "/", "methods": ("get",)},
            (
                "error: route.methods: 'get' is not a method; they are in capitals (RFC 9110 "
                "section "
                "9.1)"
            ),
        ),
        (
            "no method",
            {"prefix": "/", "methods": ("G T",)},
            (
                "error: route.methods: 'G T' is not a method; they are in capitals (RFC 9110 "
                "section "
                "9.1)"
            ),
        ),
        (
            "a method twice",
            {"prefix": "/", "methods": ("GET", "GET")},
            "error: route.methods: 'GET' is listed twice",
        ),
        (
            "CONNECT",
            {"prefix": "/", "methods": ("CONNECT",)},
            "error: route.methods: CONNECT is for proxies; a gateway has no use for it",
        ),
        (
            "a slip",
            {"prefix": "/", "methods": ("GTE",)},
            "warning: route.methods: 'GTE' is no method of HTTP's own",
        ),
        (
            "a host with a port",
            {"prefix": "/", "hosts": ("a.com:80",)},
            "error: route.hosts: 'a.com:80' is not a host",
        ),
        (
            "a URL",
            {"prefix": "/", "hosts": ("http://a.com",)},
            "error: route.hosts: 'http://a.com' is not a host",
        ),
        ("every host", {"prefix": "/", "hosts": ("*",)}, "error: route.hosts: '*' is not a host"),
        (
            "a star elsewhere",
            {"prefix": "/", "hosts": ("a.*.com",)},
            "error: route.hosts: 'a.*.com' is not a host",
        ),
        (
            "no labels",
            {"prefix": "/", "hosts": ("a..com",)},
            "error: route.hosts: 'a..com' is not a host",
        ),
        (
            "a host in two spellings",
            {"prefix": "/", "hosts": ("münchen.example", "XN--mnchen-3ya.example.")},
            "error: route.hosts: 'xn--mnchen-3ya.example' is listed twice",
        ),
        (
            "a host twice",
            {"prefix": "/", "hosts": ("a.com", "A.com")},
            "error: route.hosts: 'a.com' is listed twice",
        ),
        (
            "another prefix to strip",
            {"prefix": "/api", "strip_prefix": "/v1"},
            "error: route.strip_prefix: '/v1' is not a prefix of '/api'",
        ),
        (
            "half a segment to strip",
            {"prefix": "/api", "strip_prefix": "/a"},
            "error: route.strip_prefix: '/a' is not a prefix of '/api'",
        ),
        (
            "in other letters",
            {"prefix": "/API", "strip_prefix": "/api"},
            "error: route.strip_prefix: '/api' is not a prefix of '/API'",
        ),
        (
            "more than there is",
            {"prefix": "/api", "strip_prefix": "/api/v1"},
            "error: route.strip_prefix: '/api/v1' is not a prefix of '/api'",
        ),
        (
            "nothing to strip",
            {"prefix": "/api", "strip_prefix": "/"},
            "error: route.strip_prefix: '/' is nothing to strip: it is literal and more than '/'",
        ),
        (
            "a template to strip",
            {"path": "/{a}", "strip_prefix": "/{a}"},
            (
                "error: route.strip_prefix: '/{a}' is nothing to strip: it is literal and more "
                "than "
                "'/'"
            ),
        ),
        (
            "a rewrite without a slash",
            {"prefix": "/", "rewrite": "v1"},
            "error: route.rewrite: must start with '/' or {path}, not 'v1'",
        ),
        (
            "an unknown placeholder",
            {"path": "/{id}", "rewrite": "/{ide}"},
            "error: route.rewrite: there is nothing called {ide}",
        ),
        (
            "half a placeholder",
            {"prefix": "/", "rewrite": "/{path"},
            "error: route.rewrite: '/{path' has a brace without its other half",
        ),
        (
            "a placeholder over a query",
            {"prefix": "/", "rewrite": "/{pa?th}"},
            "error: route.rewrite: '/{pa?th}' has a brace without its other half",
        ),
        (
            "a fragment in a rewrite",
            {"prefix": "/", "rewrite": "/a#b"},
            "error: route.rewrite: holds a fragment, which is never sent",
        ),
        (
            "dots in a rewrite",
            {"prefix": "/", "rewrite": "/a/.."},
            f"error: route.rewrite: '/a/..'{DOTS}",
        ),
        (
            "dots behind a placeholder",
            {"prefix": "/", "rewrite": "{path}/.."},
            f"error: route.rewrite: '/..'{DOTS}",
        ),
        (
            "path twice",
            {"path": "/{path}", "rewrite": "/{path}"},
            "error: route.rewrite: {path} is both the whole path and one of its segments",
        ),
        (
            "a star",
            {"path": "/files/*"},
            "warning: route.path: '*' is no pattern, but a segment of just that text",
        ),
        (
            "a star in a segment",
            {"prefix": "/a*"},
            "warning: route.prefix: 'a*' is no pattern, but a segment of just that text",
        ),
        (
            "a colon",
            {"path": "/a/:id"},
            "warning: route.path: ':id' is no pattern, but a segment of just that text",
        ),
        (
            "angles",
            {"path": "/a/<int:id>/b"},
            "warning: route.path: '<int:id>' is no pattern, but a segment of just that text",
        ),
        (
            "Google's verbs",
            {"path": "/a/{name}:cancel"},
            (
                "error: route.path: '{name}:cancel' is no template: a name in braces has a segment "
                "to itself"
            ),
        ),
        (
            "a regular expression",
            {"path": "/a/{id:[0-9]+}"},
            (
                "error: route.path: '{id:[0-9]+}' is no template: a name in braces has a segment "
                "to "
                "itself"
            ),
        ),
        (
            "no such upstream",
            {"prefix": "/", "upstream": "on"},
            "error: route.upstream: no upstream is called 'on'",
        ),
        (
            "no target",
            {"prefix": "/", "upstream": ""},
            "error: route: has no upstream, builtin, redirect or respond",
        ),
        (
            "two targets",
            {"prefix": "/", "builtin": "health"},
            "error: route.builtin: stands beside upstream; a route has one of them",
        ),
        (
            "a rewrite of nothing",
            {"prefix": "/", "upstream": "", "builtin": "info", "rewrite": "/x"},
            "warning: route.rewrite: has no effect on the gateway's own answers",
        ),
        (
            "a timeout of nothing",
            {"prefix": "/", "upstream": "", "builtin": "info", "timeout": 1.0},
            "warning: route.timeout: has no effect on the gateway's own answers",
        ),
    ],
)
def test_what_is_wrong_with_a_route(what: str, keys: dict[str, object], said: str) -> None:
    assert checked(RouteConfig(**{"upstream": "one", **keys})) == [said], what  # type: ignore[arg-type]


def test_nothing_more_is_said_of_what_did_not_load() -> None:
    document = Document(Path("/x.toml"), Problems())
    bad = frozenset(("path", "upstream", "methods", "hosts"))
    placed = Placed(
        document, ("route", 0), RouteConfig(methods=("get",), hosts=("*",), rewrite="/{id}"), bad
    )
    check_route(placed, (), UNLESS_SAID)
    assert document.problems.all() == ()


def test_upstreams_that_are_not_known_are_not_missed() -> None:
    document = Document(Path("/x.toml"), Problems())
    check_route(
        Placed(document, ("route", 0), RouteConfig(prefix="/", upstream="two")), None, UNLESS_SAID
    )
    assert document.problems.all() == ()


@pytest.mark.parametrize(
    ("keys", "hint"),
    [
        ({"path": "/files/*"}, 'prefix = "/files"'),
        ({"prefix": "/a*"}, 'prefix = "/a"'),
        ({"path": "/*"}, 'prefix = "/"'),
        ({"path": "/a/:id/b"}, 'path = "/a/{id}/b"'),
        ({"path": "/a/<int:id>"}, 'path = "/a/{id}"'),
    ],
)
def test_hints_for_patterns_of_others(keys: dict[str, str], hint: str) -> None:
    document = Document(Path("/x.toml"), Problems())
    check_route(
        Placed(document, ("route", 0), RouteConfig(upstream="one", **keys)), ("one",), UNLESS_SAID
    )
    assert [problem.hint for problem in document.problems.all()] == [hint]


def test_hosts_become_lower_case() -> None:
    document = Document(Path("/x.toml"), Problems())
    placed = Placed(
        document, ("route", 0), RouteConfig(prefix="/", upstream="one", hosts=("*.Example.COM",))
    )
    assert check_route(placed, ("one",), UNLESS_SAID).hosts == ("*.example.com",)


@pytest.mark.parametrize(
    ("what", "routes", "said"),
    [
        ("the same twice", ["prefix = '/a'", "prefix = '/a'"], ["/a#2: '/a' (line 2)"]),
        (
            "three times",
            ["prefix = '/a'", "prefix = '/a'", "prefix = '/a'"],
            ["/a#2: '/a' (line 2)", "/a#3: '/a' (line 2)"],
        ),
        (
            "the same in another spelling",
            ["prefix = '/A'", "prefix = '/%41'"],
            ["/%41: '/A' (line 2)"],
        ),
        ("a path is not a prefix", ["prefix = '/a'", "path = '/a'"], []),
        (
            "other methods",
            ["prefix = '/a'\nmethods = ['GET']", "prefix = '/a'\nmethods = ['POST']"],
            [],
        ),
        ("methods and none", ["prefix = '/a'", "prefix = '/a'\nmethods = ['GET']"], []),
        (
            "the same methods",
            ["prefix = '/a'\nmethods = ['GET', 'PUT']", "prefix = '/a'\nmethods = ['PUT', 'GET']"],
            ["/a#2: '/a' (line 2)"],
        ),
        (
            "fewer methods, first in the order",
            ["prefix = '/a'\nmethods = ['GET', 'PUT']", "prefix = '/a'\nmethods = ['GET']"],
            [],
        ),
        (
            "fewer methods, last in the order",
            ["prefix = '/a'\nmethods = ['PUT']", "prefix = '/a'\nmethods = ['GET', 'PUT']"],
            ["/a: '/a#2' (line 6)"],
        ),
        (
            "two that cover a third",
            [
                "prefix = '/a'\nmethods = ['GET']",
                "prefix = '/a'\nmethods = ['POST', 'GET']",
                "prefix = '/a'\nmethods = ['POST']",
            ],
            ["/a#3: '/a#2' (line 6)"],
        ),
        (
            "HEAD of its own",
            ["prefix = '/a'\nmethods = ['GET', 'HEAD']", "prefix = '/a'\nmethods = ['GET']"],
            ["/a#2: '/a' (line 2)"],
        ),
        (
            "hosts",
            ["prefix = '/a'\nhosts = ['a', 'b']", "prefix = '/a'\nhosts = ['B']"],
            ["/a#2: '/a' (line 2)"],
        ),
        ("more hosts", ["prefix = '/a'\nhosts = ['b']", "prefix = '/a'\nhosts = ['a', 'b']"], []),
        ("a host and none", ["prefix = '/a'", "prefix = '/a'\nhosts = ['a']"], []),
        ("a wildcard", ["prefix = '/a'\nhosts = ['*.a']", "prefix = '/a'\nhosts = ['b.a']"], []),
        (
            "headers",
            ["prefix = '/a'\nheaders = { X = '1' }", "prefix = '/a'\nheaders = { x = '1' }"],
            ["/a#2: '/a' (line 2)"],
        ),
        (
            "more headers",
            [
                "prefix = '/a'\nheaders = { X = '1' }",
                "prefix = '/a'\nheaders = { X = '1', Y = '1' }",
            ],
            [],
        ),
        (
            "templates with other names",
            ["path = '/{a}/b'", "path = '/{c}/b'"],
            ["/{c}/b: '/{a}/b' (line 2)"],
        ),
        ("templates elsewhere", ["path = '/{a}/b'", "path = '/b/{a}'"], []),
        ("letters", ["path = '/a'", "path = '/A'"], []),
        (
            "letters that do not matter",
            ["path = '/a'\ncase_sensitive = false", "path = '/A'\ncase_sensitive = false"],
            ["/A: '/a' (line 2)"],
        ),
        (
            "a slash",
            ["path = '/a'\ntrailing_slash = 'ignore'", "path = '/a/'\ntrailing_slash = 'ignore'"],
            [],
        ),
        (
            "a prefix's slash that does not matter",
            [
                "prefix = '/a'\ntrailing_slash = 'ignore'",
                "prefix = '/a/'\ntrailing_slash = 'ignore'",
            ],
            ["/a/: '/a' (line 2)"],
        ),
        (
            "a bad one covers nothing",
            ["prefix = '/a'\nmethods = ['GET', 5]", "prefix = '/a'\nmethods = ['GET']"],
            [],
        ),
    ],
)
def test_routes_that_are_never_reached(
    tree: Tree, what: str, routes: list[str], said: list[str]
) -> None:
    # Each route is four lines: its header, two for its match at most, and its target.
    tree.pipeline("name = 'x'\n", route="".join(padded(route) for route in routes))
    found = [problem for problem in tree.problems() if "never reached" in problem.message]
    starts = {2 + 4 * index: route for index, route in enumerate(routes)}
    assert all(problem.line in starts and problem.hint for problem in found)
    names = [route.split("'")[1] for route in routes]
    unique = [
        name if name not in names[:index] else f"{name}#{names[: index + 1].count(name)}"
        for index, name in enumerate(names)
    ]
    cut = [
        f"{unique[(problem.line - 2) // 4]}: "
        + problem.message.removeprefix("route: is never reached: the route ").removesuffix(
            " takes everything it matches"
        )
        for problem in found
    ]
    assert cut == said, what


def padded(route: str) -> str:
    return f"[[route]]\n{route}\n" + ("\n" if "\n" not in route else "") + "upstream = 'one'\n"


def test_routes_without_a_match_cover_nothing(tree: Tree) -> None:
    tree.pipeline("name = 'x'", route="\n[[route]]\nupstream = 'one'\n[[route]]\nupstream = 'one'")
    assert [problem.message for problem in tree.problems()] == [
        "route: has neither path nor prefix"
    ] * 2


def test_a_route_that_one_of_another_file_takes(tree: Tree) -> None:
    tree.pipeline("name = 'a'", "a")
    tree.pipeline("name = 'b'", "b")
    problem = tree.only()
    assert problem.file.name == "b.toml"
    assert "pipelines/a.toml:2)" in problem.message


def test_names(tree: Tree) -> None:
    placed = [
        Placed(Document(Path("/x.toml"), Problems()), ("route", index), route)
        for index, route in enumerate(
            [
                RouteConfig(prefix="/a"),
                RouteConfig(path="/a"),
                RouteConfig(name="/a#2", path="/b"),
                RouteConfig(prefix="/a"),
                RouteConfig(name="x", path="/a"),
                RouteConfig(path="/{id}"),
            ]
        )
    ]
    assert [route.name for route in name_routes(placed)] == [
        "/a",
        "/a#3",
        "/a#2",
        "/a#4",
        "x",
        "/{id}",
    ]


def test_names_given_twice(tree: Tree) -> None:
    tree.pipeline(
        "name = 'a'", "a", route="\n[[route]]\nname = 'x'\nprefix = '/a'\nupstream = 'one'"
    )
    tree.pipeline(
        "name = 'b'", "b", route="\n[[route]]\nname = 'x'\nprefix = '/b'\nupstream = 'one'"
    )
    problem = tree.only()
    assert (problem.file.name, problem.line, problem.message) == (
        "b.toml",
        3,
        "route.name: 'x' is the name of another route",
    )
    assert problem.hint.endswith("a.toml:3")


def versioned(path: str, version: str, by: str = "{ header = 'X-V' }") -> str:
    keys = f"version = '{version}'\nversion_by = {by}\n" if version else ""
    return f"[[route]]\npath = '{path}'\nupstream = 'one'\n{keys}"


@pytest.mark.parametrize(
    ("what", "routes", "said"),
    [
        ("two versions", [versioned("/a", "1"), versioned("/a", "2")], ""),
        ("one twice", [versioned("/a", "1"), versioned("/a", "1")], "is never reached"),
        ("beside none", [versioned("/a", "1"), versioned("/a", "")], "route.version_by: differs"),
        (
            "named in two ways",
            [versioned("/a", "1"), versioned("/a", "2", "'media_type'")],
            "route.version_by: differs",
        ),
        (
            "by the path",
            [versioned("/a", "1", "'path'"), versioned("/a", "2", "'path'")],
            "is never reached",
        ),
        ("elsewhere", [versioned("/a", "1"), versioned("/b", "")], ""),
    ],
)
def test_versions_at_one_place(tree: Tree, what: str, routes: list[str], said: str) -> None:
    tree.pipeline("name = 'x'\n", route="".join(routes))
    errors = [one.message for one in tree.problems() if one.severity == "error"]
    assert len(errors) == bool(said) and said in "".join(errors), (what, errors)


def test_a_route_of_several_paths_is_taken_only_if_all_are(tree: Tree) -> None:
    one = "[[route]]\npath = '/a'\nupstream = 'one'\n"
    several = "[[route]]\npaths = ['/a', '/b']\nupstream = 'one'\n"
    tree.pipeline("name = 'x'\n", route=one + several)
    assert not [problem for problem in tree.problems() if problem.severity == "error"]
    tree.pipeline("name = 'x'\n", route=several + one)
    assert ["is never reached" in problem.message for problem in tree.problems()] == [True]
