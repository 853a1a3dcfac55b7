"""The partners' portal in a real browser, over a real gateway; and a key rotated there under load."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Awaitable, Callable
from datetime import UTC, datetime, timedelta
from hashlib import sha256
from math import sin
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import pytest
from aiohttp import ClientSession, CookieJar

from gateway.app import Gateway
from gateway.core.clock import REAL
from gateway.usage.counters import HOUR, Place
from tests.browser import Browser, Page
from tests.client import Client
from tests.flow.conftest import Start
from tests.origin import Origin
from tests.until import until

KEY, READER, OTHER = "acme-0123456789abcdef", "acme-reader-0123456789", "other-0123456789abcdef"
KEYS = "".join(
    f"""[[key]]
id = "{id}"
client = "{client}"
permissions = {json.dumps(permissions)}
label = "{label}"
created = 2026-01-31T09:30:00Z
hint = "{secret[:7]}"
hash = "sha256:{sha256(secret.encode()).hexdigest()}"
"""
    for id, client, permissions, label, secret in (
        ("k_acme", "acme", ["cameras:*", "statistics:read"], "production", KEY),
        ("k_reader", "acme", ["cameras:read"], "staging", READER),
        ("k_other", "other", ["*"], "", OTHER),
    )
)
SOON = (datetime.now(UTC) + timedelta(days=90)).date()
PIPELINE = f"""
request = ["rate_limit.ip", "auth", "rate_limit", "logging"]
response = ["logging", "metrics"]
error = ["error_handler", "logging", "metrics"]
auth = {{ methods = ["api_key"], api_key = {{ file = "../keys.toml" }}, audit = {{ file = "audit.log" }} }}
logging = {{ file = "access.log" }}
[rate_limit]
algorithm = "token_bucket"
class = "standard"
classes.standard = {{ tokens = 1000, refill = 0.001 }}
classes.strict = {{ tokens = 4, refill = 0.001 }}
[rate_limit.ip]
key = "ip"
limit = 100000
window = "1m"
[[route]]
name = "cameras"
prefix = "/cameras"
upstream = "becamera"
[[route]]
name = "statistics"
prefix = "/v1/statistics"
version = "1"
upstream = "becamera"
rate_limit = {{ class = "strict" }}
deprecated = 2026-01-01
sunset = {SOON}
successor = "/v2/statistics"
[[route]]
prefix = "/portal"
builtin = "portal"
portal = {{ title = "Camera API" }}
[[route]]
prefix = "/errors"
builtin = "errors"
auth = false
[[route]]
path = "/docs"
builtin = "docs"
auth = false
"""


@pytest.fixture
async def gateway(
    start: Start, origin: Origin, connect: Callable[..., Awaitable[Client]]
) -> Gateway:
    """A gateway that acme and another client have used."""
    upstreams = f'[upstream.becamera]\nurl = "http://127.0.0.1:{origin.port}"\n'
    errors = '[errors]\ntypes = "https://api.example.com/errors/"\n'
    one = await start(PIPELINE, upstreams, errors, keys__toml=KEYS)
    client = await connect(one)
    for path, key in (
        *(("/cameras/1", KEY),) * 6,
        *(("/v1/statistics", KEY),) * 6,
        ("/cameras/9", OTHER),
        ("/nowhere", OTHER),
    ):
        await client.send(request(path, key))
        await client.read()
    return one


def request(path: str, key: str) -> bytes:
    return f"GET {path} HTTP/1.1\r\nHost: a\r\nX-API-Key: {key}\r\n\r\n".encode()


def address(gateway: Gateway) -> str:
    return f"http://127.0.0.1:{gateway.port}/portal"


def shown(tab: str) -> str:
    return f"document.querySelector('nav a[href=\"#{tab}\"][aria-current]')"


async def logged_in(browser: Browser, gateway: Gateway, secret: str, **how: Any) -> Page:
    page = await browser.page(**how)
    await page.open(address(gateway))
    await page.type("#secret", secret)
    await page.click("button", "Log in")
    await page.until("document.querySelector('main h2')")
    return page


TABS = ("limits", "usage", "failures", "keys", "notices")


async def test_a_partner_sees_what_is_its_own(gateway: Gateway, browser: Browser):
    page = await logged_in(browser, gateway, KEY)
    assert await page.run("document.cookie") == ""
    assert KEY not in await page.run("JSON.stringify({...localStorage, ...sessionStorage})")
    for tab, words in {
        "limits": (
            "cameras",
            "994 of 1,000 left",
            "strict",
            "0 of 4 left",
            "RateLimit-Policy",
            "X-RateLimit-Remaining",
        ),
        "usage": ("12", "cameras", "statistics", "/v1/statistics"),
        "failures": ("RATE_001", "429", "/v1/statistics"),
        "keys": ("acme-01", "acme-re", "production", "this session"),
        "notices": ("statistics", "/v2/statistics", "deprecated"),
    }.items():
        await page.run(f"location.hash = '{tab}'")
        for word in words:
            await page.until(f"{shown(tab)} && main.innerText.includes({json.dumps(word)})")
        text = await page.text()
        assert "k_other" not in text and "/cameras/9" not in text, tab
    assert page.errors == []
    assert {urlsplit(url).netloc for url in page.requests} == {f"127.0.0.1:{gateway.port}"}
    await page.open(address(gateway) + "/#failures")  # the same browser again
    await page.until(shown("failures"))
    await page.click("main a", "RATE_001")
    await page.until(
        "document.body?.innerText.includes('A limit of requests in a period is used up.')"
    )
    assert await page.violations() == []


def used(gateway: Gateway) -> None:
    """Let acme have used it for two weeks."""
    hour = int(REAL.wall()) // HOUR
    cells = {}
    for ago in range(1, 14 * 24):
        number = int(400 + 250 * sin((hour - ago) / 3.8) + 40 * sin(ago))
        failed = number // 40
        for route, share in (("cameras", 1.0), ("statistics", 0.2)):
            some, wrong = int(number * share), int(failed * share)
            cell = [some, some - wrong, 0, wrong, 0, 0, some * 1900, some * 14_000]
            cells[Place("acme", route, "GET", hour - ago)] = cell
    gateway.runtime.registry.find(("usage",)).absorb(cells)


@pytest.mark.parametrize(("width", "dark"), [(1180, False), (375, True)], ids=["wide", "narrow"])
async def test_anybody_can_read_it(
    gateway: Gateway, browser: Browser, width: int, dark: bool, screenshots: Path | None
):
    used(gateway)
    page = await logged_in(browser, gateway, KEY, width=width, dark=dark)
    for tab in TABS:
        await page.run(f"location.hash = '{tab}'")
        await page.until(shown(tab))
        assert await page.violations() == [], tab
        assert await page.overflow() == 0, tab
        if screenshots and (tab in ("limits", "usage", "keys") and not dark):
            await page.picture(screenshots / f"portal-{tab}.png")
        elif screenshots and tab == "failures":
            await page.picture(screenshots / "portal-narrow.png")
    assert page.errors == []


async def test_a_wrong_key_is_said(gateway: Gateway, browser: Browser):
    page = await browser.page()
    await page.open(address(gateway))
    assert await page.violations() == []
    await page.type("#secret", "wrong")
    await page.press("Enter")
    said = await page.until("document.querySelector('[role=alert]')?.innerText")
    assert said == "The API key is not valid."


async def test_a_key_is_replaced_in_the_page(gateway: Gateway, browser: Browser, tmp_path: Path):
    page = await logged_in(browser, gateway, KEY)
    await page.run("location.hash = 'keys'")
    await page.click("button", "Replace")
    await page.until("document.querySelector('dialog[open]')")
    assert await page.violations() == []
    await page.click("dialog button[type=submit]")
    secret = await page.until("document.querySelector('#secret-key')?.innerText")
    await page.until("main.innerText.includes('expiring')")
    assert await page.violations() == []
    await until(lambda: served(gateway, secret))
    assert await served(gateway, KEY)
    assert secret not in (tmp_path / "keys.toml").read_text()
    await until(lambda: "portal_rotate" in (tmp_path / "pipelines/audit.log").read_text())
    assert page.errors == []


async def test_a_revoked_key_ends_its_session(gateway: Gateway, browser: Browser):
    page = await logged_in(browser, gateway, READER)
    await page.run("location.hash = 'keys'")
    await page.until("main.innerText.includes('production')")
    # The other key may do more than this one, so that it is not changed here.
    assert await page.run("[...document.querySelectorAll('main button')].length") == 2
    await page.click("button", "Revoke")
    await page.click("dialog button[type=submit]")
    await page.until("main.innerText.includes('revoked')")
    await until(lambda: refused(gateway, READER))
    await page.click("button", "Refresh")
    await page.until("document.querySelector('#secret')")


async def served(gateway: Gateway, key: str) -> bool:
    """Whether a key is good; a limit may be used up all the same."""
    async with (
        ClientSession() as client,
        client.get(
            f"http://127.0.0.1:{gateway.port}/cameras/1", headers={"X-API-Key": key}
        ) as reply,
    ):
        return reply.status != 401


async def refused(gateway: Gateway, key: str) -> bool:
    return not await served(gateway, key)


class Partner:
    """A partner's session without a browser."""

    def __init__(self, gateway: Gateway) -> None:
        self.base = address(gateway)
        self.own = {"Origin": self.base.removesuffix("/portal")}

    async def __aenter__(self) -> Partner:
        self.client = ClientSession(cookie_jar=CookieJar(unsafe=True))
        return self

    async def __aexit__(self, *exc: object) -> None:
        await self.client.close()

    async def ask(
        self, method: str, path: str, body: Any = None, **headers: str
    ) -> tuple[int, Any]:
        sent = self.own | {name.replace("_", "-"): value for name, value in headers.items()}
        async with self.client.request(
            method,
            f"{self.base}/api/{path}",
            json=body,
            headers={k: v for k, v in sent.items() if v},
        ) as reply:
            return reply.status, await reply.json()

    async def log_in(self, secret: str) -> str:
        status, said = await self.ask("POST", "session", {"secret": secret})
        assert status == 200
        return str(said["token"])


async def test_64_connections_go_on_with_a_key_that_is_rotated(
    gateway: Gateway, connect: Callable[..., Awaitable[Client]], origin: Origin
):
    """None of their requests is refused within the overlap, and the new key is good as well."""
    clients = [await connect(gateway) for _ in range(64)]
    rotated = asyncio.Event()
    statuses: list[int] = []

    async def go_on(client: Client) -> None:
        after = 0
        while after < 3:  # requests of each begun after the new key was known to be good
            after += rotated.is_set()
            await client.send(request("/cameras/1", KEY))
            statuses.append((await client.read()).status)

    going = [asyncio.create_task(go_on(client)) for client in clients]
    async with Partner(gateway) as partner:
        token = await partner.log_in(KEY)
        status, said = await partner.ask(
            "POST", "keys/k_acme/rotate", {"overlap": 3600}, X_Portal_Token=token
        )
        assert (status, said["replaces"]) == (200, "k_acme")
        await until(lambda: served(gateway, said["secret"]))
    rotated.set()
    await asyncio.gather(*going)
    assert len(statuses) > 64 * 3
    assert [one for one in statuses if one in (401, 403)] == []
    assert set(statuses) <= {200, 429}


@pytest.mark.parametrize(
    ("headers", "status"),
    [
        ({}, 403),
        ({"X_Portal_Token": "wrong"}, 403),
        ({"Origin": "https://evil.example"}, 403),
        ({"Origin": "null"}, 403),
        ({"Origin": ""}, 403),
    ],
)
async def test_another_page_changes_nothing(gateway: Gateway, headers: dict[str, str], status: int):
    async with Partner(gateway) as partner:
        token = await partner.log_in(KEY)
        sent = {"X_Portal_Token": token} | headers if headers.get("Origin") is not None else headers
        for method, path in (
            ("POST", "keys/k_acme/rotate"), ("POST", "keys/k_acme/revoke"), ("DELETE", "session")
        ):  # fmt: skip
            assert (await partner.ask(method, path, {}, **sent))[0] == status, path
        _, said = await partner.ask("GET", "account")
        assert {one["state"] for one in said["keys"]} == {"active"}
        assert len(said["keys"]) == 2


@pytest.mark.parametrize(
    ("secret", "id", "action", "body", "status", "said"),
    [
        (KEY, "k_other", "rotate", {}, 404, "You have no such key."),
        (KEY, "k_none", "revoke", {}, 404, "You have no such key."),
        (READER, "k_acme", "rotate", {}, 403, "may do more than the one"),
        (READER, "k_acme", "revoke", {}, 403, "may do more than the one"),
        (KEY, "k_acme", "rotate", {"overlap": -1}, 422, "overlap must be a number"),
        (KEY, "k_acme", "rotate", {"overlap": "1d"}, 422, "overlap must be a number"),
        (KEY, "k_acme", "rotate", [], 400, "JSON object"),
        (KEY, "k_reader", "rotate", {}, 200, ""),
    ],
)
async def test_only_own_keys_that_may_no_more_are_changed(
    gateway: Gateway, secret: str, id: str, action: str, body: Any, status: int, said: str
):
    async with Partner(gateway) as partner:
        token = await partner.log_in(secret)
        found = await partner.ask("POST", f"keys/{id}/{action}", body, X_Portal_Token=token)
        assert found[0] == status, found
        assert said in found[1].get("detail", "")


async def test_a_key_is_replaced_once_and_for_no_longer_than_is_allowed(gateway: Gateway):
    async with Partner(gateway) as partner:
        token = await partner.log_in(KEY)
        now = datetime.now(UTC).timestamp()
        ask = partner.ask
        status, said = await ask(
            "POST", "keys/k_reader/rotate", {"overlap": 1e9}, X_Portal_Token=token
        )
        assert status == 200 and said["until"] < now + 86400 + 60
        status, said = await ask("POST", "keys/k_reader/rotate", {}, X_Portal_Token=token)
        assert status == 403 and "has been replaced" in said["detail"]


async def test_without_a_session_there_is_nothing(gateway: Gateway):
    async with Partner(gateway) as partner:
        assert await partner.ask("GET", "session") == (200, {"known": False, "title": "Camera API"})
        for method, path in (("GET", "account"), ("POST", "keys/k_acme/revoke")):
            assert (await partner.ask(method, path, {} if method == "POST" else None))[0] == 401
        for body, status in (({}, 422), ({"secret": 1}, 422), ({"secret": "a b"}, 401), ([], 400)):
            assert (await partner.ask("POST", "session", body))[0] == status
        assert (await partner.ask("POST", "session", {"secret": KEY}, Origin="http://evil"))[
            0
        ] == 403
        assert (await partner.ask("PUT", "session"))[0] == 405
        assert (await partner.ask("GET", "nothing"))[0] == 404
        await partner.log_in(KEY)
        assert (await partner.ask("GET", "account"))[0] == 200
        token = (await partner.ask("GET", "session"))[1]["token"]
        assert (await partner.ask("DELETE", "session", X_Portal_Token=token))[0] == 200
        assert (await partner.ask("GET", "account"))[0] == 401
