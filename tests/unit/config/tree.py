"""A configuration tree on disk, middlewares to configure in it, and what compiling it says."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from textwrap import dedent

from gateway.config.check.compile import LoadedConfig, compile_config
from gateway.config.tables.schema import (
    Choice,
    Duration,
    Items,
    Map,
    Secret,
    Size,
    SubTable,
    Table,
    TableClass,
    Text,
    Whole,
)
from gateway.config.toml.problems import ConfigErrors, Problem


@dataclass(frozen=True, slots=True)
class ClassConfig:
    """How many, and how fast."""

    tokens: int
    refill: int = 1


@dataclass(frozen=True, slots=True)
class LimitConfig:
    """Limits by `key`."""

    key: str = "ip"
    limit: int = 100
    window: float = 60.0
    using: str = "standard"
    classes: Mapping[str, ClassConfig] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class AuthConfig:
    methods: tuple[str, ...] = ()
    secret: str = ""
    realm: str = ""


@dataclass(frozen=True, slots=True)
class TransformConfig:
    script: str
    buffer: int = 0


class ClassTable(Table):
    makes = ClassConfig
    tokens = Whole(required=True, least=1)
    refill = Whole(least=1)


class LimitTable(Table):
    makes = LimitConfig
    key = Choice("ip", "client")
    limit = Whole(least=1)
    window = Duration()
    using = Text(data_key="class")
    classes = Map(keys=Text(), values=SubTable(ClassTable))


class AuthTable(Table):
    makes = AuthConfig
    methods = Items(Choice("api_key", "jwt"))
    secret = Secret()
    realm = Text()


class TransformTable(Table):
    makes = TransformConfig
    script = Text(required=True)
    buffer = Size()


TABLES: dict[str, TableClass | None] = {
    "auth": AuthTable,
    "caching": None,
    "compression": None,
    "cors": None,
    "error_handler": None,
    "fallback": None,
    "logging": None,
    "metrics": None,
    "rate_limit": LimitTable,
    "transform": TransformTable,
    "validation": None,
    "company.edge:build": TransformTable,
}

NAMES = sorted(name for name in TABLES if ":" not in name)


def schema_for(name: str) -> TableClass | None:
    if name == "company.broken:build":
        raise ZeroDivisionError("while importing")
    if name not in TABLES:
        raise LookupError(f"no middleware is called {name!r}")
    return TABLES[name]


UPSTREAMS = """
    [upstream.one]
    url = "http://127.0.0.1:3001"
"""

ROUTE = """
    [[route]]
    prefix = "/"
    upstream = "one"
"""


@dataclass
class Tree:
    """Files below `root`; gateway.toml and upstreams.toml are there from the start, and do for
    most."""

    root: Path
    environ: dict[str, str] = field(default_factory=dict)

    def __post_init__(self) -> None:
        self.write("gateway.toml", "")
        self.write("upstreams.toml", UPSTREAMS)

    def write(self, name: str, text: str) -> Path:
        path = self.root / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(dedent(text).lstrip("\n"), encoding="utf-8")
        return path

    def pipeline(self, text: str, name: str = "main", route: str = ROUTE) -> Path:
        """A pipeline file: `text`, then one route that takes everything unless another is given."""
        return self.write(f"pipelines/{name}.toml", dedent(text).lstrip("\n") + dedent(route))

    def compile(self) -> LoadedConfig:
        return compile_config(self.root / "gateway.toml", schema_for, NAMES, self.environ)

    def problems(self) -> list[Problem]:
        """Everything found, errors and warnings."""
        try:
            return list(self.compile().warnings)
        except ConfigErrors as errors:
            return list(errors.problems)

    def said(self) -> list[str]:
        """Every finding as "file:line: severity: message"."""
        return [
            (
                f"{problem.file.relative_to(self.root)}:{problem.line}: {problem.severity}: "
                f"{problem.message}"
            )
            for problem in self.problems()
        ]

    def only(self) -> Problem:
        """The one finding there is."""
        found = self.problems()
        assert len(found) == 1, "\n".join(map(str, found))
        return found[0]
