"""Where in the configuration's files a table or key stands, as "file:line"."""

from __future__ import annotations

from gateway.config.check.compile import LoadedConfig
from gateway.config.toml.positions import KeyPath
from gateway.config.toml.problems import shown_path


class Places:
    """Places in one configuration, each looked up once."""

    def __init__(self, loaded: LoadedConfig) -> None:
        self._loaded = loaded
        self._routes = {
            route.name: (pipeline.name, index)
            for pipeline in loaded.pipelines
            for index, route in enumerate(pipeline.routes)
        }
        self._known: dict[tuple[str, KeyPath, str], str] = {}

    def of(self, pipeline: str, path: KeyPath, route: str = "") -> str:
        """Return a place; the arguments are those of LoadedConfig.locate.

        Only with paths of the configuration's own, which are few: each is remembered.
        """
        key = pipeline, path, route
        known = self._known.get(key)
        if known is None:
            file, line, _ = self._loaded.locate(*key)
            known = self._known[key] = f"{shown_path(file)}:{line}"
        return known

    def of_route(self, name: str, *keys: str | int) -> str:
        """Return the place of a route or of one of its keys; "" if it is in no file."""
        pipeline, index = self._routes.get(name, ("", 0))
        return self.of(pipeline, ("route", index, *keys)) if pipeline else ""

    def of_upstream(self, name: str, *keys: str | int) -> str:
        """Return the place of an upstream or of one of its keys; "" if it is in no file."""
        if name in self._loaded.registered or name not in self._loaded.upstreams:
            return ""
        return self.of("", ("upstream", name, *keys))
