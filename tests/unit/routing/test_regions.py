from __future__ import annotations

import pytest

from gateway.config.tables.pipeline import RouteConfig
from gateway.routing.regions import Regions
from tests.exchange import exchange

ROUTES = [
    (RouteConfig(prefix="/api/v1"), "api"),
    (RouteConfig(path="/api/v1/users/{id}"), "users"),
    (RouteConfig(prefix="/web"), "web"),
    (RouteConfig(prefix="/", hosts=("shop.example.com", "*.shops.example.com")), "shop"),
]


@pytest.mark.parametrize(
    ("host", "path", "owner"),
    [
        ("example.com", "/api/v1", None),
        ("example.com", "/api/v1/users/7/x", "users"),
        ("example.com", "/web/missing", "web"),
        ("example.com", "/other", None),
        ("example.com", "/", None),
        ("shop.example.com", "/missing", "shop"),
        ("a.shops.example.com", "/missing", "shop"),
        ("shop.example.com.", "/web/missing", "shop"),
        ("", "-", None),
    ],
)
def test_the_owner_of_a_place(host: str, path: str, owner: str | None):
    assert Regions(ROUTES).owner(exchange("GET", path, host=host)) == owner


def test_the_only_owner_owns_everything():
    assert Regions(ROUTES[:1]).owner(exchange("GET", "/elsewhere", host="x")) == "api"
    assert Regions([]).owner(exchange("GET", "/")) is None
