"""The portal of several workers: a session is good at all of them, and each tells of the failures
of all."""

from __future__ import annotations

from hashlib import sha256
from pathlib import Path
from typing import Any

from aiohttp import ClientSession, CookieJar, TCPConnector

from tests.flow.conftest import write
from tests.process import Process

KEY = "acme-0123456789abcdef"
PIPELINE = """
request = ["auth"]
auth = { methods = ["api_key"], api_key = { file = "../keys.toml" }, require = { POST = ["write"], "*" = [] } }
[[route]]
prefix = "/portal"
builtin = "portal"
[[route]]
prefix = "/"
respond = { text = "ok" }
"""


async def test_sessions_and_failures_are_those_of_all(tmp_path: Path):
    write(tmp_path, PIPELINE, "", "[server]\nworkers = 2\n")
    digest = sha256(KEY.encode()).hexdigest()
    (tmp_path / "keys.toml").write_text(
        f'[[key]]\nid = "k_1"\nclient = "acme"\nhash = "sha256:{digest}"\n'
    )
    async with Process(tmp_path / "gateway.toml") as gateway:
        base = f"http://127.0.0.1:{gateway.port}"

        async def session(jar: CookieJar) -> ClientSession:
            return ClientSession(cookie_jar=jar, connector=TCPConnector(force_close=True))

        async with await session(CookieJar(unsafe=True)) as client:
            for number in range(8):  # on a connection each, so that both workers have some
                headers = {"X-API-Key": KEY}
                async with client.post(f"{base}/{number}", headers=headers) as reply:
                    assert reply.status == 403
            async with client.post(
                f"{base}/portal/api/session", json={"secret": KEY}, headers={"Origin": base}
            ) as reply:
                assert reply.status == 200
            for _ in range(8):
                async with client.get(f"{base}/portal/api/account") as reply:
                    said: dict[str, Any] = await reply.json()
                    assert reply.status == 200
                assert {one["path"] for one in said["failures"]} == {f"/{n}" for n in range(8)}
