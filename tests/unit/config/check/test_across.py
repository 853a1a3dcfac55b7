"""Lints about routes beside one another, and about what is there without being used."""

from __future__ import annotations

import pytest

from gateway.config.check.across import _is_strict
from gateway.middlewares.auth.config import AuthConfig
from tests.unit.config.tree import Tree

OPEN = "[[route]]\nupstream = 'one'\nauth = false\n"
GUARDED = "[[route]]\nupstream = 'one'\n"


def warned(tree: Tree, routes: str, gateway: str = "") -> list[str]:
    tree.write("gateway.toml", gateway)
    tree.pipeline("request = ['auth']\n", route=routes)
    assert all(problem.severity == "warning" for problem in tree.problems())
    return [f"{problem.line}: {problem.message}; {problem.hint}" for problem in tree.problems()]


@pytest.mark.parametrize(
    ("what", "routes", "spellings"),
    [
        ("a prefix below /", f"{OPEN}prefix = '/'\n{GUARDED}prefix = '/admin'", "'/ADMIN'"),
        (
            "a path below /",
            f"{OPEN}prefix = '/'\n{GUARDED}path = '/admin'",
            "'/ADMIN' or '/admin/'",
        ),
        (
            "a path with a slash",
            f"{OPEN}prefix = '/'\n{GUARDED}path = '/admin/'",
            "'/ADMIN/' or '/admin'",
        ),
        ("in the other order", f"{GUARDED}prefix = '/admin'\n{OPEN}prefix = '/'", "'/ADMIN'"),
        (
            "below another prefix",
            f"{OPEN}prefix = '/api'\n{GUARDED}prefix = '/api/admin'",
            "'/API/ADMIN'",
        ),
        (
            "of a host",
            f"{OPEN}prefix = '/'\n{GUARDED}prefix = '/admin'\nhosts = ['a.com']",
            "'/ADMIN'",
        ),
        (
            "without case",
            f"{OPEN}prefix = '/'\n{GUARDED}path = '/admin'\ncase_sensitive = false",
            "'/admin/'",
        ),
        (
            "of one method of both",
            f"{OPEN}prefix = '/'\nmethods = ['GET']\n{GUARDED}prefix = '/admin'",
            "'/ADMIN'",
        ),
    ],
)
def test_an_open_prefix_above_a_route_with_auth(
    tree: Tree, what: str, routes: str, spellings: str
) -> None:
    (said,) = warned(tree, routes)
    assert "route: is open, and '" in said and "below it needs auth" in said
    assert f"; {spellings} comes here" in said


@pytest.mark.parametrize(
    ("what", "routes", "gateway"),
    [
        (
            "no other spelling",
            (
                f"{OPEN}prefix = '/'\n{GUARDED}path = '/admin'\ncase_sensitive = "
                f"false\ntrailing_slash = 'ignore'"
            ),
            "",
        ),
        (
            "none anywhere",
            f"{OPEN}prefix = '/'\n{GUARDED}path = '/admin'",
            "[routing]\ncase_sensitive = false\ntrailing_slash = 'ignore'",
        ),
        ("beside it", f"{OPEN}prefix = '/public'\n{GUARDED}prefix = '/admin'", ""),
        ("below it", f"{GUARDED}prefix = '/'\n{OPEN}prefix = '/public'", ""),
        ("a name that begins alike", f"{OPEN}prefix = '/ad'\n{GUARDED}prefix = '/admin'", ""),
        ("an open path", f"{OPEN}path = '/'\n{GUARDED}prefix = '/admin'", ""),
        ("all with auth", f"{GUARDED}prefix = '/'\n{GUARDED}prefix = '/admin'", ""),
        ("all open", f"{OPEN}prefix = '/'\n{OPEN}prefix = '/admin'", ""),
        (
            "the gateway's own answers",
            f"[[route]]\nprefix = '/'\nbuiltin = 'info'\n{GUARDED}prefix = '/admin'",
            "",
        ),
        (
            "other methods",
            f"{OPEN}prefix = '/'\nmethods = ['GET']\n{GUARDED}prefix = '/admin'\nmethods = ['PUT']",
            "",
        ),
        (
            "other hosts",
            f"{OPEN}prefix = '/'\nhosts = ['a.com']\n{GUARDED}prefix = '/admin'\nhosts = ['b.com']",
            "",
        ),
    ],
)
def test_routes_that_are_no_danger_to_one_another(
    tree: Tree, what: str, routes: str, gateway: str
) -> None:
    assert warned(tree, routes, gateway) == [], what


@pytest.mark.parametrize(
    ("what", "routes", "found"),
    [
        (
            "a longer prefix",
            f"{GUARDED}prefix = '/'\nhosts = ['a.com']\n{OPEN}prefix = '/public'",
            True,
        ),
        ("a path", f"{GUARDED}prefix = '/'\nhosts = ['a.com']\n{OPEN}path = '/public'", True),
        (
            "the same prefix: the host comes first",
            f"{GUARDED}prefix = '/'\nhosts = ['a.com']\n{OPEN}prefix = '/'",
            False,
        ),
        (
            "a host of its own",
            f"{GUARDED}prefix = '/'\nhosts = ['a.com']\n{OPEN}prefix = '/x'\nhosts = ['b.com']",
            False,
        ),
    ],
)
def test_what_passes_a_host_by(tree: Tree, what: str, routes: str, found: bool) -> None:
    said = warned(tree, routes)
    assert (
        [line for line in said if "takes '/public' of 'a.com' too, where '/' needs auth" in line]
        != []
    ) is found, what
    assert len(said) == found


def test_a_list_of_a_route_s_own_that_leaves_auth_out(tree: Tree) -> None:
    said = warned(
        tree,
        (
            "[[route]]\nprefix = '/'\nupstream = 'one'\nrequest = []\n[[route]]\npath = "
            "'/i'\nbuiltin = 'info'\nrequest = []"
        ),
    )
    assert said == [
        (
            "5: route.request: leaves out 'auth': anybody may call this route; list 'auth', or say "
            "auth = false"
        )
    ]
    assert (
        warned(tree, "[[route]]\nprefix = '/'\nupstream = 'one'\nrequest = []\nauth = false") == []
    )


@pytest.mark.parametrize(
    ("config", "strict"),
    [
        (AuthConfig(), True),
        (AuthConfig(optional=True), False),
        (AuthConfig(optional=True, require={"*": frozenset()}), False),
        (AuthConfig(optional=True, require={"*": frozenset(("a",))}), True),
        (None, True),
    ],
)
def test_auth_that_lets_strangers_pass_is_none(config: AuthConfig | None, strict: bool) -> None:
    assert _is_strict(config) is strict


def test_a_pipeline_that_nobody_sees(tree: Tree) -> None:
    tree.pipeline(
        "response = ['logging']\nerror = ['logging']\n",
        "one",
        route="[[route]]\npath = '/a'\nupstream = 'one'",
    )
    tree.pipeline("", "two", route="[[route]]\npath = '/b'\nupstream = 'one'")
    tree.pipeline("", "three", route="[[route]]\npath = '/c'\nbuiltin = 'info'")
    assert tree.said() == [
        (
            "pipelines/two.toml:1: warning: requests of the pipeline 'two' are neither logged nor "
            "counted"
        )
    ]
    (tree.root / "pipelines" / "one.toml").unlink()
    assert tree.said() == []


def test_upstreams_that_nothing_leads_to(tree: Tree) -> None:
    tree.pipeline("")
    tree.write(
        "upstreams.toml",
        """
        [upstream.one]
        url = "http://a"
        fallback = "two"
        [upstream.two]
        url = "http://b"
        [upstream.three]
        url = "http://c"
        """,
    )
    assert tree.said() == ["upstreams.toml:6: warning: no route leads to the upstream 'three'"]


@pytest.mark.parametrize(
    ("endpoints", "said"),
    [
        ("{ url = 'http://a', weight = 0 }", True),
        ("{ url = 'http://a', weight = 0 }, { url = 'http://b', drain = true }", True),
        ("{ url = 'http://a', weight = 0 }, { url = 'http://b' }", False),
    ],
)
def test_endpoints_that_get_nothing(tree: Tree, endpoints: str, said: bool) -> None:
    tree.pipeline("")
    tree.write("upstreams.toml", f"[upstream.one]\nendpoints = [{endpoints}]")
    line = (
        "upstreams.toml:2: warning: 'one' gets no requests: every endpoint drains or has weight 0"
    )
    assert tree.said() == ([line] if said else [])
