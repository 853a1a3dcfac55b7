"""SIGHUP to a real process under load: nothing is lost, nothing is forgotten, nothing is half
done."""

from __future__ import annotations

import asyncio
import signal
from pathlib import Path

import pytest

from tests.client import Client
from tests.flow.conftest import write
from tests.load import Load
from tests.origin import Origin, answer
from tests.process import Process

LIMITED = """
request = ["rate_limit"]
[rate_limit]
key = "ip"
limit = {limit}
window = "1h"
algorithm = "fixed_window"
[[route]]
prefix = "/"
upstream = "origin"
rate_limit = false
[[route]]
path = "/limited"
upstream = "origin"
"""
HEALTH = (
    'health = { path = "/health", interval = "200ms", timeout = "1s", unhealthy_threshold = '
    "2, healthy_threshold = 2 }\n"
)


def configure(directory: Path, *origins: Origin, limit: int = 1000, more: str = HEALTH) -> Path:
    endpoints = ", ".join(f'{{ url = "{origin.url}" }}' for origin in origins)
    write(
        directory,
        LIMITED.format(limit=limit),
        f"[upstream.origin]\nendpoints = [{endpoints}]\n{more}",
    )
    return directory / "gateway.toml"


@pytest.fixture
async def origins():
    made = [await Origin(answer(b"%d" % number)).start() for number in range(2)]
    yield made
    for one in made:
        await one.stop()


async def test_many_reloads_under_load_lose_nothing(tmp_path, origins):
    path = configure(tmp_path, *origins)
    async with Process(path) as gateway:
        probe = await Client.connect(gateway.port)
        first = await probe.get("/limited")
        async with Load(gateway.port, 32) as load:
            for number in range(25):
                configure(tmp_path, *origins, limit=1000 + number % 2)
                assert "taken" in await gateway.reload()
                await load.more(20)
        assert load.failed == []
        assert set(load.answers) == {200}
        last = await probe.get("/limited")
        # The bucket outlived 25 configurations, and the limit of the last one holds.
        assert int(first.fields["x-ratelimit-remaining"]) == 999
        assert int(last.fields["x-ratelimit-remaining"]) == 998
        probe.close()


async def test_what_is_used_is_used_in_proportion(tmp_path, origins):
    path = configure(tmp_path, *origins, limit=100)
    async with Process(path) as gateway:
        probe = await Client.connect(gateway.port)

        async def left() -> int:
            return int((await probe.get("/limited")).fields["x-ratelimit-remaining"])

        assert [await left() for _ in range(50)][-1] == 50
        async with Load(gateway.port, 8) as load:
            for limit, expected in ((200, 99), (20, 8), (0, None), (20, 19)):
                configure(tmp_path, *origins, limit=limit)
                assert "taken" in await gateway.reload()
                if expected is None:
                    refused = await probe.get("/limited")
                    assert refused.status == 429 and "retry-after" not in refused.fields
                else:
                    assert await left() == expected
            await load.more(20)
        assert (load.failed, set(load.answers)) == ([], {200})
        probe.close()


async def test_a_broken_file_changes_nothing_and_says_why(tmp_path, origins):
    path = configure(tmp_path, *origins)
    async with Process(path) as gateway:
        before = await gateway.metric("gateway_config_info")
        async with Load(gateway.port, 8) as load:
            (tmp_path / "upstreams.toml").write_text('[upstream.origin]\nendpoint = "x"\n')
            assert "refused" in await gateway.reload()
            assert any(
                "upstreams.toml:2:1: error" in line and "endpoints" in line
                for line in gateway.lines
            )
            assert await gateway.metric("gateway_config_last_reload_success") == 0
            await load.more(50)
            configure(tmp_path, *origins, limit=5)
            assert "taken" in await gateway.reload()
            assert await gateway.metric("gateway_config_last_reload_success") == 1
        assert (load.failed, set(load.answers)) == ([], {200})
        assert before == 1


async def test_files_that_change_are_taken_without_a_signal(tmp_path, origins):
    path = configure(tmp_path, origins[0])
    path.write_text(path.read_text() + '[server]\nwatch = "50ms"\n')
    upstreams = tmp_path / "upstreams.toml"
    second = upstreams.read_text().replace(origins[0].url, origins[1].url)
    async with Process(path) as gateway:
        upstreams.write_text("nonsense")
        await gateway.logged("reload refused")
        upstreams.write_text(second)
        await gateway.logged("reload taken")
        client = await Client.connect(gateway.port)
        assert (await client.get("/")).body == b"1"
        client.close()


async def test_pipelines_that_are_gone_are_missed(tmp_path, origins):
    path = configure(tmp_path, *origins)
    pipelines = tmp_path / "pipelines"
    async with Process(path) as gateway:
        assert await gateway.metric("gateway_config_last_reload_success") == 1
        pipelines.rename(tmp_path / "elsewhere")
        assert "refused" in await gateway.reload()
        assert any(
            f"the folder of pipelines in use is gone: {pipelines}" in line for line in gateway.lines
        )
        pipelines.mkdir()
        assert "refused" in await gateway.reload()
        assert any(
            "gateway.toml" in line and "there are no pipelines any more" in line
            for line in gateway.lines
        )
        client = await Client.connect(gateway.port)
        await client.send(b"GET / HTTP/1.1\r\nHost: a\r\n\r\n")
        assert (await client.read()).status == 200
        client.close()
        pipelines.rmdir()
        (tmp_path / "elsewhere").rename(pipelines)
        assert "taken" in await gateway.reload()


async def test_what_is_known_about_endpoints_survives_a_reload(tmp_path, origins):
    path = configure(tmp_path, *origins)
    async with Process(path) as gateway:
        await gateway.logged("is healthy")
        origins[1].health = answer(b"ill", status="500 Ill")
        await gateway.logged(f"127.0.0.1:{origins[1].port} is unhealthy")
        configure(tmp_path, *origins, limit=7)
        await gateway.reload()
        name = f"127.0.0.1:{origins[1].port}"
        assert await gateway.metric("gateway_upstream_endpoint_healthy", endpoint=name) == 0
        async with Load(gateway.port, 8) as load:
            await load.more(100)
        assert set(load.bodies) == {b"0"}
        origins[1].health = answer(b"well")
        await gateway.logged(f"{name} is healthy", after=len(gateway.lines) - 1)


async def test_an_endpoint_that_dies_is_not_noticed_by_gets(tmp_path, origins):
    path = configure(
        tmp_path,
        *origins,
        more=HEALTH + 'retry = { attempts = 3, base_delay = "10ms", budget = 1.0 }\n',
    )
    async with Process(path) as gateway:
        async with Load(gateway.port, 32) as load:
            await load.more(200)
            port = origins[1].port
            await origins[1].stop()
            await gateway.logged(f"127.0.0.1:{port} is unhealthy")
            await load.more(200)
            assert (load.failed, set(load.answers)) == ([], {200}), gateway.lines
            await origins[1].start(port)
            await gateway.logged(f"127.0.0.1:{port} is healthy", after=len(gateway.lines) - 1)
            before = load.bodies[b"1"]
            await load.more(200)
            assert load.bodies[b"1"] > before
        assert (load.failed, set(load.answers)) == ([], {200}), gateway.lines


async def test_term_drains(tmp_path):
    asked, go = asyncio.Event(), asyncio.Event()

    async def slow(origin, head, reader, writer):
        asked.set()
        await go.wait()
        writer.write(answer(b"done"))
        return True

    origin = await Origin(slow).start()
    try:
        async with Process(configure(tmp_path, origin, more="")) as gateway:
            idle = await Client.connect(gateway.port)
            busy = await Client.connect(gateway.port)
            await busy.send(b"GET / HTTP/1.1\r\nHost: a\r\n\r\n")
            await asked.wait()
            gateway.signal(signal.SIGTERM)
            await gateway.logged("draining")
            assert await idle.at_end()
            with pytest.raises(OSError):
                await Client.connect(gateway.port)
            go.set()
            reply = await busy.read()
            assert (reply.status, reply.body, reply.fields["connection"]) == (200, b"done", "close")
            assert await gateway.ended() == 0
            idle.close()
            busy.close()
    finally:
        await origin.stop()


async def test_a_second_term_stops_at_once(tmp_path):
    asked = asyncio.Event()

    async def never(origin, head, reader, writer):
        asked.set()
        await reader.read()
        return False

    origin = await Origin(never).start()
    try:
        async with Process(configure(tmp_path, origin, more="")) as gateway:
            client = await Client.connect(gateway.port)
            await client.send(b"GET / HTTP/1.1\r\nHost: a\r\n\r\n")
            await asked.wait()
            gateway.signal(signal.SIGTERM)
            await gateway.logged("draining")
            gateway.signal(signal.SIGTERM)
            assert await gateway.ended() == 1
            client.close()
    finally:
        await origin.stop()
