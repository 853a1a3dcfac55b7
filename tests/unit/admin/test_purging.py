"""Purging by the admin API: what a request may say, and what comes of it."""

from __future__ import annotations

import json
from typing import Any

import pytest
from aiohttp.test_utils import TestClient

from gateway.admin.purging import MAX_NAMES, purges_of
from gateway.store.purges import Purge
from gateway.store.stores import StoreDown
from tests.unit.admin.state import State
from tests.unit.admin.test_application import CHANGES, asked_any


async def post(admin: TestClient, body: Any) -> tuple[int, dict[str, Any]]:
    headers = CHANGES | {"Content-Type": "application/json"}
    data = body if isinstance(body, str) else json.dumps(body)
    return await asked_any(admin, "/admin/purge", "POST", data=data, headers=headers)


async def test_names_of_several_kinds_at_once(admin: TestClient, state: State):
    body = {"url": "/a?x", "prefix": ["/b", "https://C.example:443/d"], "tag": ["t"], "soft": True}
    assert await post(admin, body) == (
        200,
        {
            "purged": [
                {"kind": "url", "value": "/a?x"},
                {"kind": "prefix", "value": "/b"},
                {"kind": "prefix", "value": "https://c.example/d"},
                {"kind": "tag", "value": "t"},
            ],
            "soft": True,
        },
    )
    assert [one.kind for one in state.purged] == ["url", "prefix", "prefix", "tag"]
    assert all(one.soft for one in state.purged)


async def test_without_caches(admin: TestClient, state: State):
    state.caches = False
    status, said = await post(admin, {"all": True})
    assert (status, said["detail"]) == (409, "Nothing is cached here: no pipeline has caching.")


async def test_when_other_gateways_cannot_be_told(admin: TestClient, state: State):
    state.untold = StoreDown("the server is down")
    status, said = await post(admin, {"all": True})
    assert status == 503
    assert said["detail"] == ("Purged here, but other gateways are not told: the server is down.")


@pytest.mark.parametrize(
    ("value", "known"),
    [
        ("https://a/x?y#z", "https://a/x?y"),
        ("http://A:80", "http://a/"),
        ("http://a:8080/x", "http://a:8080/x"),
        ("https://[::1]:8443/x", "https://[::1]:8443/x"),
        ("/x", "/x"),
    ],
)
def test_urls_as_the_cache_knows_them(value: str, known: str):
    assert purges_of({"url": value}) == [Purge("url", known)]


def test_a_prefix_may_be_a_host():
    assert purges_of({"prefix": "https://a"}) == [Purge("prefix", "https://a")]


@pytest.mark.parametrize(
    ("body", "said"),
    [
        ([], "must be a JSON object"),
        ({}, "must say what to purge"),
        ({"all": False}, "must say what to purge"),
        ({"soft": True}, "must say what to purge"),
        ({"all": 1}, "all: must be true or false"),
        ({"all": True, "soft": "yes"}, "soft: must be true or false"),
        ({"path": "/x"}, "path: there is no such key; there are url"),
        ({"url": ["/a", 1]}, "url: must be text, or an array of texts"),
        ({"url": ""}, "url: must be text"),
        ({"url": "a/b"}, 'url: must be "https://host/path" or "/path"'),
        ({"url": "//a/b"}, "url: must be"),
        ({"url": "ftp://a/b"}, "url: must be"),
        ({"url": "http://a:b/"}, "url: must be"),
        ({"prefix": "http:///x"}, "prefix: must be"),
        ({"tag": "a b"}, "tag: holds commas or spaces"),
        ({"tag": "a,b"}, "tag: holds commas or spaces"),
        ({"tag": ["t"] * (MAX_NAMES + 1)}, "At most 1000 names"),
    ],
)
async def test_refusals(admin: TestClient, state: State, body: Any, said: str):
    status, found = await post(admin, body)
    assert status == 422
    assert said in found["detail"]
    assert state.purged == []


async def test_what_is_no_json(admin: TestClient):
    assert (await post(admin, "{"))[0] == 422
