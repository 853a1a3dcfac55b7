"""Operators' middlewares in several workers: each starts them for itself, none takes a
configuration that one of them cannot start, and each exports its own spans."""

from __future__ import annotations

import asyncio
from pathlib import Path

from tests.collector import collecting
from tests.reload.workers import UPSTREAMS, fresh, pids, started
from tests.until import until

OWN = """
import os
from pathlib import Path
from gateway.core.exchange import Reply
from gateway.core.hooks import Hooks

HERE = Path(__file__).parent


def build(config, context):
    async def start():
        if config["says"] == "broken":
            raise ConnectionError("no service")
        (HERE / f"started-{os.getpid()}").touch()

    async def close():
        (HERE / f"started-{os.getpid()}").unlink()

    said = f"{os.getpid()} {config['says']}".encode()
    return Hooks(request=lambda exchange: Reply(200, (), said), start=start, close=close)
"""
PIPELINE = """request = ["own_plugin:build"]
["own_plugin:build"]
says = "SAYS"
[[route]]
prefix = "/"
upstream = "none"
"""


def configure(directory: Path, collector: str) -> Path:
    (directory / "own_plugin.py").write_text(OWN)
    (directory / "upstreams.toml").write_text(UPSTREAMS)
    (directory / "pipelines").mkdir()
    (directory / "pipelines" / "test.toml").write_text(PIPELINE.replace("SAYS", "first"))
    gateway = directory / "gateway.toml"
    gateway.write_text(
        "[listen]\nport = 0\n[admin]\nport = 0\n"
        '[server]\nworkers = 2\nshutdown_timeout = "5s"\n'
        f'[tracing]\notlp = "{collector}"\n'
    )
    return gateway


async def test_starts_and_spans_of_each_worker(tmp_path: Path):
    with collecting() as collector:
        async with started(configure(tmp_path, collector.url)) as gateway:
            workers = {str(pid) for pid in await pids(gateway)}
            names = {f"started-{pid}" for pid in workers}
            assert {one.name for one in tmp_path.glob("started-*")} == names, "no supervisor's"
            (tmp_path / "pipelines" / "test.toml").write_text(PIPELINE.replace("SAYS", "broken"))
            assert "refused" in await gateway.reload()
            assert "own_plugin:build: start failed: ConnectionError" in "\n".join(gateway.lines)
            answered = 0

            async def both() -> bool:
                nonlocal answered
                _, says = await fresh(gateway)
                answered += 1
                assert says == "first"
                seen = {one.resource["process.pid"] for one in collector.spans}
                return seen == workers

            await until(both)
        spans = await asyncio.to_thread(collector.wait, answered)
        assert len(spans) == answered and len({one.trace_id for one in spans}) == answered
        assert list(tmp_path.glob("started-*")) == [], "all are closed at the end"
