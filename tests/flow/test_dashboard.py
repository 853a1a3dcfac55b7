"""The dashboard in a real browser, over a real gateway with traffic."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from hashlib import sha256
from math import sin
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import pytest

from gateway.admin.dashboard import live
from gateway.admin.dashboard.live import Live
from gateway.admin.dashboard.page import LIVE
from gateway.app import Gateway
from gateway.core.clock import REAL, Clock
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
[[route]]
path = "/usage"
builtin = "usage"
"""
UPSTREAMS = """
[upstream.becamera]
url = "http://127.0.0.1:{port}"
[upstream.gone]
endpoints = [{{ url = "http://127.0.0.1:1" }}]
retry = {{ attempts = 1 }}
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
    monkeypatch.setattr(live, "INTERVAL", 0.1)
    upstreams = UPSTREAMS.format(port=origin.port)
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


async def busy(gateway: Gateway) -> None:
    """Let a quarter of an hour of traffic have gone by."""
    assert gateway.admin._admin is not None
    shown: Live = gateway.admin._admin._runner.app[LIVE]
    shown._points.clear()
    shown._bases.clear()
    telemetry, bounds = gateway.telemetry, gateway.telemetry.request_duration.bounds
    for step in range(-90, 1):
        busier = 1 + 0.4 * sin(step / 11) + 0.1 * sin(step * 1.7)
        for route, share, slow in (("cameras", 1.0, 2), ("statistics", 0.3, 4)):
            number = int(2400 * share * busier)
            failed = int(number * (0.03 if route == "statistics" and -40 < step < -25 else 0.002))
            telemetry.requests.add((route, "GET", "200"), number - failed)
            telemetry.requests.add((route, "GET", "502"), failed)
            telemetry.requests.add((route, "GET", "429"), int(number * 0.02))
            cell = telemetry.request_duration.cell((route, "GET"))
            for place in range(len(bounds)):
                times = int(number * 0.5 ** abs(place - slow) / 2.6)
                cell.counts[place] += times
                cell.total += times * bounds[place] * 0.7
        for client, share in (("acme", 0.5), ("northwind", 0.3), ("contoso", 0.1)):
            telemetry.client_requests.add((client,), int(3000 * share * busier))
            telemetry.client_errors.add((client,), int(60 * share * busier))
        telemetry.failures.add(("rate_limited",), int(48 * busier))
        telemetry.failures.add(("connect_failed",), 5)
        telemetry.cache_requests.add(("cameras", "hit"), 1800)
        telemetry.cache_requests.add(("cameras", "miss"), 600)
        now = REAL.monotonic() + 10 * step, REAL.wall() + 10 * step
        shown._clock = Clock(lambda now=now: now[0], lambda now=now: now[1])
        await shown._sum()
    shown._clock = REAL


@pytest.mark.parametrize(("width", "dark"), [(1180, False), (375, True)], ids=["wide", "narrow"])
async def test_anybody_can_read_it(
    gateway: Gateway,
    browser: Browser,
    width: int,
    dark: bool,
    screenshots: Path | None,
    monkeypatch: pytest.MonkeyPatch,
):
    """axe-core finds nothing, and nothing is wider than the window."""
    monkeypatch.setattr(live, "INTERVAL", 60.0)
    await busy(gateway)
    page = await logged_in(browser, gateway, "sesame", width=width, dark=dark)
    for tab, _ in TITLES:
        await page.run(f"location.hash = '{tab}'")
        await page.until(shown(tab))
        assert await page.violations() == [], tab
        assert await page.overflow() == 0, tab
        if screenshots and (tab in ("overview", "upstreams", "refusals") and not dark):
            await page.picture(screenshots / f"dashboard-{tab}.png")
        elif screenshots and tab == "overview":
            await page.picture(screenshots / "dashboard-narrow.png")
    assert page.errors == []


async def test_an_operator_reloads_after_a_confirmation(
    gateway: Gateway, browser: Browser, tmp_path: Path
):
    page = await logged_in(browser, gateway, "sesame")
    await page.click("nav a", "Configuration")
    await page.click("button", "Reload")
    await page.until("document.querySelector('dialog[open]')")
    assert await page.violations() == []
    await page.press("Escape")
    await page.until("!document.querySelector('dialog')")
    assert len(gateway.status()["reloads"]) == 1  # that of the start
    (tmp_path / "upstreams.toml").write_text("[upstream.becamera]\n")
    await page.click("button", "Reload")
    await page.click("dialog button[type=submit]")
    said = await page.until("document.querySelector('dialog [role=alert]')?.innerText")
    assert "upstreams.toml:1:" in said and "stays as it is" in said
    (tmp_path / "upstreams.toml").write_text(
        UPSTREAMS.format(port=gateway.port) + "[upstream.more]\nurl = 'http://127.0.0.1:2'\n"
    )
    await page.click("dialog button[type=submit]")
    await page.until("!document.querySelector('dialog')")
    await page.until("document.querySelector('.notice')?.innerText.includes('more')")
    await page.until(
        "main.innerText.includes('refused') && main.innerText.includes('upstream more')"
    )
    assert [one["ok"] for one in gateway.status()["reloads"]] == [True, False, True]
    # Chromium itself reports the answer that refused; nothing else.
    assert [one for one in page.errors if "422" not in one] == []


async def test_a_reader_cannot_act(gateway: Gateway, browser: Browser):
    page = await logged_in(browser, gateway, "look")
    await page.click("nav a", "Configuration")
    await page.until(shown("configuration"))
    assert "oncall (reader)" in await page.text()
    assert "Reload" not in await page.run(
        "[...document.querySelectorAll('button')].map(one => one.innerText)"
    )
    status = await page.run(
        "fetch('/admin/reload', {method: 'POST', headers: {'X-Gateway-Admin': '1'}})"
        ".then(reply => reply.status)"
    )
    assert status == 403
    assert len(gateway.status()["reloads"]) == 1


async def test_an_operator_drains_an_endpoint(gateway: Gateway, browser: Browser):
    page = await logged_in(browser, gateway, "sesame")
    await page.click("nav a", "Upstreams")
    await page.click("main button", "Drain http://127.0.0.1:1")
    await page.until("document.querySelector('dialog').innerText.includes('http://127.0.0.1:1?')")
    await page.click("dialog button[type=submit]")
    await page.until("main.innerText.includes('drained by an operator')")
    assert gateway.health()["upstreams"]["gone"]["endpoints"][0]["draining"] is True
    await page.click("main button", "Undrain http://127.0.0.1:1")
    await page.click("dialog button[type=submit]")
    await page.until("!main.innerText.includes('drained by an operator')")
    assert page.errors == []


async def test_an_operator_purges(gateway: Gateway, browser: Browser):
    page = await logged_in(browser, gateway, "sesame")
    await page.click("nav a", "Cache and limits")
    await page.type("#value", "/cameras/1")
    await page.click("main button", "Purge")
    await page.until("document.querySelector('dialog').innerText.includes('Purge url /cameras/1?')")
    await page.click("dialog button[type=submit]")
    await page.until(
        "document.querySelector('.notice')?.innerText.includes('Purged: url /cameras/1')"
    )
    assert page.errors == []


async def test_any_client_is_found_by_name(gateway: Gateway, browser: Browser):
    page = await logged_in(browser, gateway, "look")
    await page.click("nav a", "Clients")
    await page.type("#client", "acme")
    await page.press("Enter")
    await page.until(
        "main.innerText.includes('16 requests') || main.innerText.includes('15 requests')"
    )
    await page.until("main.innerText.includes('/statistics')")
    assert await page.violations() == []
    await page.run("document.querySelector('#client').value = ''")
    await page.type("#client", "nobody")
    await page.press("Enter")
    await page.until("main.innerText.includes(\"Nothing is known of a client 'nobody'.\")")


async def test_it_is_used_with_a_keyboard_alone(gateway: Gateway, browser: Browser):
    page = await browser.page()
    await page.open(address(gateway))
    await page.press("Tab")
    await page.ask("Input.insertText", text="sesame")
    await page.press("Enter")
    await page.until("document.documentElement.dataset.ready")
    for _ in range(20):
        if await page.run("document.activeElement.innerText === 'Routes'"):
            break
        await page.press("Tab")
    await page.press("Enter")
    await page.until(shown("routes"))


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
