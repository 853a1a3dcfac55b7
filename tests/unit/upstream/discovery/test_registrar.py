"""Registrations in a configuration, and configurations in force with them."""

from __future__ import annotations

from pathlib import Path

import pytest

from gateway.config.tables.targets import ServiceConfig
from gateway.config.toml.problems import ConfigErrors
from gateway.core.clock import REAL
from gateway.core.telemetry import Telemetry
from gateway.runtime.reload import load
from gateway.upstream.discovery.registered import Unregistered
from gateway.upstream.discovery.registrar import Registrar
from tests.flow.conftest import write

ROUTE = '[[route]]\nprefix = "/api/{service}"\nupstream = "{service}"\n'
A = ServiceConfig("a", "http://a:1")


class World:
    """A registrar that follows one configuration after the other."""

    def __init__(self, directory: Path, environ: dict[str, str] | None = None) -> None:
        self.directory = directory
        self.recomposed = 0
        self.registrar = Registrar(REAL, Telemetry(), environ or {}, self.recompose)

    async def recompose(self) -> None:
        self.recomposed += 1

    async def follow(
        self, pipeline: str = ROUTE, gateway: str = "", upstreams: str = ""
    ) -> set[str]:
        write(self.directory, pipeline, upstreams, gateway)
        loaded = await self.registrar.follow(load(self.directory / "gateway.toml", {}))
        self.registrar.adopt()
        assert loaded.registered <= loaded.upstreams.keys()
        return set(loaded.upstreams)


@pytest.fixture
def world(tmp_path: Path):
    made = World(tmp_path)
    yield made
    made.registrar.close()


async def test_services_come_and_go(world: World):
    assert await world.follow() == set()
    await world.registrar.register(A)
    assert await world.follow() == {"a"}
    assert await world.registrar.deregister("a", "http://other:1") is False
    assert await world.registrar.deregister("a") is True
    assert (await world.follow(), world.recomposed) == (set(), 2)


async def test_where_no_route_leads_nothing_is_registered(world: World):
    await world.follow('[[route]]\nprefix = "/"\nrespond = {}\n')
    with pytest.raises(Unregistered, match="no route"):
        await world.registrar.register(A)


async def test_a_configuration_that_is_not_taken_changes_nothing(world: World):
    await world.follow(gateway='[services]\nallow = ["a"]\n')
    await world.registrar.register(A)
    write(world.directory, '[[route]]\nprefix = "/"\nrespond = {}\n', "", "")
    await world.registrar.follow(load(world.directory / "gateway.toml", {}))
    world.registrar.abandon()
    assert world.registrar.registrations == (A,)
    with pytest.raises(Unregistered, match="allow"):
        await world.registrar.register(ServiceConfig("b", "http://b:1"))
    await world.registrar.register(ServiceConfig("b", "http://a:2"))


async def test_where_services_may_not_lie(world: World):
    await world.follow(gateway='[services]\nallow = ["10.0.0.0/8"]\n')
    with pytest.raises(Unregistered, match="allow"):
        await world.registrar.register(A)
    assert world.recomposed == 0


async def test_they_are_kept_in_the_state_directory(world: World, tmp_path: Path):
    state = '[server]\nstate_dir = "state"\n'
    await world.follow(gateway=state)
    assert world.registrar.lasting
    await world.registrar.register(A)
    again = World(tmp_path)
    assert await again.follow(gateway=state) == {"a"}
    again.registrar.close()
    (tmp_path / "state" / "services.json").write_text("{")
    third = World(tmp_path)
    with pytest.raises(ConfigErrors, match="state_dir"):
        await third.follow(gateway=state)
    third.registrar.close()


async def test_the_environment_and_the_configuration(tmp_path: Path):
    environ = {"USER_SERVICE_URL": "http://user:1", "AI_SERVICE_URL": "http://ai:1"}
    world = World(tmp_path, environ)
    own = '[upstream.ai]\nurl = "http://127.0.0.1:1"\n[upstream.like]\ndiscover = { api = true }\n'
    found = await world.follow(
        gateway='[services]\nenv = "*_SERVICE_URL"\nlike = "like"\n', upstreams=own
    )
    assert found == {"user", "ai"}
    environ["USER_SERVICE_URL"] = "http://a:b"
    with pytest.raises(ConfigErrors, match="USER_SERVICE_URL"):
        await world.follow(gateway='[services]\nenv = "*_SERVICE_URL"\n')
    world.registrar.close()
