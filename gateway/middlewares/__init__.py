"""The catalogue: which middleware a TOML name means.

Nothing is imported before a list names it. Each entry is a module with `CONFIG` (its Table) and
`build(config, context) -> Hooks`.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass
from importlib import import_module
from importlib.metadata import entry_points
from pathlib import Path
from types import ModuleType
from typing import Any

from gateway.config.tables.schema import TableClass
from gateway.core.hooks import Build, kind_of

ENTRY_POINTS = "gateway.middlewares"

CATALOGUE = {
    "auth": "gateway.middlewares.auth",
    "caching": "gateway.middlewares.caching",
    "compression": "gateway.middlewares.compression",
    "cors": "gateway.middlewares.cors",
    "error_handler": "gateway.middlewares.error_handler",
    "fallback": "gateway.middlewares.fallback",
    "forward_auth": "gateway.middlewares.forward_auth",
    "logging": "gateway.middlewares.logging",
    "metrics": "gateway.middlewares.metrics",
    "rate_limit": "gateway.middlewares.rate_limit",
    "security_headers": "gateway.middlewares.security_headers",
    "transform": "gateway.middlewares.transform",
    "validation": "gateway.middlewares.validation",
}


@dataclass(frozen=True, slots=True)
class Kind:
    """One middleware as the catalogue knows it. Without a `config` Table, build gets the raw table.

    module: of one of ours. It may have `secrets(config)`, the names that credentials come in, which
            no log shows, and
    `left_out(config, context)`, the hooks that stand in on a route that leaves it out, and
    `upstream(config)`, the pool that an instance asks itself (Context.ask).
    """

    name: str
    build: Build
    config: TableClass | None
    module: ModuleType | None = None


class UnknownMiddleware(LookupError):
    """No such name; the message says what was looked for and where."""


def find(name: str) -> Kind:
    """Return the middleware called `name` in a list.

    Of the catalogue, of an entry point, or `package.module:build`. Raises UnknownMiddleware.
    """
    kind = kind_of(name)
    if kind in CATALOGUE:
        module = import_module(CATALOGUE[kind])
        return Kind(kind, module.build, module.CONFIG, module)
    if ":" in kind:
        module_name, _, attribute = kind.partition(":")
        try:
            module = import_module(module_name)
        except ImportError as error:
            raise UnknownMiddleware(f"cannot import {module_name}: {error}") from None
        build: Callable[..., Any] | None = getattr(module, attribute, None)
        if not callable(build):
            raise UnknownMiddleware(f"{module_name} has no function called {attribute}")
        return Kind(kind, build, getattr(module, "CONFIG", None))
    for point in entry_points(group=ENTRY_POINTS, name=kind):
        try:
            build = point.load()
        except (ImportError, AttributeError) as error:
            raise UnknownMiddleware(f"cannot load {kind} from {point.value}: {error}") from None
        return Kind(kind, build, getattr(import_module(point.module), "CONFIG", None))
    raise UnknownMiddleware(f"no middleware is called {kind!r}")


def secrets(configured: Iterable[tuple[str, Any]]) -> frozenset[str]:
    """The names that credentials come in, of all that is configured: what one asks for may be sent
    to another."""
    found: set[str] = set()
    for name, settings in configured:
        of = getattr(find(name).module, "secrets", None)
        if of is not None:
            found |= of(settings)
    return frozenset(found)


def read_ahead(name: str, settings: Any, directory: Path, home: Path) -> None:
    """Read the large files of a configured middleware, in a thread, before it is built.

    directory: of the pipeline's file. home: of gateway.toml.
    """
    ahead = getattr(find(name).module, "read_ahead", None)
    if ahead is not None:
        ahead(settings, directory, home)


def upstream(name: str, settings: Any) -> Any:
    """The UpstreamConfig of the pool that a configured middleware asks itself; None for most."""
    of = getattr(find(name).module, "upstream", None)
    return None if of is None else of(settings)


def names() -> list[str]:
    """Every name a list may use: the catalogue's and the installed entry points'."""
    return sorted({*CATALOGUE, *(point.name for point in entry_points(group=ENTRY_POINTS))})
