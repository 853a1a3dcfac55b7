"""No reading of a path leads around a route: cases, and random paths against models of
frameworks."""

from __future__ import annotations

from itertools import islice
from typing import Any
from urllib.parse import quote

import pytest

from gateway.config.tables.pipeline import RouteConfig
from gateway.config.tables.server import RoutingConfig
from gateway.core.exchange import ALLOWED_METHODS, Exchange
from gateway.core.failures import Failed
from gateway.routing.readings import MAX_READINGS, readings
from gateway.routing.router import Router
from tests.exchange import exchange
from tests.frameworks import VIEWS, Rule, paths, serves

OPEN_AND_ADMIN = (RouteConfig(name="open", prefix="/"), RouteConfig(name="admin", prefix="/admin"))


def matched(target: str, *routes: RouteConfig, method: str = "GET", **routing: Any) -> str:
    made = Router([(route, route) for route in routes], RoutingConfig(**routing))
    try:
        return made.match(asks(target, method)).name
    except Failed as failed:
        return failed.failure.name


def asks(target: str, method: str = "GET") -> Exchange:
    return exchange(method, target, (), host="example.com")


@pytest.mark.parametrize(
    "target",
    [
        "/admin%2Fusers",
        "/admin%2fusers",
        "/%2Fadmin/users",
        "/admin%5Cusers",
        "/admin;x/users",
        "/admin;/users",
        "/;x/admin/users",
        "/admin%3Bx/users",
        "/admin%252Fusers",
        "/admin%255Cusers",
        "/admin%253Bx/users",
        "/%252Fadmin/users",
        "//admin/users",
        "/;/admin/users",
        "/x%252F..%252Fadmin/users",
        "/x/%252e%252e/admin/users",
        "/%252e/admin",
        "/x;%252F../admin",
        "/%25%32%46admin",
        "/admin;a=1;b=2",
        "/x%2F%252e%252e%2Fadmin",
    ],
)
def test_a_path_with_another_route_in_any_reading_is_refused(target: str):
    assert matched(target, *OPEN_AND_ADMIN) == "MALFORMED"


@pytest.mark.parametrize(
    "target",
    [
        "/files/a%2Fb",
        "/files;v=1/a",
        "/files/100%25",
        "/files/a%252Fb",
        "/files//a",
        "/files/a%20b",
        "/a%5Cb",
        "/xadmin%2Fusers",
        "/administration;x",
    ],
)
def test_a_path_that_has_the_same_route_in_every_reading_passes(target: str):
    assert matched(target, *OPEN_AND_ADMIN) == "open"


@pytest.mark.parametrize(
    ("route", "routing", "target", "expected"),
    [
        ({}, {}, "/projects/group%2Fproject", "MALFORMED"),
        ({}, {"encoded_slash": "keep"}, "/projects/group%2Fproject", "projects"),
        ({"encoded_slash": "keep"}, {}, "/projects/group%2Fproject", "projects"),
        ({"encoded_slash": "keep"}, {}, "/projects/group%252Fproject", "projects"),
        ({"encoded_slash": "refuse"}, {"encoded_slash": "keep"}, "/projects/a%2Fb", "MALFORMED"),
        ({"encoded_slash": "keep"}, {}, "/projects/group%5Cproject", "MALFORMED"),
        ({"encoded_slash": "keep"}, {}, "/projects/group;x", "projects"),
    ],
)
def test_a_route_can_take_encoded_slashes_as_data(
    route: dict[str, str], routing: dict[str, str], target: str, expected: str
):
    projects = RouteConfig(name="projects", path="/projects/{id}", **route)  # type: ignore[arg-type]
    assert matched(target, projects, RouteConfig(name="all", prefix="/"), **routing) == expected


def test_a_path_that_toml_spells_so_is_meant():
    spelt = RouteConfig(name="spelt", path="/a%2Fb"), RouteConfig(name="slashes", path="/a//b")
    assert matched("/a%2Fb", *spelt, RouteConfig(name="a", prefix="/a")) == "spelt"
    assert matched("/a//b", *spelt, RouteConfig(name="a", prefix="/a")) == "slashes"


def test_an_encoding_that_needs_none_is_refused_only_where_it_would_lead_around_auth():
    public, admin = (
        RouteConfig(name="public", path="/admin/public"),
        RouteConfig(name="admin", prefix="/admin"),
    )
    for guarded, expected in ((admin,), "MALFORMED"), ((), "public"), ((admin, public), "public"):
        made = Router(
            [(route, route) for route in (public, admin)], RoutingConfig(), guarded.__contains__
        )
        try:
            got = made.match(asks("/admin/%70ublic")).name
        except Failed as failed:
            got = failed.failure.name
        assert got == expected


def test_options_learns_the_methods_of_the_path_itself():
    one = RouteConfig(name="one", path="/a/{x}", methods=("GET",))
    other = RouteConfig(name="other", path="/b/{x}/{y}", methods=("PUT",))
    made = Router([(route, route) for route in (one, other)], RoutingConfig())
    request = asks("/a/x;y", "OPTIONS")
    assert made.match(request).name == "one"
    assert request.notes[ALLOWED_METHODS] == ("GET", "HEAD")


def test_a_path_of_too_many_readings_is_refused():
    with pytest.raises(Failed):
        readings("/%5Ca/;%252e%252e%5C%252F....%2F%252e//%2F")
    assert len(readings("/a;b%2Fc%252Fd//e")) < MAX_READINGS


def test_no_framework_serves_behind_auth_what_an_open_route_let_through():
    """A bounded part of what bench/readings.py does with a million paths."""
    assert list(islice(bypasses(seed=1), 0, 1)) == []


def bypasses(seed: int, count: int = 4000) -> Any:
    """Paths that an open route of the gateway has, and a framework a guarded one."""
    table = [
        ("/", True, False),
        ("/admin", True, True),
        ("/admin/public", False, False),
        ("/users/{id}", False, False),
        ("/users/{id}/keys", False, True),
        ("/shop/@me", True, True),
        ("/shop", True, False),
    ]
    rules = [Rule.of(text, prefix=prefix, guarded=guarded) for text, prefix, guarded in table]
    made: Router[tuple[str, bool, bool]] = Router(
        [
            (RouteConfig(prefix=one[0]) if one[1] else RouteConfig(path=one[0]), one)
            for one in table
        ],
        RoutingConfig(),
        lambda one: one[2],
    )
    words = ["admin", "public", "users", "7", "keys", "shop", "@me"]
    for target in islice(paths(seed, words), count):
        try:
            route = made.match(asks(target))
        except Failed:
            continue
        if route[2]:
            continue
        sent = quote(target, safe="".join(map(chr, range(33, 127)))).encode()
        for name, view in VIEWS.items():
            served = serves(rules, view(sent))
            if served is not None and served.guarded:
                yield target, name, view(sent)
