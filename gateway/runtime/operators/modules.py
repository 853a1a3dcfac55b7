"""Python modules of operators' middlewares: which have changed on disk, and loading them anew.

A module is imported once. A reload of a gateway of one process forgets packages that have changed,
so that they are imported anew; what the snapshot in force uses of the old ones goes on. Several
workers would not all do that, so there a reload says that a restart is needed.
"""

from __future__ import annotations

import importlib
import sys
from collections.abc import Iterable
from contextlib import suppress
from dataclasses import dataclass
from importlib.util import cache_from_source
from pathlib import Path
from types import ModuleType

from gateway.lifetime.watch import Stamp, stamp

_first: dict[str, Stamp] = {}
"""The stamp of each file when it was first looked at, which is soon after its import."""


def outdated(module: str) -> list[str]:
    """Return the files of a module, and of the package that it is in, that have changed since."""
    package = module.partition(".")[0]
    return sorted(
        file
        for file in map(_file, _modules(package).values())
        if file and stamp(Path(file)) != _first.setdefault(file, stamp(Path(file)))
    )


@dataclass(frozen=True, slots=True)
class Forgotten:
    """Modules that will be imported anew, by name, and the stamps of their files."""

    modules: dict[str, ModuleType]
    stamps: dict[str, Stamp]

    @property
    def packages(self) -> list[str]:
        """Return the names of their packages."""
        return sorted({name.partition(".")[0] for name in self.modules})


def forget(names: Iterable[str]) -> Forgotten:
    """Forget the packages of these modules of which a file has changed, but for those with compiled
    code."""
    forgotten = Forgotten({}, {})
    packages = {name.partition(".")[0] for name in names} - {"gateway", "__main__"}
    for package in sorted(packages):
        changed, found = outdated(package), _modules(package)
        if not changed or any(_file(one)[-3:] not in ("", ".py") for one in found.values()):
            continue
        for file in changed:
            # It is told from its source by seconds and size alone.
            with suppress(OSError, NotImplementedError):
                Path(cache_from_source(file)).unlink()
        for name, one in found.items():
            forgotten.modules[name] = sys.modules.pop(name)
            if (file := _file(one)) in _first:
                forgotten.stamps[file] = _first.pop(file)
    importlib.invalidate_caches()
    return forgotten


def restore(forgotten: Forgotten) -> None:
    """Put old code back: what was imported in its place is not in force."""
    for package in forgotten.packages:
        for name in _modules(package):
            del sys.modules[name]
    sys.modules.update(forgotten.modules)
    _first.update(forgotten.stamps)


def _modules(package: str) -> dict[str, ModuleType]:
    return {
        name: loaded
        for name, loaded in tuple(sys.modules.items())
        if name == package or name.startswith(f"{package}.")
    }


def _file(module: ModuleType) -> str:
    """Return a module's file, "" for one that has none, such as a namespace."""
    return getattr(module, "__file__", None) or ""
