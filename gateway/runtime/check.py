"""`gateway check`: compile a configuration as a reload would, and throw the result away."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

from gateway.config.check.compile import LoadedConfig
from gateway.lifetime.registry import Registry
from gateway.runtime.compose import compose
from gateway.runtime.reload import load
from gateway.runtime.services import Services
from gateway.upstream.connections.transport import Transport


def check(path: Path, environ: Mapping[str, str]) -> LoadedConfig:
    """Return the configuration with its warnings. Raises ConfigErrors with all a reload would
    refuse it for."""
    loaded = load(path, environ)
    draft = Registry().draft()
    try:
        return compose(loaded, draft, Services(Transport())).loaded
    finally:
        draft.release()
