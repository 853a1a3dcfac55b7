"""Discovery: what sources say, that what fails changes nothing, and that who stays is known
still."""

from __future__ import annotations

import asyncio
import json
import logging
import os
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from dataclasses import replace
from pathlib import Path

import pytest

from gateway.config.tables.endpoints import DiscoverConfig, EndpointConfig, UpstreamTlsConfig
from gateway.config.tables.upstream import UpstreamConfig
from gateway.upstream.discovery.dns import Service
from gateway.upstream.discovery.sources import (
    SETTLED,
    SOONEST,
    Discovery,
    Undiscovered,
    in_environment,
    in_file,
    resolve,
)
from gateway.upstream.pool.pool import Pool
from tests.timers import Timers


class Look:
    """A discovery whose time passes when a test says so, and whose name server says what a test
    wants."""

    def __init__(
        self, config: DiscoverConfig, directory: Path, environ: dict[str, str] | None = None
    ) -> None:
        self.pool = Pool(
            "x", UpstreamConfig(endpoints=(EndpointConfig("http://a:1"),), discover=config)
        )
        self.directory = directory
        self.addresses: Sequence[str] | OSError = ()
        self.timers = Timers()
        self.services: list[Service] = []
        self.lasts: float | None = None
        self.discovery = Discovery(
            self.pool,
            self.pool.discovered,
            environ or {},
            resolve=self.resolve,
            look_up=self.look_up,
            lifetime=self.lifetime,
            timers=self.timers,
        )
        self.discovery.sync(config, directory)

    async def resolve(self, host: str, port: int) -> Sequence[str]:
        if isinstance(self.addresses, OSError):
            raise self.addresses
        return self.addresses

    async def lifetime(self, host: str) -> float | None:
        return self.lasts

    async def look_up(self, name: str) -> Sequence[Service]:
        if not self.services:
            raise OSError(0, "there is no such name")
        return self.services

    async def pass_time(self) -> float:
        """One more look at everything; returns the seconds until the next."""
        self.timers.advance(self.timers.waiting[0])
        rounds = self.discovery._rounds
        assert rounds is not None
        if rounds._task is not None:
            await asyncio.wait((rounds._task,))
            await asyncio.sleep(0)
        return self.timers.waiting[0]

    def names(self) -> list[str]:
        return sorted(endpoint.name for endpoint in self.pool.endpoints)


@asynccontextmanager
async def looking(
    config: DiscoverConfig, directory: Path, environ: dict[str, str] | None = None
) -> AsyncIterator[Look]:
    look = Look(config, directory, environ)
    yield look
    look.discovery.stop()


@pytest.mark.parametrize(
    ("name", "text", "found"),
    [
        (
            "a.json",
            '["http://b:2", {"url": "http://c:3", "weight": 2}]',
            [("http://b:2", 1), ("http://c:3", 2)],
        ),
        (
            "a.txt",
            "# cameras\nhttp://b:2\n\nhttp://c:3  # the other\n",
            [("http://b:2", 1), ("http://c:3", 1)],
        ),
        ("a.json", "[]", []),
        ("a.json", '{"a": 1}', "is not an array"),
        ("a.json", '["ftp://b"]', "must be a URL"),
        ("a.json", '[{"url": "http://b", "wait": 1}]', "wait"),
        ("a.json", "[", "Expecting value"),
        ("b.json", "", "No such file"),
    ],
)
def test_files(tmp_path: Path, name: str, text: str, found: list[tuple[str, int]] | str) -> None:
    (tmp_path / "a.json").write_text(text)
    (tmp_path / "a.txt").write_text(text)
    if isinstance(found, str):
        with pytest.raises(Undiscovered, match=found):
            in_file(tmp_path / name)
    else:
        assert [(one.url, one.weight) for one in in_file(tmp_path / name)] == found


def test_the_environment() -> None:
    environ = {"CAMERA_B_URL": "http://b:2, c:3", "CAMERA_A_URL": "https://a", "OTHER": "http://o"}
    assert [one.url for one in in_environment("CAMERA_*_URL", environ)] == [
        "https://a",
        "http://b:2",
        "http://c:3",
    ]
    assert in_environment("NOTHING", environ) == ()
    assert [one.url for one in in_environment("A", {"A": "unix:/run/a.sock"})] == [
        "unix:/run/a.sock"
    ]
    with pytest.raises(Undiscovered):
        in_environment("BAD", {"BAD": "ftp://x"})


async def test_a_changed_file_is_read_and_who_stays_is_known_still(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.INFO)
    file = tmp_path / "found.json"
    file.write_text('["http://b:2", "http://c:3"]')
    async with looking(DiscoverConfig(file="found.json"), tmp_path) as look:
        assert look.names() == ["a:1", "b:2", "c:3"]
        stays = look.pool.endpoints[0]
        stays.in_flight = 5
        file.write_text(json.dumps([f"http://{stays.name}", "http://d:4"]))
        await look.pass_time()
        assert look.names() == sorted({"a:1", stays.name, "d:4"})
        assert next(one for one in look.pool.endpoints if one.name == stays.name) is stays
        file.write_text("[")
        await look.pass_time()
        file.unlink()
        await look.pass_time()
        assert "d:4" in look.names()
        assert caplog.text.count("what it said last stays") == 1
        file.write_text("[]")
        await look.pass_time()
        assert look.names() == ["a:1"]
        assert "works again" in caplog.text


async def test_dns(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    async with looking(
        DiscoverConfig(dns="cameras.internal:3001", scheme="https"), tmp_path
    ) as look:
        look.addresses = ["192.0.2.2", "192.0.2.1", "192.0.2.1", "2001:db8::1"]
        await look.pass_time()
        assert look.names() == ["192.0.2.1:3001", "192.0.2.2:3001", "[2001:db8::1]:3001", "a:1"]
        assert {one.scheme for one in look.pool.endpoints if one.port == 3001} == {"https"}
        look.addresses = OSError(5, "no answer")
        await look.pass_time()
        assert len(look.names()) == 4
        assert "cameras.internal: no answer" in caplog.text
        look.addresses = ["192.0.2.1"]
        await look.pass_time()
        assert look.names() == ["192.0.2.1:3001", "a:1"]


@pytest.mark.parametrize(
    ("lasts", "slept", "why"),
    [
        (3.0, 3.0, "its TTL"),
        (60.0, 10.0, "no longer than `every`"),
        (None, 10.0, "it is not known"),
        (0.0, SOONEST, "not all the time"),
    ],
)
async def test_a_name_is_looked_up_again_when_its_time_is_over(
    tmp_path: Path, lasts: float | None, slept: float, why: str
) -> None:
    async with looking(DiscoverConfig(dns="cameras.internal:3001"), tmp_path) as look:
        look.addresses, look.lasts = ["192.0.2.1"], lasts
        assert await look.pass_time() == slept


async def test_an_error_of_ours_is_not_the_end_of_it(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    async with looking(DiscoverConfig(dns="cameras.internal:3001"), tmp_path) as look:
        look.addresses = [7]  # type: ignore[list-item]
        await look.pass_time()
        assert "discovery of x failed; the next round comes as usual" in caplog.text
        look.addresses = ["192.0.2.1"]
        await look.pass_time()
        assert "192.0.2.1:3001" in look.names()


async def test_a_file_that_could_not_be_read_is_tried_again(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "found.txt").write_text("http://b:2\n")
    async with looking(DiscoverConfig(file="found.txt"), tmp_path) as look:
        reading = Path.read_text
        (tmp_path / "found.txt").write_text("http://c:33\n")
        monkeypatch.setattr(
            Path,
            "read_text",
            lambda *_: (_ for _ in ()).throw(PermissionError(13, "Permission denied")),
        )
        await look.pass_time()
        assert look.names() == ["a:1", "b:2"]
        monkeypatch.setattr(Path, "read_text", reading)
        await look.pass_time()
        assert look.names() == ["a:1", "c:33"]


async def test_the_systems_resolver() -> None:
    assert "127.0.0.1" in await resolve("127.0.0.1", 80)


async def test_registered_endpoints_outlive_a_reload_that_allows_them(tmp_path: Path) -> None:
    config = DiscoverConfig(api=True, env="URLS")
    async with looking(config, tmp_path, {"URLS": "http://e:5"}) as look:
        discovery = look.discovery
        assert look.names() == ["a:1", "e:5"]
        assert discovery.register(EndpointConfig("http://r:9", weight=2))
        assert discovery.register(EndpointConfig("http://r:9", weight=3))
        assert [one.weight for one in look.pool.endpoints if one.name == "r:9"] == [3]
        discovery.sync(DiscoverConfig(api=True), tmp_path)
        assert look.names() == ["a:1", "r:9"]
        assert discovery.deregister("http://r:9")
        assert not discovery.deregister("http://r:9")
        assert look.names() == ["a:1"]
        discovery.sync(DiscoverConfig(env="URLS"), tmp_path)
        assert not discovery.register(EndpointConfig("http://r:9"))
        assert repr(discovery) == "<Discovery of x, 1 endpoints>"
        discovery.sync(None, tmp_path)
        look.pool.reconfigure(UpstreamConfig(endpoints=(EndpointConfig("http://a:1"),)))
        assert look.names() == ["a:1"]


async def test_an_endpoint_that_is_written_down_too_is_there_once(tmp_path: Path) -> None:
    async with looking(DiscoverConfig(env="URLS"), tmp_path, {"URLS": "http://a:1"}) as look:
        assert [(one.name, one.weight) for one in look.pool.endpoints] == [("a:1", 1)]


async def test_srv_records_bring_weights_backups_and_their_time(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    async with looking(DiscoverConfig(dns="_http._tcp.internal"), tmp_path) as look:
        look.services = [
            Service(1, 0, 80, "c", 7),
            Service(1, 5, 81, "d", 3),
            Service(2, 9, 82, "e", 60),
        ]
        assert await look.pass_time() == 3.0
        found = {one.name: (one.weight, one.backup) for one in look.pool.endpoints}
        assert found == {
            "a:1": (1, False),
            "c:80": (1, False),
            "d:81": (5, False),
            "e:82": (9, True),
        }
        look.services = []
        assert await look.pass_time() == 10.0
        assert len(look.names()) == 4
        assert "_http._tcp.internal: there is no such name" in caplog.text


async def test_what_was_known_stays_until_the_new_source_has_answered(tmp_path: Path) -> None:
    """A reload that changes `discover` while the new name server is silent, or the new file is not
    there yet."""
    async with looking(DiscoverConfig(dns="localhost:80"), tmp_path) as look:
        look.addresses = ["127.0.0.1"]
        await look.pass_time()
        known = next(one for one in look.pool.endpoints if one.name == "127.0.0.1:80")
        look.addresses = OSError(0, "no answer")
        look.discovery.sync(DiscoverConfig(dns="localhost:80", every=5.0), tmp_path)
        await look.pass_time()
        look.discovery.sync(DiscoverConfig(file="found.json"), tmp_path)
        await look.pass_time()
        assert known in look.pool.endpoints
        (tmp_path / "found.json").write_text('["http://b:2"]')
        await look.pass_time()
        assert look.names() == ["a:1", "b:2"]


async def test_half_a_line_is_no_endpoint(tmp_path: Path) -> None:
    """A file that is being written when it is looked at."""
    file = tmp_path / "found.txt"
    file.write_text("http://b:2\n")
    async with looking(DiscoverConfig(file="found.txt"), tmp_path) as look:
        await look.pass_time()
        file.write_text("http://b:2\nhttp://c:80")
        assert await look.pass_time() == SETTLED
        assert look.names() == ["a:1", "b:2"]
        with file.open("a") as more:
            more.write("80\n")
        await look.pass_time()
        assert look.names() == ["a:1", "b:2", "c:8080"]
        file.write_text("")
        assert await look.pass_time() == SETTLED
        assert look.names() == ["a:1", "b:2", "c:8080"], (
            "it has been opened, and nothing written yet"
        )
        file.write_text("http://d:4")
        os.utime(file, (1e10, 1e10))  # Whatever the clocks say.
        await look.pass_time()
        assert look.names() == ["a:1", "d:4"], (
            "a last line without an end is one, once nothing more comes"
        )


def test_a_byte_order_mark_is_none_of_a_list(tmp_path: Path) -> None:
    for name, text in (("a.txt", "http://b:2\n"), ("a.json", '["http://b:2"]')):
        (tmp_path / name).write_text(text, "utf-8-sig")
        assert [one.url for one in in_file(tmp_path / name)] == ["http://b:2"]


@pytest.mark.parametrize(
    ("config", "own", "name"),
    [
        (DiscoverConfig(dns="cameras.internal:443", scheme="https"), "", "cameras.internal"),
        (DiscoverConfig(dns="cameras.internal:443", scheme="https"), "other", ""),
        (DiscoverConfig(dns="cameras.internal:443"), "", ""),
    ],
)
async def test_a_certificate_is_for_the_name_that_was_configured(
    tmp_path: Path, config: DiscoverConfig, own: str, name: str
) -> None:
    """Not for the address; the upstream's own `tls.server_name` goes before both."""
    async with looking(config, tmp_path) as look:
        look.pool.config = replace(
            look.pool.config, tls=UpstreamTlsConfig(server_name=own) if own else None
        )
        look.addresses = ["192.0.2.1"]
        await look.pass_time()
        assert [one.server_name for one in look.pool.endpoints if one.host == "192.0.2.1"] == [name]
