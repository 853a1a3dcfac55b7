"""A reload that is refused has changed nothing, in the files that middlewares read either."""

from __future__ import annotations

import json
from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from gateway.app import Gateway
from gateway.credentials.api_keys.key_file import digest
from tests.client import Client
from tests.flow.conftest import write
from tests.origin import Origin

PIPELINE = """
request = ["auth", "logging"]
logging.file = "{log}"
[auth]
methods = ["api_key"]
api_key.file = "../keys.toml"
audit = {{ file = "../audit.log" }}
[[route]]
prefix = "/"
upstream = "origin"
"""


def configure(directory: Path, origin: Origin, *, key: str, log: str = "-") -> Path:
    write(directory, PIPELINE.format(log=log), f'[upstream.origin]\nurl = "{origin.url}"\n')
    (directory / "keys.toml").write_text(
        f'[[key]]\nid = "k_1"\nclient = "acme"\nhash = "sha256:{digest(key).hex()}"\n'
    )
    return directory / "gateway.toml"


@pytest.fixture
async def origin() -> AsyncIterator[Origin]:
    one = await Origin().start()
    yield one
    await one.stop()


async def test_keys_stay_in_force_until_a_reload_is_taken(tmp_path, origin, monkeypatch):
    monkeypatch.setattr("gateway.lifetime.watch.EVERY", 3600.0)
    gateway = Gateway(configure(tmp_path, origin, key="first"), {})
    await gateway.start()
    client = await Client.connect(gateway.port)

    async def statuses() -> list[int]:
        return [(await client.get("/", f"X-API-Key: {key}")).status for key in ("first", "second")]

    try:
        assert await statuses() == [200, 401]
        configure(tmp_path, origin, key="second", log="missing/access.log")
        assert not (await gateway.reload()).ok
        assert await statuses() == [200, 401]
        configure(tmp_path, origin, key="second")
        assert (await gateway.reload()).ok
        assert await statuses() == [401, 200]
    finally:
        client.close()
        await gateway.close()
    events = [json.loads(line) for line in (tmp_path / "audit.log").read_text().splitlines()]
    assert [event["outcome"] for event in events if event["event"] == "key_change"] == ["changed"]
