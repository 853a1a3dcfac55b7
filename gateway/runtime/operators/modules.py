"""Python modules of an operator's middleware that have changed on disk.

A module is imported once; what has changed since is only loaded by a restart, so a reload says so.
"""

from __future__ import annotations

import sys
from pathlib import Path

from gateway.lifetime.watch import Stamp, stamp

_first: dict[str, Stamp] = {}
"""The stamp of each file when it was first looked at, which is soon after its import."""


def outdated(module: str) -> list[str]:
    """Return the files of a module, and of the package that it is in, that have changed since."""
    package = module.partition(".")[0]
    files = {
        file
        for name, loaded in tuple(sys.modules.items())
        if name == package or name.startswith(f"{package}.")
        if (file := getattr(loaded, "__file__", None)) is not None
    }
    return sorted(
        file for file in files if stamp(Path(file)) != _first.setdefault(file, stamp(Path(file)))
    )
