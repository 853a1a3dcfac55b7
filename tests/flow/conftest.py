"""A gateway in this process, on real sockets, between a raw client and a raw upstream."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator, Mapping
from pathlib import Path
from typing import Any

import pytest

from gateway.app import Gateway
from tests.browser import AXE, CHROMIUM, ROOT, Browser, Chromium
from tests.client import Client
from tests.flow.modes import MODES
from tests.origin import Origin
from tests.websocket import echo, speaks

SCREENSHOTS = ROOT / "docs/screenshots"
Start = Callable[..., Awaitable[Gateway]]


def pytest_asyncio_loop_factories(
    config: pytest.Config, item: Any
) -> Mapping[str, Callable[[], asyncio.AbstractEventLoop]]:
    """The event loops a module's tests run on: its LOOPS, else asyncio's own."""
    return getattr(item.module, "LOOPS", {"asyncio": asyncio.new_event_loop})  # type: ignore[no-any-return]


def pytest_generate_tests(metafunc: pytest.Metafunc) -> None:
    """All modes of what is marked with `modes`, and of everything with --modes."""
    if "mode" in metafunc.fixturenames:
        every = metafunc.config.getoption("--modes") or metafunc.definition.get_closest_marker(
            "modes"
        )
        if every:
            metafunc.parametrize("mode", MODES, indirect=True)


@pytest.fixture
def mode(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> str:
    """How the gateway's coroutines are driven: see tests/flow/modes.py."""
    name: str = getattr(request, "param", "direct")
    MODES[name](monkeypatch)
    return name


@pytest.fixture
async def start(tmp_path: Path, mode: str) -> AsyncIterator[Start]:
    """`await start(pipeline=..., upstreams=..., gateway=...)`: writes the TOML and runs a gateway
    on free ports."""
    running: list[Gateway] = []

    async def run(
        pipeline: str,
        upstreams: str = "",
        gateway: str = "",
        environ: Mapping[str, str] | None = None,
        **files: str,
    ) -> Gateway:
        write(tmp_path, pipeline, upstreams, gateway)
        for name, text in files.items():
            (tmp_path / name.replace("__", ".")).write_text(text)
        one = Gateway(tmp_path / "gateway.toml", environ or {})
        running.append(one)
        await one.start()
        return one

    yield run
    for one in running:
        await one.close()


def write(directory: Path, pipeline: str, upstreams: str = "", gateway: str = "") -> None:
    """The three files of a small configuration."""
    (directory / "pipelines").mkdir(exist_ok=True)
    listen = "" if "[listen]" in gateway else "[listen]\nport = 0\n"
    admin = "" if "[admin]" in gateway else "[admin]\nport = 0\n"
    (directory / "gateway.toml").write_text(f"{gateway}\n{listen}{admin}")
    (directory / "upstreams.toml").write_text(upstreams)
    (directory / "pipelines" / "test.toml").write_text(pipeline)


@pytest.fixture
async def origin() -> AsyncIterator[Origin]:
    """An upstream that answers 200 "ok"."""
    one = await Origin().start()
    yield one
    await one.stop()


@pytest.fixture
async def connect() -> AsyncIterator[Callable[..., Awaitable[Client]]]:
    """`await connect(gateway)`: a raw client's connection; with an SSLContext (and a name to ask
    for) over TLS."""
    clients: list[Client] = []

    async def one(gateway: Gateway, *tls: Any) -> Client:
        client = await Client.connect(gateway.port, *tls)
        clients.append(client)
        return client

    yield one
    for client in clients:
        client.close()


@pytest.fixture
async def origin_of():
    """`await origin_of(respond)`: an upstream that answers so."""
    made: list[Origin] = []
    failed: list[BaseException] = []

    async def one(respond) -> Origin:
        async def noticed(*arguments) -> bool:
            try:
                return await respond(*arguments)
            except (ConnectionError, asyncio.IncompleteReadError):
                raise
            except Exception as error:
                failed.append(error)
                raise

        origin = await Origin(respond if isinstance(respond, bytes) else noticed).start()
        made.append(origin)
        return origin

    yield one
    for origin in made:
        await origin.stop()
    assert failed == []


@pytest.fixture
async def echoing(origin_of) -> Origin:
    return await origin_of(speaks(echo))


PLAIN = '[[route]]\nprefix = "/"\nupstream = "origin"\n'


@pytest.fixture(scope="session")
def chromium() -> Iterator[Chromium]:
    """A browser for all tests of this process."""
    if not CHROMIUM or not AXE.exists():
        pytest.skip("chromium and axe-core are not installed")
    one = Chromium()
    yield one
    one.close()


@pytest.fixture
async def browser(chromium: Chromium) -> AsyncIterator[Browser]:
    """A profile of its own in it."""
    async with Browser(chromium) as one:
        yield one


@pytest.fixture
def screenshots(request: pytest.FixtureRequest) -> Path | None:
    """Where pictures for the documentation go, with --screenshots."""
    if not request.config.getoption("--screenshots"):
        return None
    SCREENSHOTS.mkdir(exist_ok=True)
    return SCREENSHOTS
