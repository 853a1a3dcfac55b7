"""`gateway check`: compile a configuration as a reload would, and throw the result away."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

from gateway.config.check.compile import LoadedConfig
from gateway.config.toml.problems import ConfigErrors
from gateway.lifetime.registry import Registry
from gateway.runtime.compose import compose
from gateway.runtime.reload import load, surveying
from gateway.runtime.services import Services
from gateway.runtime.slices import at_once
from gateway.upstream.connections.transport import Transport


def check(path: Path, environ: Mapping[str, str]) -> LoadedConfig:
    """Return the configuration with its warnings. Raises ConfigErrors with all a reload would
    refuse it for."""
    draft, services = Registry().draft(), Services(Transport())
    try:
        loaded = load(path, environ)
    except ConfigErrors as errors:
        raise at_once(surveying(errors, draft, services)) from None
    try:
        return compose(loaded, draft, services).loaded
    finally:
        draft.release()
