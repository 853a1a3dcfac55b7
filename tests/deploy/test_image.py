"""The image's health check asks the admin listener that the configuration names."""

from __future__ import annotations

import asyncio
import json
import re
import sys
from pathlib import Path

from tests.flow.conftest import write
from tests.process import ROOT, Process

HEALTH = '[[route]]\npath = "/health"\nbuiltin = "health"\n'
TEXT = (ROOT / "Dockerfile").read_text("utf-8")


def command(name: str) -> list[str]:
    """The words of an instruction that has them as a list; HEALTHCHECK has options in front."""
    found = re.search(rf"^{name}(?:.*\\\n)*.*?(\[.*\])$", TEXT, re.MULTILINE)
    assert found is not None
    words: list[str] = json.loads(found[1])
    return words


async def healthy(config: Path) -> int | None:
    """The exit code of the image's health check, on a configuration of ours."""
    (program, *arguments) = command("HEALTHCHECK")
    assert program == "gateway"
    words = [str(config) if word == "/etc/gateway/gateway.toml" else word for word in arguments]
    process = await asyncio.create_subprocess_exec(
        sys.executable, "-m", "gateway", *words, cwd=ROOT,
        stdout=asyncio.subprocess.DEVNULL, stderr=asyncio.subprocess.DEVNULL,
    )  # fmt: skip
    return await asyncio.wait_for(process.wait(), 60)


async def test_the_health_check_follows_the_configuration(tmp_path: Path):
    """A token protects the rest of the admin API, not this question."""
    write(tmp_path, HEALTH, "", '[admin]\nport = 0\ntoken = "t"\n')
    config = tmp_path / "gateway.toml"
    async with Process(config) as gateway:
        write(tmp_path, HEALTH, "", f"[admin]\nport = {gateway.admin_port}\n")
        assert await healthy(config) == 0
    assert await healthy(config) == 1


def test_it_is_built_compiled_and_has_no_compiler():
    build, _, final = TEXT.rpartition("\nFROM ")
    assert "\nARG GATEWAY_COMPILE=1\n" in build and "pip wheel" in build and " gcc " in build
    assert "apt-get" not in final


def test_it_runs_as_a_user_of_its_own():
    assert re.search(r"^USER 10001:10001$", TEXT, re.MULTILINE)
    assert command("CMD ")[0] == "run"
