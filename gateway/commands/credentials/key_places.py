"""Where `gateway keys` keeps keys: a file, a store, or whichever of them a configuration names."""

from __future__ import annotations

import argparse
import os
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Literal, Protocol

from gateway.credentials.api_keys import key_edits, key_file, last_use
from gateway.credentials.api_keys.key_file import Key
from gateway.credentials.api_keys.new_keys import Wish
from gateway.credentials.files import CredentialError
from gateway.credentials.store_client import parsed

if TYPE_CHECKING:
    from gateway.config.check.compile import LoadedConfig
    from gateway.config.tables.pipeline import PipelineConfig
    from gateway.middlewares.auth import AuthConfig

SOON = "A gateway that is running with this file takes it within a second."


class KeyPlace(Protocol):
    """Keys somewhere; `str()` of it says where. Everything raises CredentialError."""

    soon: str
    """When running gateways take a change, as a sentence."""

    def create(
        self, wish: Wish, now: float, *, prefix: str = "bec_", existing: str | None = None
    ) -> tuple[Key, str]: ...

    def rotate(
        self,
        id: str,
        now: float,
        *,
        overlap: float,
        expires: float | Literal["same"] | None = "same",
        prefix: str = "bec_",
    ) -> tuple[Key, str, Key]: ...

    def revoke(self, id: str, now: float) -> tuple[Key, bool]: ...

    def load(self) -> tuple[Key, ...]: ...

    def used(self) -> dict[str, int]: ...


class FileKeys:
    """The keys of a file (key_edits.py)."""

    soon = SOON

    def __init__(self, path: Path) -> None:
        self._path = path

    def __str__(self) -> str:
        return str(self._path)

    def create(
        self, wish: Wish, now: float, *, prefix: str = "bec_", existing: str | None = None
    ) -> tuple[Key, str]:
        return key_edits.create(self._path, wish, now, prefix=prefix, existing=existing)

    def rotate(
        self,
        id: str,
        now: float,
        *,
        overlap: float,
        expires: float | Literal["same"] | None = "same",
        prefix: str = "bec_",
    ) -> tuple[Key, str, Key]:
        return key_edits.rotate(
            self._path, id, now, overlap=overlap, expires=expires, prefix=prefix
        )

    def revoke(self, id: str, now: float) -> tuple[Key, bool]:
        return key_edits.revoke(self._path, id, now)

    def load(self) -> tuple[Key, ...]:
        return key_file.load(self._path)

    def used(self) -> dict[str, int]:
        return last_use.read(last_use.beside(self._path))


def add_options(parser: argparse.ArgumentParser, default: str, what: str) -> None:
    """`--file`, `--store` and `--config`, of which one says where `what` is."""
    group = parser.add_mutually_exclusive_group()
    group.add_argument(
        "--file", type=Path, default=Path(default), help=f"the {what} (default: {default})"
    )
    group.add_argument(
        "--store", metavar="URL", help="a Redis instead of the file, e.g. redis://127.0.0.1:6379/0"
    )
    group.add_argument(
        "--config",
        type=Path,
        metavar="FILE",
        help="where this gateway.toml says, be it a file or a Redis",
    )


def place_of(args: argparse.Namespace) -> KeyPlace:
    """The place that the command line names. Raises CredentialError."""
    if args.config is not None:
        return _configured(args.config)
    return _store(args.store) if args.store is not None else FileKeys(args.file)


def _store(url: str) -> KeyPlace:
    from gateway.credentials.api_keys.redis_keys import RedisKeys

    return RedisKeys(parsed(url))


def configured(path: Path) -> Iterator[tuple[AuthConfig, Path, str]]:
    """Yield every `auth` of a configuration, the folder of its paths, and `[store] url`.

    Raises CredentialError.
    """
    from gateway.middlewares.auth import AuthConfig

    loaded = _loaded(path)
    for pipeline in loaded.pipelines:
        for config in _settings(pipeline):
            if isinstance(config, AuthConfig):
                yield config, pipeline.file.parent, loaded.gateway.store.url


def takes_limits(path: Path) -> bool:
    """Return True if a `rate_limit` of a configuration takes the limits of keys.

    Raises CredentialError.
    """
    from gateway.middlewares.rate_limit.config import RateLimitConfig

    configs = [config for pipeline in _loaded(path).pipelines for config in _settings(pipeline)]
    return any(
        rule.key_limits
        for config in configs
        if isinstance(config, RateLimitConfig)
        for rule in (config, *config.rules)
    )


def _loaded(path: Path) -> LoadedConfig:
    from gateway.config.toml.problems import ConfigErrors
    from gateway.runtime.reload import load

    try:
        return load(path, os.environ)
    except ConfigErrors as errors:
        raise CredentialError(
            f"what the configuration says cannot be told: {errors.problems[0]}"
        ) from None


def _settings(pipeline: PipelineConfig) -> Iterator[object]:
    """The config of every middleware, of the pipeline and of its routes."""
    for settings in (pipeline.settings, *(route.settings for route in pipeline.routes)):
        yield from settings.values()


def _configured(path: Path) -> KeyPlace:
    found: dict[str, KeyPlace] = {}
    for auth, directory, shared in configured(path):
        if "api_key" in auth.methods:
            url = shared if auth.api_key.store == "redis" else auth.api_key.store
            place = _store(url) if url else FileKeys(auth.api_key.path(directory, path.parent))
            found[str(place)] = place
    if len(found) != 1:
        where = (
            f"keeps keys in {' and '.join(sorted(found))}; say which"
            if found
            else "has no API keys"
        )
        raise CredentialError(f"{path} {where}")
    return found.popitem()[1]
