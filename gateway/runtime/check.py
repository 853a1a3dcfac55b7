"""`gateway check`: everything a reload would do, in a process of its own, thrown away afterwards."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

from gateway.config.check.compile import LoadedConfig
from gateway.lifetime.registry import Registry
from gateway.runtime.compose import World, compose
from gateway.runtime.reload import load
from gateway.upstream.connections.transport import Transport


def check(path: Path, environ: Mapping[str, str]) -> LoadedConfig:
    """The configuration that a reload would take. Raises ConfigErrors with everything a reload would refuse it for."""
    loaded = load(path, environ)
    draft = Registry().draft()
    try:
        return compose(loaded, draft, World(Transport())).loaded
    finally:
        draft.release()
