from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest

from gateway.config.check.compile import LoadedConfig
from gateway.config.tables.server import StoreConfig
from gateway.config.toml.problems import Problem
from gateway.lifetime.registry import Registry
from gateway.runtime.reload import load
from gateway.runtime.services import Services, issuer_of, ledger_of, shared_store
from gateway.upstream.connections.transport import Transport
from tests.flow.conftest import PLAIN, write


@pytest.fixture
def loaded(tmp_path: Path) -> LoadedConfig:
    write(tmp_path, PLAIN, '[upstream.origin]\nurl = "http://127.0.0.1:9"\n')
    return load(tmp_path / "gateway.toml", {})


def with_store(loaded: LoadedConfig, url: str) -> LoadedConfig:
    return replace(loaded, gateway=replace(loaded.gateway, store=StoreConfig(url)))


def test_memory_is_no_shared_store(loaded: LoadedConfig):
    said: list[Problem] = []
    world, draft = Services(Transport()), Registry().draft()
    assert shared_store(loaded, said.append) is None
    assert ledger_of(None, loaded, draft, world, said.append) is None
    assert issuer_of(None, loaded, draft, world, said.append) is None
    assert said == []


def test_the_ledger_of_a_store_is_kept(loaded: LoadedConfig):
    said: list[Problem] = []
    world, registry = Services(Transport()), Registry()
    loaded = with_store(loaded, "redis://127.0.0.1:1/0")

    def made() -> object:
        store = shared_store(loaded, said.append)
        return ledger_of(store, loaded, registry.draft(), world, said.append)

    first = made()
    assert first is not None and made() is first and said == []
    registry.close()


def test_a_url_that_is_wrong_is_reported(loaded: LoadedConfig):
    said: list[Problem] = []
    assert shared_store(with_store(loaded, "redis://127.0.0.1:1/zero"), said.append) is None
    [problem] = said
    assert problem.file.name == "gateway.toml" and problem.message.startswith(
        "store.url: must end in the number"
    )
