"""Versions and several paths of one route, over sockets."""

from __future__ import annotations

import json
from collections.abc import Awaitable, Callable

from gateway.app import Gateway
from tests.client import Client
from tests.flow.conftest import Start
from tests.origin import Origin

Connect = Callable[[Gateway], Awaitable[Client]]

PIPELINE = """
[error_handler.templates]
gone = { error = "API version deprecated", sunset_date = "{sunset}", message = "Please upgrade" }

[[route]]
prefix = "/api/v1"
upstream = "origin"
version = "1"
deprecated = 2020-01-01
sunset = 2020-06-01
successor = "/api/v2"

[[route]]
prefix = "/api/v2"
upstream = "origin"
version = "2"
deprecated = 2020-01-01

[[route]]
name = "several"
paths = ["/a", "/b/{id}"]
upstream = "origin"
rewrite = "/one"

[[route]]
path = "/n"
respond = { json = { version = 1 } }
version = "1"
version_by = { header = "X-API-Version" }

[[route]]
path = "/n"
respond = { json = { version = 2 } }
version = "2"
version_by = { header = "X-API-Version" }
"""


async def test_versions(start: Start, origin: Origin, connect: Connect):
    client = await connect(await start(PIPELINE, f'[upstream.origin]\nurl = "{origin.url}"\n'))
    gone = await client.get("/api/v1/cameras")
    assert (gone.status, gone.fields["x-api-status"]) == (410, "retired")
    assert gone.fields["sunset"] == "Mon, 01 Jun 2020 00:00:00 GMT"
    assert gone.fields["link"] == '</api/v2>; rel="successor-version"'
    assert json.loads(gone.body) == {
        "error": "API version deprecated",
        "sunset_date": "2020-06-01",
        "message": "Please upgrade",
    }
    lives = await client.get("/api/v2/cameras")
    assert (lives.status, lives.fields["x-api-status"]) == (200, "deprecated")
    assert lives.fields["x-api-version"] == "2"
    assert lives.fields["deprecation"] == "@1577836800"
    second = await client.get("/n", "X-API-Version: 2")
    assert json.loads(second.body) == {"version": 2} and second.fields["x-api-version"] == "2"
    assert second.fields["vary"] == "X-API-Version"
    assert (await client.get("/n")).status == 400
    unknown = await client.get("/n", "X-API-Version: 3")
    assert unknown.status == 404
    assert "Versions: 2, 1" in json.loads(unknown.body)["detail"]


async def test_several_paths(start: Start, origin: Origin, connect: Connect):
    client = await connect(await start(PIPELINE, f'[upstream.origin]\nurl = "{origin.url}"\n'))
    for path in ("/a", "/b/7"):
        assert (await client.get(path)).status == 200
    assert (await client.get("/b")).status == 404
    assert [head.split()[1] for head in origin.heads] == [b"/one", b"/one"]
