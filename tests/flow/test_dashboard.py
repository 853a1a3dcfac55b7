"""The dashboard in a real browser, over a real gateway with traffic."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from hashlib import sha256
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import pytest

from gateway.admin import live
from gateway.app import Gateway
from tests.browser import Browser, Page
from tests.client import Client
from tests.flow.conftest import Start
from tests.origin import Origin

PIPELINE = """
request = ["auth", "rate_limit", "caching", "logging"]
response = ["caching", "logging", "metrics"]
error = ["error_handler", "logging", "metrics"]
auth = { methods = ["api_key"], api_key = { file = "../keys.toml" } }
rate_limit = { limit = 12, window = "1h" }
logging = { file = "access.log" }
[[route]]
name = "cameras"
prefix = "/cameras"
upstream = "becamera"
[[route]]
name = "statistics"
path = "/statistics"
upstream = "gone"
"""
GATEWAY = """
[admin]
port = 0
token = "sesame"
readers = [{ name = "oncall", token = "look" }]
"""


KEY = "acme-0123456789abcdef"
KEYS = f"""[[key]]
id = "k_1"
client = "acme"
hash = "sha256:{sha256(KEY.encode()).hexdigest()}"
"""


@pytest.fixture
async def gateway(
    monkeypatch: pytest.MonkeyPatch,
    start: Start,
    origin: Origin,
    connect: Callable[..., Awaitable[Client]],
) -> Gateway:
    """A gateway that has served, refused and failed."""
    upstreams = f"""
[upstream.becamera]
url = "http://127.0.0.1:{origin.port}"
[upstream.gone]
endpoints = [{{ url = "http://127.0.0.1:1" }}]
retry = {{ attempts = 1 }}
"""
    monkeypatch.setattr(live, "INTERVAL", 0.1)
    one = await start(PIPELINE, upstreams, GATEWAY, keys__toml=KEYS)
    client = await connect(one)
    for path, key in (("/statistics", KEY), *(("/cameras/1", KEY),) * 14, ("/cameras/1", "wrong")):
        await client.send(f"GET {path} HTTP/1.1\r\nHost: a\r\nX-API-Key: {key}\r\n\r\n".encode())
        await client.read()
    return one


def address(gateway: Gateway) -> str:
    return f"http://127.0.0.1:{gateway.admin_port}/"


async def logged_in(browser: Browser, gateway: Gateway, token: str, **how: Any) -> Page:
    page = await browser.page(**how)
    await page.open(address(gateway))
    await page.type("#secret", token)
    await page.click("button", "Log in")
    await page.until("document.documentElement.dataset.ready")
    return page


async def test_it_asks_for_a_token_once_and_shows_what_the_gateway_does(
    gateway: Gateway, browser: Browser
):
    page = await logged_in(browser, gateway, "sesame")
    assert "operator" in await page.text()
    assert await page.run("document.cookie") == ""  # HttpOnly
    assert "sesame" not in await page.run("JSON.stringify({...localStorage, ...sessionStorage})")
    await page.open(address(gateway))  # the same browser again
    seen = await page.until("document.querySelector('.tiles') && document.body.innerText")
    assert "Requests a second" in seen
    for tab, words in {
        "routes": ("cameras", "/cameras and below", "becamera", "statistics"),
        "upstreams": ("becamera", "http://127.0.0.1:1", "healthy"),
        "clients": ("acme",),
        "refusals": ("rate_limited", "connect_failed", "invalid"),
        "configuration": ("Hash", gateway.runtime.snapshot.loaded.hash),
    }.items():
        await page.click("nav a", dict(TITLES)[tab])
        for word in words:
            await page.until(f"{shown(tab)} && main.innerText.includes('{word}')")
    await page.click("button", "Log out")
    await page.until("document.querySelector('#secret')")
    assert page.errors == []
    assert {urlsplit(url).netloc for url in page.requests} == {f"127.0.0.1:{gateway.admin_port}"}


def shown(tab: str) -> str:
    """What is true in the page once it shows a section."""
    return f"document.querySelector('nav a[href=\"#{tab}\"][aria-current]')"


TITLES = (
    ("overview", "Overview"), ("upstreams", "Upstreams"), ("routes", "Routes"),
    ("clients", "Clients"), ("refusals", "Refusals"), ("caching", "Cache and limits"),
    ("configuration", "Configuration"),
)  # fmt: skip


@pytest.mark.parametrize(("width", "dark"), [(1280, False), (375, True)], ids=["wide", "narrow"])
async def test_anybody_can_read_it(
    gateway: Gateway, browser: Browser, width: int, dark: bool, screenshots: Path | None
):
    """axe-core finds nothing, and nothing is wider than the window."""
    page = await logged_in(browser, gateway, "sesame", width=width, dark=dark)
    for tab, _ in TITLES:
        await page.run(f"location.hash = '{tab}'")
        await page.until(shown(tab))
        assert await page.violations() == [], tab
        assert await page.overflow() == 0, tab
        if screenshots:
            await page.picture(screenshots / f"dashboard-{tab}-{width}.png")
    assert page.errors == []


async def test_a_wrong_token_is_said(gateway: Gateway, browser: Browser):
    page = await browser.page()
    await page.open(address(gateway))
    assert await page.violations() == []
    await page.type("#secret", "open")
    await page.press("Enter")
    assert await page.until("document.querySelector('[role=alert]')?.innerText") == (
        "This is not a token of [admin]."
    )
    assert await page.violations() == []
