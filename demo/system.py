"""A system to demonstrate, read from its `demo.toml`, and the lines that show what it does.

    files = ["gateway.toml", "pipelines"]     # copied to the folder that the demonstration runs in
    gateway = 8080                            # ports as the files have them
    admin = 9901
    redis = 6390                              # a Redis of its own, where the system has one
    scheme = "https"                          # how clients reach the gateway; "http" when left out

    [env]                                     # of the gateway and of what `make` runs
    JWT_SECRET = "..."

    [[service]]                               # started before the gateway, in this order
    name = "camera-1"
    port = 3001
    command = ["services.py", "cameras"]      # by this Python; --name and --port follow
    ready = "/health"

    [[make]]                                  # run before the gateway; {key} is what it matches
    name = "key"
    command = "{gateway-command} keys create --client demo --file {folder}/keys.toml"
    pattern = 'bec_[0-9a-f]{64}'

    [[line]]
    shows = "a partner's request"
    command = "curl -i -H 'X-API-Key: {key}' {gateway}/api/v1/cameras"
    expect = "200 and a list of cameras"
    patterns = ['^HTTP/1.1 200 ', '"camera-18"']      # all are found in the output
    absent = ["secret"]                               # none of these is

Commands know {gateway} and {admin} (URLs), {port}, {folder}, {absolute} (the folder's full path),
{python}, {gateway-command}, {pid} (the gateway's), {pid:NAME} and {port:NAME} (a service's),
{redis} (its port), and what `make` has made. Other braces stay.
"""

from __future__ import annotations

import re
import subprocess
import tomllib
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

SHELL_TIMEOUT = 60


@dataclass(frozen=True)
class Line:
    """One line to copy: its title, the shell's command, its result in words, and how to tell."""

    shows: str
    command: str
    expect: str
    patterns: tuple[str, ...]
    absent: tuple[str, ...] = ()

    def filled(self, values: Mapping[str, str]) -> Line:
        return Line(
            self.shows,
            fill(self.command, values),
            self.expect,
            tuple(fill(pattern, values, re.escape) for pattern in self.patterns),
            self.absent,
        )

    def faults(self, output: str) -> list[str]:
        """Return what is wrong with the output: patterns without a match, and those with one."""
        flags = re.MULTILINE | re.IGNORECASE
        missing = [
            f"no match for {one}" for one in self.patterns if not re.search(one, output, flags)
        ]
        return missing + [
            f"a match for {one}" for one in self.absent if re.search(one, output, flags)
        ]

    def run(self) -> str:
        """Return what the command printed, both streams."""
        return shell(self.command)


@dataclass(frozen=True)
class Service:
    """A sample service."""

    name: str
    port: int
    command: tuple[str, ...]
    ready: str = "/health"


@dataclass(frozen=True)
class Make:
    """A command that is run before the gateway starts."""

    command: str
    name: str = ""
    pattern: str = ""


@dataclass(frozen=True)
class System:
    """What `demo.toml` says. `home`: the folder that `files` are in."""

    home: Path
    files: tuple[str, ...]
    gateway: int
    admin: int
    redis: int = 0
    scheme: str = "http"
    env: Mapping[str, str] = field(default_factory=dict)
    services: tuple[Service, ...] = ()
    makes: tuple[Make, ...] = ()
    lines: tuple[Line, ...] = ()

    @property
    def ports(self) -> list[int]:
        """Return every port that stands in the files."""
        others = (self.redis,) if self.redis else ()
        return [self.gateway, self.admin, *others, *(one.port for one in self.services)]


def load(path: Path) -> System:
    """Read a `demo.toml`."""
    given = tomllib.loads(path.read_text("utf-8"))
    home = (path.parent / given.pop("home", ".")).resolve()
    return System(
        home,
        files=tuple(given.pop("files")),
        services=tuple(_made(Service, one) for one in given.pop("service", ())),
        makes=tuple(_made(Make, one) for one in given.pop("make", ())),
        lines=tuple(_made(Line, one) for one in given.pop("line", ())),
        **given,
    )


def _made(kind: Any, table: dict[str, Any]) -> Any:
    return kind(**{k: tuple(v) if isinstance(v, list) else v for k, v in table.items()})


def fill(text: str, values: Mapping[str, str], quote: Any = str) -> str:
    """Return text with {names} that are known replaced; other braces stay."""
    return re.sub(
        r"\{([a-z][A-Za-z0-9:_-]*)\}",
        lambda found: quote(values[found[1]]) if found[1] in values else found[0],
        text,
    )


def shell(command: str, env: Mapping[str, str] | None = None) -> str:
    """Run a line of bash; return both its streams, without carriage returns."""
    done = subprocess.run(
        ["bash", "-c", command],
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
        timeout=SHELL_TIMEOUT,
        check=False,
        env=env,
    )
    return done.stdout.replace("\r", "") + done.stderr
