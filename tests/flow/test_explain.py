"""`gateway explain` against reality: what it says of 1,000 random requests on random configurations is
what happens to them, and saying it changes nothing."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Awaitable, Callable
from pathlib import Path
from random import Random
from time import time
from typing import Any

import pytest

from gateway.app import Gateway
from gateway.cli import main
from gateway.credentials.api_keys import key_edits
from gateway.credentials.api_keys.new_keys import Wish
from gateway.serving.dry_run import Question
from gateway.supervisor.sums.readings import read
from tests.client import Client, Message
from tests.flow.conftest import PLAIN
from tests.origin import Origin, answer

KEYS = {"a-key-that-may-all": ("*",), "a-key-that-may-read": ("a:read",)}
LATE = "a-key-that-has-expired"
CONFIGURATIONS, REQUESTS = 20, 50

TABLES = {
    "cors": 'origins = ["https://app.example.com"]\nreject = {reject}\nshadow = {shadow}\n',
    "auth": 'methods = ["api_key"]\noptional = {optional}\nshadow = {shadow}\n'
    'api_key = {{ file = "../keys.toml", query = "key" }}\nrequire = {{ GET = [], "*" = ["a:write"] }}\n',
    "rate_limit": 'limit = {limit}\nwindow = "1h"\nkey = "{key}"\nshadow = {shadow}\n',
    "validation": 'max_body = 30\nreport = {shadow}\nbody.schema = {{ type = "object", '
    'required = ["a"], properties = {{ a = {{ type = "integer" }} }} }}\n',
    "transform": 'request = {{ set = {{ "X-Who" = "{{client}}" }}, body = {{ set = {{ "b" = "c" }} }}, '
    'query = {{ remove = ["x"] }} }}\n',
    "caching": "",
}
ROUTES = """
[[route]]
name = "a"
prefix = "/a"
methods = {methods}
upstream = "origin"
[[route]]
path = "/b/{{id}}"
rewrite = "/beta/{{id}}"
upstream = "origin"
limit = {{ requests = 9 }}
[[route]]
path = "/old"
retired = true
upstream = "origin"
[[route]]
path = "/said"
respond = {{ status = 418, json = {{ tea = true }} }}
[[route]]
path = "/moved"
redirect = {{ to = "https://new.example.com{{path}}", status = 308 }}
[[route]]
path = "/none"
upstream = "empty"
[[route]]
path = "/open"
auth = false
upstream = "stood-in-for"
[[route]]
path = "/v"
version = "2"
version_by = {{ header = "X-API-Version" }}
upstream = {{ origin = 5, other = 5 }}
sticky = true
"""
UPSTREAMS = """
[upstream.origin]
url = "{origin}/base"
[upstream.other]
endpoints = [{{ url = "{other}" }}, {{ url = "{origin}", backup = true }}]
preserve_host = false
[upstream.empty]
endpoints = [{{ url = "{origin}", drain = true }}]
[upstream.stood-in-for]
endpoints = [{{ url = "{origin}", drain = true }}]
fallback = "other"
"""


def configuration(random: Random) -> str:
    """A random pipeline. Names of tables that are not listed are left out, so that nothing warns."""

    def word(chance: float = 0.5) -> str:
        return "true" if random.random() < chance else "false"

    listed = [name for name in TABLES if random.random() < 0.7]
    if random.random() < 0.3:
        random.shuffle(listed)
    tables = "".join(
        f"[{name}]\n"
        + TABLES[name].format(
            reject=word(), optional=word(), shadow=word(0.25), limit=random.randint(1, 30),
            key=random.choice(("ip", "client")),
        )
        for name in listed
    )  # fmt: skip
    methods = random.choice(('["GET"]', '["GET", "POST"]', "[]"))
    response = '["caching"]' if "caching" in listed else "[]"
    routes = ROUTES if "auth" in listed else ROUTES.replace("auth = false\n", "")
    lists = f"request = {json.dumps(listed)}\nresponse = {response}\n"
    return f"{lists}{tables}{routes.format(methods=methods)}"


def question(random: Random) -> Question:
    """A random request."""
    paths = (
        "/a",
        "/a/1",
        "/a/1",
        "/b/7",
        "/b/%37",
        "/old",
        "/said",
        "/moved",
        "/none",
        "/open",
        "/v",
        "/zz",
    )
    method = random.choice(("GET", "GET", "GET", "HEAD", "POST", "PUT", "DELETE", "OPTIONS"))
    url = random.choice(paths) + random.choice(("", "", "?x=1&y=2", f"?key={LATE}"))
    headers: list[tuple[str, str]] = [("Host", "gateway.test")]
    for name, values in (
        ("X-API-Key", (*KEYS, *KEYS, LATE, "unknown")),
        ("Origin", ("https://app.example.com", "https://evil.example.com")),
        ("Cache-Control", ("no-cache", "only-if-cached", "max-age=0")),
        ("X-API-Version", ("2", "3", "?")),
        ("X-Client-ID", ("forged",)),
        ("Expect", ("tea",)),
        ("Access-Control-Request-Method", ("GET",)),
    ):
        if random.random() < (0.02 if name == "Expect" else 0.4):
            headers.append((name, random.choice(values)))
    body: bytes | None = None
    if method in ("POST", "PUT") and random.random() < 0.8:
        body = random.choice(
            (b'{"a": 1}', b'{"a": "x"}', b"{}", b"[", b'{"a": 1, "long": "' + b"x" * 40)
        )
        headers.append(("Content-Type", random.choice(("application/json", "text/csv"))))
    return Question(method, url, tuple(headers), body)


def counters(gateway: Gateway) -> Any:
    """Everything that requests change."""
    counted = {
        name: values
        for name, (head, values) in read(gateway.telemetry).items()
        if head[0] != "gauge"
    }
    pools = gateway.runtime.snapshot.pools
    held = [(pool.name, pool.in_flight, len(pool.waiting)) for pool in pools.values()]
    known = gateway.runtime.services.why
    return counted, held, repr(known.failures), repr(known.shadows)


async def happens(client: Client, asked: Question) -> Message:
    lines = [f"{asked.method} {asked.url} HTTP/1.1", *(f"{a}: {b}" for a, b in asked.headers)]
    if asked.body is not None:
        lines.append(f"Content-Length: {len(asked.body)}")
    await client.send("\r\n".join([*lines, "", ""]).encode() + (asked.body or b""))
    return await client.read(asked.method)


def fields(head: list[list[str]]) -> list[tuple[str, str]]:
    """Without the request's number, and what depends on the moment."""
    return sorted((name.lower(), value) for name, value in head if name.lower() != "x-request-id")


def same_head(sends: dict[str, Any], head: bytes) -> bool:
    """Whether what arrived is what was said, but for what is masked."""
    line, *rest = head.decode().rstrip("\r\n").split("\r\n")
    arrived = fields([list(one.partition(": ")[::2]) for one in rest])
    said = fields(sends["headers"])
    return (
        line == f"{sends['method']} {sends['target']} {sends['protocol']}"
        and len(said) == len(arrived)
        and all(a[0] == b[0] and a[1] in (b[1], "***") for a, b in zip(said, arrived, strict=True))
    )


def keys(directory: Path) -> None:
    for key, permissions in KEYS.items():
        wish = Wish(permissions[0].replace(":", "-").replace("*", "all"), permissions=permissions)
        key_edits.create(directory / "keys.toml", wish, time(), existing=key)
    wish = Wish("late", expires=1.0)
    key_edits.create(directory / "keys.toml", wish, time(), existing=LATE)


async def compare(
    gateway: Gateway, client: Client, asked: Question, origins: list[Origin]
) -> list[str]:
    """Return how what happens differs from what is said."""
    unchanged, sent = counters(gateway), [len(one.heads) for one in origins]
    said = await gateway.requests.explain(asked)
    wrong = [] if counters(gateway) == unchanged else ["it changed something"]
    reply = await happens(client, asked)
    arrived = [head for one, count in zip(origins, sent, strict=True) for head in one.heads[count:]]
    if said["status"] is None:
        if len(arrived) != 1 or not same_head(said["sends"], arrived[0]):
            wrong.append(f"it would send {said['sends']}, but {arrived}")
    elif (said["status"], len(arrived)) != (reply.status, 0):
        wrong.append(f"it would be {said['status']}, but is {reply.status}, having sent {arrived}")
    if said["code"] != reply.fields.get("x-error-code"):
        wrong.append(f"the code would be {said['code']}")
    if said["code"] is not None:
        found = await gateway.requests.why(reply.fields["x-request-id"])
        names = ("reason", "route", "client")
        wrong += [
            f"{name}: {said[name]}, but {found}"
            for name in names
            if found is None or found[name] != said[name]
        ]
        ends = [one["decisions"][-1] for one in (said, found) if one is not None]
        if len({(one["hook"], one["at"]) for one in ends}) != 1:
            wrong.append(f"it would end by {ends[0]}, but by {ends[1]}")
    left = reply.fields.get("x-ratelimit-remaining")
    if left is not None and said["limits"] and said["code"] is None:
        before = said["limits"][0]["remaining"]
        wrong += [] if int(left) == before - 1 else [f"{before} would be left, but {left} is"]
    return wrong


@pytest.mark.parametrize("part", range(4))
async def test_what_it_says_is_what_happens(
    start, origin_of, connect: Callable[..., Awaitable[Client]], tmp_path: Path, part: int
):
    keys(tmp_path)
    random = Random(part)
    answers = answer(b"ok", "200 OK", Cache_Control="max-age=60")
    origins = [await origin_of(answers), await origin_of(answer(b"ok", "403 Forbidden"))]
    places = {"origin": origins[0].url, "other": origins[1].url}
    wrong, statuses = [], set()
    for number in range(CONFIGURATIONS // 4):
        pipeline = configuration(random)
        gateway = await start(pipeline, UPSTREAMS.format(**places))
        for _ in range(REQUESTS):
            asked = question(random)
            client = await connect(gateway)
            found = await compare(gateway, client, asked, origins)
            wrong += [(number, asked, one) for one in found]
            client.close()
        statuses |= {labels[2] for labels in gateway.telemetry.requests.values}
    assert wrong == []


@pytest.mark.parametrize(
    ("url", "protocol", "version"),
    [
        ("http://127.0.0.1:9", "http1", "HTTP/1.1"),
        ("http://127.0.0.1:9", "h2c", "HTTP/2"),
        ("https://127.0.0.1:9", "h2", "HTTP/2"),
        ("http://127.0.0.1:9", "auto", "HTTP/1.1"),
        ("https://127.0.0.1:9", "auto", "HTTP/2 or HTTP/1.1"),
    ],
)
async def test_it_says_the_version_that_the_endpoint_is_asked_in(start, url, protocol, version):
    pool = f'[upstream.origin]\nurl = "{url}"\nprotocol = "{protocol}"\n'
    gateway = await start(PLAIN, pool)
    said = await gateway.requests.explain(Question("GET", "/"))
    assert said["sends"]["protocol"] == version
    handshake = (
        ("Connection", "Upgrade"),
        ("Upgrade", "websocket"),
        ("Sec-WebSocket-Version", "13"),
    )
    key = ("Sec-WebSocket-Key", "dGhlIHNhbXBsZSBub25jZQ==")
    said = await gateway.requests.explain(Question("GET", "/", (*handshake, key)))
    assert said["sends"]["protocol"] == "HTTP/1.1"


async def test_on_the_command_line(start, origin, capsys, tmp_path: Path, monkeypatch):
    """With and without a running gateway: the same words."""
    keys(tmp_path)
    pipeline = (
        'request = ["auth", "rate_limit"]\n[auth]\napi_key.file = "../keys.toml"\n'
        '[rate_limit]\nlimit = 9\nwindow = "1h"\n[[route]]\nprefix = "/a"\nupstream = "origin"\n'
    )
    gateway = await start(pipeline, f'[upstream.origin]\nurl = "{origin.url}"\n')
    monkeypatch.chdir(tmp_path)
    given = ["explain", "POST", "/a", "-H", "X-API-Key: a-key-that-may-read", "-d", "xy"]
    texts = []
    for more in ([], ["--admin", f"http://127.0.0.1:{gateway.admin_port}"]):
        assert await asyncio.to_thread(main, [*given, *more]) == 0
        lines = capsys.readouterr().out.splitlines()
        texts.append([line for line in lines if "X-Request-ID" not in line])
    assert texts[0] == texts[1] and origin.heads == []
    assert texts[0][:9] == [
        "POST /a",
        "  would be answered: what the upstream answers",
        "  by a-read, from 127.0.0.1",
        "",
        "  routing     matched    pipelines/test.toml:7  route /a",
        "  auth        allowed    pipelines/test.toml:2  api_key of client a-read, who has a:read; needed: none",
        '  rate_limit  admitted   pipelines/test.toml:4  "default";q=9;w=3600 of client a-read: 8 left after it',
        f"  upstream    would ask  upstreams.toml:1       origin: 127.0.0.1:{origin.port} (least_connections)",
        "",
    ]
    assert "  X-Client-ID: a-read" in texts[0] and "  (2 bytes of body)" in texts[0]
    assert await asyncio.to_thread(main, ["explain", "GET", "/a", "-H", "x"]) == 1
    assert "is no header" in capsys.readouterr().err
