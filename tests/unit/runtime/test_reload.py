"""One snapshot after another: refused reloads change nothing, those that come together are one, the
old one ends last."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest

from gateway.config.toml.problems import ConfigErrors
from gateway.core.hooks import Context, Hooks
from gateway.runtime import reload as module
from gateway.runtime.reload import Runtime
from gateway.runtime.services import Services
from gateway.upstream.connections.transport import Transport
from tests.flow.conftest import PLAIN, write

UPSTREAM = '[upstream.origin]\nurl = "http://127.0.0.1:9"\n'
OWN = f"{__name__}:build"


class Kept:
    """What a middleware keeps across reloads that do not change its settings."""

    def __init__(self, says: str) -> None:
        self.says = says
        self.closed = 0

    def close(self) -> None:
        self.closed += 1


def build(config: dict[str, Any], context: Context) -> Hooks:
    says = config["says"]
    kept = context.keep(("kept",), says, lambda: Kept(says))
    if says == "nothing":
        raise ZeroDivisionError("by zero")
    return Hooks(request=lambda exchange: exchange.notes.update(kept=kept))


def configure(directory: Path, says: str = "one", upstreams: str = UPSTREAM) -> Path:
    write(directory, f'request = ["{OWN}"]\n["{OWN}"]\nsays = "{says}"\n{PLAIN}', upstreams)
    return directory / "gateway.toml"


@pytest.fixture
async def runtime(tmp_path: Path) -> AsyncIterator[Runtime]:
    one = Runtime(configure(tmp_path), Services(Transport()), {})
    await one.start()
    yield one
    one.stop()


def kept(runtime: Runtime) -> Kept:
    [one] = [each for each in runtime.registry if isinstance(each, Kept)]
    return one


async def test_a_start_that_is_refused_raises(tmp_path: Path):
    one = Runtime(configure(tmp_path, upstreams=""), Services(Transport()), {})
    with pytest.raises(ConfigErrors):
        await one.start()


async def test_a_reload_that_changes_nothing_keeps_what_is_kept(runtime: Runtime):
    before, snapshot = kept(runtime), runtime.snapshot
    outcome = await runtime.reload()
    assert (outcome.ok, outcome.changes, outcome.hash) == (True, (), snapshot.loaded.hash)
    assert runtime.snapshot is not snapshot and runtime.snapshot.number == 2
    assert kept(runtime) is before and before.closed == 0


async def test_a_change_is_told_and_what_it_replaces_is_closed(runtime: Runtime, tmp_path: Path):
    before = kept(runtime)
    configure(tmp_path, "two")
    outcome = await runtime.reload()
    assert (outcome.ok, outcome.changes) == (True, (f"pipeline test changed: [{OWN}]",))
    assert (before.closed, kept(runtime).says, kept(runtime).closed) == (1, "two", 0)


async def test_what_is_replaced_stays_open_for_requests_that_use_it(
    runtime: Runtime, tmp_path: Path
):
    before, old = kept(runtime), runtime.snapshot
    old.active += 1
    configure(tmp_path, "two")
    await runtime.reload()
    assert before.closed == 0 and runtime.retiring == {1}
    old.leave()
    assert before.closed == 1 and runtime.retiring == set()


@pytest.mark.parametrize(
    ("says", "upstreams", "message"),
    [
        ("one", "", "route.upstream"),
        ("nothing", UPSTREAM, "ZeroDivisionError"),
    ],
)
async def test_a_refused_reload_changes_nothing(
    runtime: Runtime, tmp_path: Path, says: str, upstreams: str, message: str
):
    before, snapshot, pools = kept(runtime), runtime.snapshot, runtime.snapshot.pools
    configure(tmp_path, says, upstreams)
    outcome = await runtime.reload()
    assert not outcome.ok and any(message in str(problem) for problem in outcome.problems)
    assert outcome.hash == snapshot.loaded.hash
    assert runtime.snapshot is snapshot and runtime.snapshot.pools is pools
    assert kept(runtime) is before and before.closed == 0
    telemetry = runtime.services.telemetry
    assert (telemetry.reload_success.get(), telemetry.config_info.values) == (
        0,
        {(snapshot.loaded.hash,): 1},
    )
    configure(tmp_path)
    assert (await runtime.reload()).ok and telemetry.reload_success.get() == 1


async def test_what_fails_inside_is_a_refusal_too(
    runtime: Runtime, monkeypatch: pytest.MonkeyPatch
):
    snapshot = runtime.snapshot

    def broken(*_: object) -> None:
        raise RuntimeError("of our own making")

    monkeypatch.setattr(module, "load", broken)
    outcome = await runtime.reload()
    assert not outcome.ok and "RuntimeError" in outcome.problems[0].message
    assert "of our own making" not in outcome.problems[0].message
    assert runtime.snapshot is snapshot


async def test_reloads_that_come_during_one_are_one_more(
    runtime: Runtime, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
):
    loop, entered, go = asyncio.get_running_loop(), asyncio.Event(), threading.Event()
    real = module.load
    reads: list[str] = []

    def slow(path: Path, environ: Any) -> Any:
        loaded = real(path, environ)
        reads.append(loaded.hash)
        loop.call_soon_threadsafe(entered.set)
        assert go.wait(10)
        return loaded

    monkeypatch.setattr(module, "load", slow)
    first = asyncio.create_task(runtime.reload())
    await entered.wait()
    configure(tmp_path, "two")  # after the first has read its files
    others = [asyncio.create_task(runtime.reload()) for _ in range(5)]
    await asyncio.sleep(0)
    go.set()
    outcomes = [(await first).hash, *{(await each).hash for each in others}]
    assert outcomes == reads and len(set(reads)) == 2
    assert runtime.snapshot.number == 3 and kept(runtime).says == "two"


async def test_one_that_no_longer_waits_for_its_reload_does_not_end_it(
    runtime: Runtime, tmp_path: Path
):
    configure(tmp_path, "two")
    waiting = asyncio.create_task(runtime.reload())
    await asyncio.sleep(0)
    waiting.cancel()
    assert (await runtime.reload()).ok
    assert kept(runtime).says == "two"


async def test_at_the_end_everything_is_closed(tmp_path: Path):
    one = Runtime(configure(tmp_path), Services(Transport()), {})
    await one.start()
    before = kept(one)
    one.stop()
    assert before.closed == 1 and list(one.registry) == []


async def test_a_start_that_takes_long_says_so(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
):
    caplog.set_level("INFO", "gateway.reload")
    began = threading.Event()
    original = module.load

    def slow(*arguments: Any) -> Any:
        assert began.wait(30)
        return original(*arguments)

    monkeypatch.setattr(module, "load", slow)
    monkeypatch.setattr(module, "SLOW_START", 0.0)
    monkeypatch.setattr(module.log, "info", lambda *told: began.set())
    runtime = Runtime(configure(tmp_path), Services(Transport()), {})
    await runtime.start()
    assert began.is_set()
    runtime.stop()
